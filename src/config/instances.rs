//! The tables of the instances: the daemon's keys are read here, the others by the connector.

use pontoon_sdk::url::Url;
use serde_json::{Map, Value};

use super::decode::{Prepared, decode, prune};
use super::problem::{Path, join, path};
use super::report::Report;
use super::schema::{Node, Schema};
use super::shape::{Shape, remove};
use super::{secrets, suggest};
use crate::instance::Run;
use crate::registry::{ConnectorType, Registry};
use crate::settings::{Config, Instance};

/// Checks every instance, puts all of them into the configuration, and returns those that are to run.
pub(super) fn build(
    tree: &Map<String, Value>,
    schema: &Schema,
    registry: &Registry,
    config: &mut Config,
    report: &mut Report<'_>,
) -> Vec<Prepared> {
    let empty = Value::Object(Map::new());
    let Value::Object(tables) = tree.get("connectors").unwrap_or(&empty) else {
        report.problem(&path(["connectors"]), "is not a table; write [connectors.<name>] for each instance");
        return Vec::new();
    };
    if tables.is_empty() {
        report.warn(&path(["connectors"]), "no instance is configured; write a table [connectors.<name>]");
    }
    let mut prepared = Vec::new();
    for (name, table) in tables {
        let path = path(["connectors", name]);
        check_name(name, &path, report);
        let Some(kind) = kind(name, table, tables, registry, &path, report) else {
            continue;
        };
        if let Some((instance, run)) = instance(table, kind, schema, &path, report) {
            prepared.extend(run.map(|run| Prepared { name: name.clone(), run }));
            config.connectors.insert(name.clone(), instance);
        }
    }
    prepared
}

/// Whether an instance may have this name.
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=40).contains(&name.len()) && name.chars().all(allowed)
}

fn check_name(name: &str, path: &[String], report: &mut Report<'_>) {
    if !is_name(name) {
        report.problem(path, "is not a name for an instance; write 1 to 40 of a-z, 0-9 and _");
    }
}

fn kind<'r>(
    name: &str,
    table: &Value,
    tables: &Map<String, Value>,
    registry: &'r Registry,
    path: &[String],
    report: &mut Report<'_>,
) -> Option<&'r dyn ConnectorType> {
    let known: Vec<&str> = registry.iter().map(ConnectorType::name).collect();
    let at = join(path, "type");
    let Value::Object(table) = table else {
        report.problem(path, format!("is not a table; write [connectors.{name}] and a type below it"));
        return None;
    };
    match table.get("type") {
        Some(Value::String(kind)) => {
            let found = registry.get(kind);
            if found.is_none() {
                let near = suggest::nearest(kind, &known).map(|near| format!("did you mean \"{near}\"? "));
                let hint = format!("{}known are: {}", near.unwrap_or_default(), known.join(", "));
                report.problem(
                    &at,
                    format!("\"{}\" is not a connector of this binary; {hint}", kind.escape_debug()),
                );
            }
            return found;
        }
        Some(_) => report.problem(&at, format!("is not a text; write one of: {}", known.join(", "))),
        None => {
            let others: Vec<&str> =
                tables.keys().map(String::as_str).filter(|other| *other != name).collect();
            let near = suggest::nearest(name, &others)
                .map(|near| format!(", or did you mean the instance \"{near}\"?"));
            let near = near.unwrap_or_default();
            report.problem(&at, format!("is missing; write one of: {}{near}", known.join(", ")));
        }
    }
    None
}

/// One instance, and its connector if it is enabled and its settings have no errors.
fn instance(
    table: &Value,
    kind: &dyn ConnectorType,
    schema: &Schema,
    path: &[String],
    report: &mut Report<'_>,
) -> Option<(Instance, Option<Box<dyn Run>>)> {
    let node = schema.instance(kind.name())?;
    let mut table = table.clone();
    let mut shape = Shape::default();
    shape.check(node, &table, path);
    let enabled = table.get("enabled") != Some(&Value::Bool(false));
    secrets::check(&shape.secrets, enabled, report);
    warn_of_plain_addresses(&table, path, &shape.secrets, report);
    for (path, step) in std::mem::take(&mut shape.odd_pointers) {
        report.warn(
            &path,
            format!(
                "looks only for a key that is \"{}\": a JSON pointer has no wildcards and no brackets; write the place of an \
                 element as a number, such as /items/0, or set each where all elements are meant",
                step.escape_debug()
            ),
        );
    }
    let required = node.keyword("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_required = |key: &String| required.iter().any(|name| name == key);
    let lacking = shape.faults.iter().any(|fault| fault.path.get(path.len()).is_some_and(is_required));
    prune(shape, &mut table, path, report);

    let mut settings = table.as_object()?.clone();
    place_files(node, &mut settings, path, report);
    settings.remove("type");
    settings.remove("enabled");
    let isolation = decode(settings.remove("isolation"), &join(path, "isolation"), report);
    let transport = decode(settings.remove("transport"), &join(path, "transport"), report);
    let cluster = decode(settings.remove("cluster"), &join(path, "cluster"), report);
    if !enabled {
        report.warn(path, "is not enabled and will not run");
    }
    let run =
        if lacking { None } else { build_connector(kind, settings.clone(), &is_required, path, report) };
    let revision = run.as_ref().map_or(0, |run| run.revision());
    let instance =
        Instance { kind: kind.name().to_owned(), enabled, isolation, transport, cluster, revision, settings };
    Some((instance, run.filter(|_| enabled)))
}

/// Has a relative path in the settings begin at the folder of the file that has it.
fn place_files(node: Node<'_>, settings: &mut Map<String, Value>, at: &[String], report: &Report<'_>) {
    for (name, value) in settings {
        let is_path =
            node.child(name).is_some_and(|(_, child)| child.keyword("format") == Some(&"path".into()));
        if let (true, Some(path)) = (is_path, value.as_str())
            && let Some(folder) = report.folder(&join(at, name))
        {
            *value = folder.join(path).to_string_lossy().into();
        }
    }
}

/// Builds the connector. A setting that it refuses is reported and removed, until all errors are reported.
fn build_connector(
    kind: &dyn ConnectorType,
    settings: Map<String, Value>,
    is_required: &dyn Fn(&String) -> bool,
    path: &[String],
    report: &mut Report<'_>,
) -> Option<Box<dyn Run>> {
    let mut settings = Value::Object(settings);
    loop {
        let error = match kind.build(settings.as_object()?) {
            Ok(run) => return Some(run),
            Err(error) => error,
        };
        let keys: Path = error.path;
        let at: Path = path.iter().chain(&keys).cloned().collect();
        // A key that is missing because its wrong value was removed has been reported.
        if !(error.message.starts_with("missing field") && report.has_within(&at)) {
            report.problem(&at, error.message);
        }
        if keys.first().is_none_or(is_required) || !remove(&mut settings, &keys) {
            return None;
        }
    }
}

fn warn_of_plain_addresses(
    value: &Value,
    path: &[String],
    secrets: &[(Path, Value)],
    report: &mut Report<'_>,
) {
    match value {
        Value::String(text)
            if !secrets.iter().any(|(secret, _)| secret == path)
                && Url::parse(text, &[("ws", 80), ("http", 80)]).is_ok_and(|url| !url.is_loopback()) =>
        {
            report.warn(
                path,
                "goes over the network without encryption; write wss:// or https:// if the service has it",
            );
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                warn_of_plain_addresses(item, &join(path, &index.to_string()), secrets, report);
            }
        }
        Value::Object(table) => {
            for (key, value) in table {
                warn_of_plain_addresses(value, &join(path, key), secrets, report);
            }
        }
        _ => {}
    }
}
