//! Settings in environment variables and flags: `PONTOON_NATS__URL` is `nats.url`.
//!
//! The schema decides whether a text is a string, a number, a boolean or a list. The text itself does not, or a password
//! of digits would become a number and lose its leading zeros.

use figment::providers::{Format as _, Toml};
use serde_json::{Map, Value};

use super::problem::{Notes, Path, Problem, dotted};
use super::schema::{Form, Schema};
use super::sources::Sources;

const PREFIX: &str = "PONTOON_";

/// One value for one key.
pub(super) struct Setting {
    pub(super) source: String,
    pub(super) path: Path,
    pub(super) value: Value,
}

/// The settings of the environment, then those of the flags.
pub(super) fn settings(
    sources: &Sources,
    file: &Map<String, Value>,
    schema: &Schema,
    notes: &mut Notes,
) -> Vec<Setting> {
    let tables = schema.tables();
    let mut texts = Vec::new();
    for (name, text) in &sources.env {
        let source = format!("environment variable {name}");
        match path_of(name, &tables, schema) {
            NameKind::Setting(path) => texts.push((source, path, text.clone())),
            NameKind::Unrelated => {}
            NameKind::Typo(meant) => notes.warnings.push(format!(
                "{source} is not a setting and is ignored; did you mean {meant}, with two underscores?"
            )),
        }
    }
    for (flag, path, text) in &sources.flags {
        texts.push((
            format!("flag {flag}"),
            path.split('.').map(str::to_owned).collect(),
            Some(text.clone()),
        ));
    }
    let kinds = kinds(file, &texts);
    let mut settings = Vec::new();
    for (source, path, text) in texts {
        let problem = |what: String| Problem { source: source.clone(), key: dotted(&path), what };
        let Some(text) = text else {
            notes.problems.push(problem("is not UTF-8 text".to_owned()));
            continue;
        };
        let (path, form) = schema.form(&path, |name| kinds.get(name).and_then(Value::as_str));
        match typed(&text, form) {
            Ok(value) => settings.push(Setting { source, path, value }),
            Err(what) => notes.problems.push(problem(what)),
        }
    }
    settings
}

/// What a variable's name stands for.
enum NameKind {
    Setting(Path),
    Unrelated,
    /// Probably a setting with one underscore instead of two: the name that was meant.
    Typo(String),
}

fn path_of(name: &str, tables: &[&str], schema: &Schema) -> NameKind {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return NameKind::Unrelated;
    };
    let rest = rest.to_ascii_lowercase();
    let path: Path = rest.split("__").map(str::to_owned).collect();
    if path.len() > 1 || tables.contains(&rest.as_str()) {
        return NameKind::Setting(path);
    }
    let typo = tables.iter().find_map(|table| {
        let key = rest.strip_prefix(table)?.strip_prefix('_')?;
        schema.knows(table, key).then(|| format!("{PREFIX}{}__{}", table.to_uppercase(), key.to_uppercase()))
    });
    typo.map_or(NameKind::Unrelated, NameKind::Typo)
}

/// The type of each instance: from the file, or from a variable or flag that overrides it.
fn kinds(file: &Map<String, Value>, texts: &[(String, Path, Option<String>)]) -> Map<String, Value> {
    let mut kinds = Map::new();
    if let Some(Value::Object(instances)) = file.get("connectors") {
        let typed = |(name, table): (&String, &Value)| Some((name.clone(), table.get("type")?.clone()));
        kinds.extend(instances.iter().filter_map(typed));
    }
    for (_, path, text) in texts {
        if let ([first, name, last], Some(text)) = (path.as_slice(), text)
            && first == "connectors"
            && last == "type"
        {
            kinds.insert(name.clone(), Value::from(text.as_str()));
        }
    }
    kinds
}

/// The value that a text stands for. Messages do not repeat the text: it may be a secret.
fn typed(text: &str, form: Form<'_>) -> Result<Value, String> {
    let number = |value: Option<serde_json::Number>, what: &str| {
        value.map(Value::Number).ok_or_else(|| format!("is not {what}; write it in digits"))
    };
    let trimmed = text.trim();
    match form {
        Form::Text | Form::Unknown => Ok(Value::from(text)),
        Form::TextOrList(_) if !trimmed.starts_with('[') => Ok(Value::from(text)),
        Form::Switch => match trimmed {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("is neither true nor false; write one of them".to_owned()),
        },
        Form::Integer => number(
            trimmed.parse().map(i64::into).or_else(|_| trimmed.parse().map(u64::into)).ok(),
            "a whole number",
        ),
        Form::Number => number(trimmed.parse().ok().and_then(serde_json::Number::from_f64), "a number"),
        Form::List(_) | Form::TextOrList(_) if trimmed.starts_with('[') => {
            inline(trimmed, "a list such as [\"a\", \"b\"]")
        }
        Form::List(item) | Form::TextOrList(item) => {
            let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|text| typed(text, item.form())).collect::<Result<_, _>>()?))
        }
        Form::Table if trimmed.starts_with('{') => inline(trimmed, "a table such as { a = 1 }"),
        Form::Table => Err("is a table; set its keys one by one, each after two more underscores".to_owned()),
    }
}

/// Parses a list or a table in the syntax of the file.
fn inline(text: &str, what: &str) -> Result<Value, String> {
    figment::Figment::from(Toml::string(&format!("value = {text}")))
        .extract_inner("value")
        .map_err(|_| format!("is not {what}"))
}
