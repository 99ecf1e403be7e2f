//! Checks secrets: they can be resolved, are not world-readable, and are masked in messages.

use pontoon_sdk::Secret;
use serde::Deserialize as _;
use serde_json::Value;

use super::problem::Path;
use super::report::Report;

/// Checks the secrets that were found. `resolve` is off for a disabled instance, whose secrets need not exist here.
pub(super) fn check(secrets: &[(Path, Value)], resolve: bool, report: &mut Report<'_>) {
    for (path, value) in secrets {
        let Ok(secret) = Secret::deserialize(value) else {
            mask(value, report);
            continue;
        };
        // The URL of a proxy is secret only if it has a user.
        let is_proxy =
            matches!(path.as_slice(), [_, _, table, key] if table == "transport" && key == "proxy");
        let is_open = is_proxy && value.as_str().is_some_and(|text| !text.contains('@'));
        if secret.is_plain() && !is_open {
            mask(value, report);
            if !report.is_from_env(path) {
                let write = "write { env = \"NAME\" } or { file = \"/path\" } instead";
                report.warn(path, format!("is a secret in plain text; {write}"));
            }
        }
        if resolve && let Err(error) = secret.reveal() {
            report.problem(path, error.message());
        }
        if let Some(file) = value.get("file").and_then(Value::as_str) {
            private(path, file.as_ref(), report);
        }
    }
}

/// Warns of a file with a secret that is world-readable.
pub(super) fn private(path: &[String], file: &std::path::Path, report: &mut Report<'_>) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(file).map(|metadata| metadata.permissions().mode() & 0o777);
    if let Ok(mode) = mode
        && mode & 0o004 != 0
    {
        let file = file.display();
        report.warn(
            path,
            format!("the file {file} holds a secret and is world-readable (mode {mode:04o}); chmod 0600 it"),
        );
    }
}

fn mask(value: &Value, report: &mut Report<'_>) {
    match value {
        Value::String(text) => report.mask(text),
        Value::Number(number) => report.mask(&number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| mask(item, report)),
        Value::Object(table) => table.values().for_each(|value| mask(value, report)),
        Value::Null | Value::Bool(_) => {}
    }
}
