//! Validates values against the schema: finds every key that is unknown, missing or of the wrong type.
//!
//! Serde stops at the first error and quotes the value. No message here repeats a value.

use serde_json::{Map, Number, Value};

use super::problem::{Path, join};
use super::schema::{Node, allowed_values, expected, quoted};
use super::suggest;

/// The result of a validation.
#[derive(Default)]
pub(super) struct Shape {
    /// The faults.
    pub(super) faults: Vec<Fault>,
    /// The values that are secrets.
    pub(super) secrets: Vec<(Path, Value)>,
    /// The JSON pointers (RFC 6901) with a step that looks like one of another language, and the step.
    pub(super) odd_pointers: Vec<(Path, String)>,
}

/// One fault.
pub(super) struct Fault {
    pub(super) path: Path,
    pub(super) what: String,
    /// Whether the key is missing, so that there is no value to remove.
    pub(super) missing: bool,
}

impl Shape {
    /// Checks a value and everything below it.
    pub(super) fn check(&mut self, node: Node<'_>, value: &Value, path: &[String]) {
        if node.is_secret() {
            self.secret(value, path);
            return;
        }
        let types = node.types();
        if !types.is_empty() && !types.iter().any(|name| fits(name, value)) {
            self.fault(path, format!("is {}; write {}", kind(value), expected(node)));
            return;
        }
        let branches = node.branches();
        if !branches.is_empty() {
            self.choose(&branches, value, path);
        }
        if let Some(known) = allowed_values(node) {
            self.word(&known, value, path);
        }
        match value {
            Value::Object(table) => self.table(node, table, path),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(json) = node.keyword("items") {
                        self.check(node.at(json), item, &join(path, &index.to_string()));
                    }
                }
            }
            Value::Number(number) => self.range(node, number, path),
            Value::String(text) if node.keyword("format") == Some(&"json-pointer".into()) => {
                let is_odd = |step: &&str| step.contains(['*', '[', ']']);
                let odd = text.split('/').find(is_odd).map(|step| (path.to_vec(), step.to_owned()));
                self.odd_pointers.extend(odd);
            }
            _ => {}
        }
    }

    fn secret(&mut self, value: &Value, path: &[String]) {
        self.secrets.push((path.to_vec(), value.clone()));
        let named = |table: &Map<String, Value>| {
            table.len() == 1
                && ["env", "file"].iter().any(|key| table.get(*key).is_some_and(Value::is_string))
        };
        let good = value.is_string() || value.as_object().is_some_and(named);
        if !good {
            let write = "write { env = \"NAME\" }, or { file = \"/path\" }, or the text itself in quotes";
            self.fault(path, format!("is not a secret; {write}"));
        }
    }

    /// Checks against the alternative that fits best.
    fn choose(&mut self, branches: &[Node<'_>], value: &Value, path: &[String]) {
        if branches.iter().all(|branch| allowed_values(*branch).is_some()) {
            let known: Vec<&str> =
                branches.iter().filter_map(|branch| allowed_values(*branch)).flatten().collect();
            self.word(&known, value, path);
            return;
        }
        let fitting = branches.iter().filter(|branch| {
            let types = branch.types();
            types.is_empty() || types.iter().any(|name| fits(name, value))
        });
        let tried = fitting.map(|branch| {
            let mut shape = Self::default();
            shape.check(*branch, value, path);
            shape
        });
        if let Some(best) = tried.min_by_key(|shape| shape.faults.len()) {
            self.faults.extend(best.faults);
            self.secrets.extend(best.secrets);
            self.odd_pointers.extend(best.odd_pointers);
        }
    }

    fn word(&mut self, known: &[&str], value: &Value, path: &[String]) {
        if let Some(word) = value.as_str()
            && !known.contains(&word)
        {
            let hint = match suggest::nearest(word, known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write one of {}", quoted(known)),
            };
            self.fault(path, format!("is not a value it can have; {hint}"));
        }
    }

    fn table(&mut self, node: Node<'_>, table: &Map<String, Value>, path: &[String]) {
        let known = node.keyword("properties").and_then(Value::as_object);
        let rest = node.keyword("additionalProperties");
        for (key, value) in table {
            let path = join(path, key);
            match (known.and_then(|known| known.get(key)), rest) {
                (Some(json), _) => self.check(node.at(json), value, &path),
                (None, Some(Value::Bool(false))) => {
                    let hint = suggest::hint(key, node.keys());
                    self.fault(&path, format!("is not a known key; {hint}"));
                }
                (None, Some(json @ Value::Object(_))) => self.check(node.at(json), value, &path),
                (None, _) => {}
            }
        }
        for key in
            node.keyword("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            if !table.contains_key(key) {
                let child = node.child(key).map(|(_, child)| expected(child));
                let what = format!("is missing; set it to {}", child.unwrap_or_else(|| "a value".to_owned()));
                self.faults.push(Fault { path: join(path, key), what, missing: true });
            }
        }
    }

    fn range(&mut self, node: Node<'_>, number: &Number, path: &[String]) {
        let bound = |keyword| node.keyword(keyword).and_then(Value::as_f64);
        let (low, high) = (bound("minimum"), bound("maximum"));
        let Some(number) = number.as_f64() else { return };
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            let range = match (low, high) {
                (Some(low), Some(high)) => format!("from {low} to {high}"),
                (Some(low), None) => format!("from {low} on"),
                (None, high) => format!("up to {}", high.unwrap_or_default()),
            };
            self.fault(path, format!("is out of range; write a number {range}"));
        }
    }

    fn fault(&mut self, path: &[String], what: String) {
        self.faults.push(Fault { path: path.to_vec(), what, missing: false });
    }
}

/// Removes a value. Returns whether it was there.
pub(super) fn remove(tree: &mut Value, path: &[String]) -> bool {
    match (path, tree) {
        ([last], Value::Object(table)) => table.remove(last).is_some(),
        ([first, rest @ ..], Value::Object(table)) if !rest.is_empty() => match table.get_mut(first) {
            // A list with a wrong item is removed as a whole.
            Some(Value::Array(_)) => table.remove(first).is_some(),
            Some(inner) => remove(inner, rest),
            None => false,
        },
        _ => false,
    }
}

fn fits(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "not a number",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        // The TOML parser's own name for what JSON does not have.
        Value::Object(table) if table.contains_key("$__toml_private_datetime") => "a date",
        Value::Object(_) => "a table",
    }
}
