//! One JSON Schema (draft 2020-12) of the whole configuration, connectors included: for editors, to parse environment
//! variables, and to report every wrong key at once.

use std::sync::LazyLock;

use pontoon_sdk::Secret;
use schemars::schema_for;
use serde_json::{Map, Value, json};

use super::problem::Path;
use crate::registry::{ConnectorType, Registry};
use crate::settings::Config;

/// The schema of the configuration of this binary.
pub struct Schema {
    root: Value,
}

/// How the text of an environment variable is parsed.
pub(super) enum Form<'a> {
    /// The text itself.
    Text,
    /// The text itself, or a list of these.
    TextOrList(Node<'a>),
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A list of these.
    List(Node<'a>),
    /// A table.
    Table,
    /// The schema has no such key.
    Unknown,
}

/// One part of the schema.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    schema: &'a Schema,
    /// The part itself, references resolved.
    pub(super) json: &'a Value,
}

impl Schema {
    /// Merges the schema of the daemon and those of the connectors.
    pub fn new(registry: &Registry) -> Self {
        let mut root = schema_for!(Config).to_value();
        root["title"] = json!("Configuration of Pontoon");
        let own = root.pointer("/$defs/Instance/properties").cloned().unwrap_or_default();
        let mut choices = Vec::new();
        for connector in registry.iter() {
            let name = connector.name();
            choices.push(json!({ "$ref": format!("#/$defs/{name}") }));
            for (key, definition) in definitions(connector, &own) {
                root["$defs"][key] = definition;
            }
        }
        if let Some(definitions) = root.get_mut("$defs").and_then(Value::as_object_mut) {
            definitions.remove("Instance");
        }
        let any = if choices.is_empty() { json!({ "type": "object" }) } else { json!({ "oneOf": choices }) };
        root["properties"]["connectors"] = json!({
            "description": "One table for each use of a service; the table's name is the instance.",
            "type": "object",
            "propertyNames": { "pattern": "^[a-z0-9_]{1,40}$" },
            "additionalProperties": any,
        });
        Self { root }
    }

    /// The schema as JSON.
    pub fn json(&self) -> &Value {
        &self.root
    }

    /// The settings of a connector: key, type, and description.
    pub fn settings(&self, kind: &str) -> Vec<(String, String, String)> {
        let Some(table) = self.instance(kind) else {
            return Vec::new();
        };
        let required = table.keyword("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let described = table.keys().into_iter().filter_map(|key| {
            let json = table.keyword("properties")?.get(key)?;
            let needed = if required.iter().any(|name| name == key) { "; required" } else { "" };
            let description = json.get("description").and_then(Value::as_str).unwrap_or_default();
            let default = json.get("default").filter(|default| !default.is_null() && !default.is_object());
            let default = default.map(|default| format!("; default {default}")).unwrap_or_default();
            let write = format!("{}{needed}{default}", expected(self.node(json)));
            Some((key.to_owned(), write, description.replace('\n', " ")))
        });
        described.collect()
    }

    /// The root.
    pub(super) fn root(&self) -> Node<'_> {
        self.node(&self.root)
    }

    /// The table of an instance of this type.
    pub(super) fn instance(&self, kind: &str) -> Option<Node<'_>> {
        let kind = self.root.get("$defs")?.get(kind)?;
        // The names of connectors are lower case, those of the daemon's types are not.
        kind.pointer("/properties/type/const").map(|_| self.node(kind))
    }

    /// The tables at top level.
    pub(super) fn tables(&self) -> Vec<&str> {
        self.root().keys()
    }

    /// Whether a table at top level has this key.
    pub(super) fn knows(&self, table: &str, key: &str) -> bool {
        self.root().child(table).and_then(|(_, node)| node.child(key)).is_some()
    }

    /// The path as the schema spells it, and the form of the value there. Names of variables are compared without case.
    pub(super) fn form<'a>(
        &'a self,
        path: &[String],
        kind: impl Fn(&str) -> Option<&'a str>,
    ) -> (Path, Form<'a>) {
        let mut spelled = Path::new();
        let mut node = Some(self.root());
        for (depth, key) in path.iter().enumerate() {
            let instance = depth == 1 && path.first().is_some_and(|first| first == "connectors");
            let child = match node {
                Some(_) if instance => Some((key.as_str(), kind(key).and_then(|kind| self.instance(kind)))),
                Some(parent) => parent.child(key).map(|(key, node)| (key, Some(node))),
                None => None,
            };
            let (key, next) = child.unwrap_or((key, None));
            spelled.push(key.to_owned());
            node = next;
        }
        (spelled, node.map_or(Form::Unknown, Node::form))
    }

    fn node<'a>(&'a self, mut json: &'a Value) -> Node<'a> {
        while let Some(target) = json.get("$ref").and_then(Value::as_str) {
            match self.root.pointer(target.trim_start_matches('#')) {
                Some(found) => json = found,
                None => break,
            }
        }
        Node { schema: self, json }
    }
}

impl<'a> Node<'a> {
    /// Another part of the same schema.
    pub(super) fn at(self, json: &'a Value) -> Self {
        self.schema.node(json)
    }

    /// The value of a keyword.
    pub(super) fn keyword(self, keyword: &str) -> Option<&'a Value> {
        self.json.get(keyword)
    }

    /// The alternatives (`anyOf`, `oneOf`) except `null`.
    pub(super) fn branches(self) -> Vec<Self> {
        let of = |keyword| self.keyword(keyword).and_then(Value::as_array).into_iter().flatten();
        let null = |node: &Self| node.keyword("type").and_then(Value::as_str) == Some("null");
        of("anyOf").chain(of("oneOf")).map(|json| self.at(json)).filter(|node| !null(node)).collect()
    }

    /// Whether it is the SDK's type for secrets.
    pub(super) fn is_secret(self) -> bool {
        static SECRET: LazyLock<Value> = LazyLock::new(|| schema_for!(Secret).to_value());
        self.keyword("oneOf").is_some_and(|forms| SECRET.get("oneOf") == Some(forms))
            || matches!(self.branches().as_slice(), [only] if only.is_secret())
    }

    /// The keys of `properties`.
    pub(super) fn keys(self) -> Vec<&'a str> {
        let listed = self.keyword("properties").and_then(Value::as_object);
        listed.into_iter().flat_map(Map::keys).map(String::as_str).collect()
    }

    /// The key as the schema spells it, and its node.
    pub(super) fn child(self, key: &str) -> Option<(&'a str, Self)> {
        let listed = self.keyword("properties").and_then(Value::as_object);
        let exact = listed.and_then(|listed| listed.get_key_value(key));
        let alike = || listed?.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        if let Some((name, json)) = exact.or_else(alike) {
            return Some((name, self.at(json)));
        }
        self.branches().into_iter().find_map(|branch| branch.child(key))
    }

    /// The JSON types that a value may have.
    pub(super) fn types(self) -> Vec<&'a str> {
        let types: Vec<&str> = match self.keyword("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ if self.keyword("const").is_some_and(Value::is_string) || self.keyword("enum").is_some() => {
                vec!["string"]
            }
            _ => self.branches().into_iter().flat_map(Self::types).collect(),
        };
        types.into_iter().filter(|name| *name != "null").collect()
    }

    /// How the text of an environment variable is parsed for this node.
    pub(super) fn form(self) -> Form<'a> {
        let types = self.types();
        let item = || {
            let here = self.keyword("items").map(|json| self.at(json));
            here.or_else(|| {
                self.branches().into_iter().find_map(|branch| Some(branch.at(branch.keyword("items")?)))
            })
        };
        match (types.contains(&"string"), types.contains(&"array"), types.first()) {
            (true, true, _) => item().map_or(Form::Text, Form::TextOrList),
            (true, false, _) => Form::Text,
            (false, true, _) => item().map_or(Form::Unknown, Form::List),
            (_, _, Some(&"boolean")) => Form::Switch,
            (_, _, Some(&"integer")) => Form::Integer,
            (_, _, Some(&"number")) => Form::Number,
            (_, _, Some(&"object")) => Form::Table,
            _ => Form::Unknown,
        }
    }
}

/// The definitions of one connector: its instance's table under its own name, the rest prefixed with it.
fn definitions(connector: &dyn ConnectorType, own: &Value) -> Map<String, Value> {
    let name = connector.name();
    let mut settings = connector.schema().to_value();
    rename(&mut settings, name);
    let mut all = Map::new();
    if let Some(Value::Object(nested)) =
        settings.as_object_mut().and_then(|settings| settings.remove("$defs"))
    {
        all.extend(nested.into_iter().map(|(key, definition)| (format!("{name}.{key}"), definition)));
    }
    if let Some(object) = settings.as_object_mut() {
        object.remove("$schema");
        object.insert("title".to_owned(), json!(name));
        let properties = object.entry("properties").or_insert_with(|| json!({}));
        for (key, property) in own.as_object().into_iter().flatten() {
            properties[key] = property.clone();
        }
        properties["type"] = json!({ "description": "Which connector.", "const": name });
        let required = object.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            required.insert(0, json!("type"));
        }
    }
    all.insert(name.to_owned(), settings);
    all
}

/// Prefixes all references with the connector's name, so that two connectors may have types of the same name.
fn rename(json: &mut Value, name: &str) {
    match json {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(definition) = target.strip_prefix("#/$defs/") {
                            *target = format!("#/$defs/{name}.{definition}");
                        }
                    }
                    other => rename(other, name),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, name)),
        _ => {}
    }
}

/// The values that a string may have (`const` or `enum`).
pub(super) fn allowed_values(node: Node<'_>) -> Option<Vec<&str>> {
    if let Some(value) = node.keyword("const").and_then(Value::as_str) {
        return Some(vec![value]);
    }
    let values = node.keyword("enum")?.as_array()?;
    Some(values.iter().filter_map(Value::as_str).collect())
}

pub(super) fn quoted(values: &[&str]) -> String {
    values.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(", ")
}

/// The description of a string with a pattern, such as `a duration, such as "5s"`.
fn form(node: Node<'_>) -> Option<String> {
    node.keyword("pattern")?;
    let description = node.keyword("description")?.as_str()?;
    description.strip_prefix("A ").map(|rest| format!("a {rest}"))
}

/// What to write for this node, for messages.
pub(super) fn expected(node: Node<'_>) -> String {
    if node.is_secret() {
        return "{ env = \"NAME\" } or { file = \"/path\" }".to_owned();
    }
    let branches = node.branches();
    // A setting without a default has its form beside `null`.
    if let Some(form) = form(node).or_else(|| branches.iter().find_map(|branch| form(*branch))) {
        return form;
    }
    let known: Vec<&str> = branches.iter().filter_map(|branch| allowed_values(*branch)).flatten().collect();
    if let Some(known) = allowed_values(node).or((!known.is_empty()).then_some(known)) {
        return format!("one of {}", quoted(&known));
    }
    let mut names: Vec<&str> = Vec::new();
    for name in node.types() {
        let word = match name {
            "string" => "a text in quotes",
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "true or false",
            "array" => "a list",
            "object" => "a table",
            other => other,
        };
        if !names.contains(&word) {
            names.push(word);
        }
    }
    names.join(" or ")
}
