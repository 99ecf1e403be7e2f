//! Holds a connector's sample to its settings.

use figment::Figment;
use figment::providers::{Format, Toml};
use pontoon_sdk::Connector;
use schemars::schema_for;
use serde_json::{Map, Value};

/// Checks [`Connector::SAMPLE`]: it is a table `[connectors.<name>]` with the connector's `type`, the connector can be built
/// from it as it is and with the settings that it has in comments (`# key = value`, `# [connectors.<name>.key]`), and it
/// has every setting of the schema, each with a description.
///
/// Returns the settings of both, as it is and with those in comments, so that a test can compare them: what stands in a
/// comment is the default, where there is one.
///
/// # Errors
/// What is wrong, and what to write.
pub fn check_sample<C: Connector>() -> Result<(C::Config, C::Config), String> {
    let all = uncommented(C::SAMPLE);
    for (sample, text) in [("the sample", C::SAMPLE), ("the sample with its comments as settings", &all)] {
        let config = config::<C>(text).map_err(|error| format!("{sample}: {error}"))?;
        C::new(config).map_err(|error| format!("{sample} is refused: {error}"))?;
    }
    let schema = schema_for!(C::Config);
    let settings = schema.get("properties").and_then(Value::as_object);
    for (setting, described) in settings.into_iter().flatten() {
        let ways = ["\n{} = ", "\n{}.", ".{}]", ".{}."].map(|way| way.replace("{}", setting));
        if !ways.iter().any(|way| all.contains(way)) {
            return Err(format!("the sample lacks the setting {setting}; add a line `# {setting} = …`"));
        }
        if described.get("description").is_none() {
            return Err(format!("the setting {setting} has no description; give its field a doc comment"));
        }
    }
    Ok((config::<C>(C::SAMPLE)?, config::<C>(&all)?))
}

/// The settings of the one instance of a sample.
fn config<C: Connector>(text: &str) -> Result<C::Config, String> {
    let tables: Map<String, Value> =
        Figment::from(Toml::string(text)).extract_inner("connectors").map_err(|error| error.to_string())?;
    let mut instances = tables.into_iter();
    let (Some((_, Value::Object(mut settings))), None) = (instances.next(), instances.next()) else {
        return Err("it must be one table, such as [connectors.name]".to_owned());
    };
    match settings.remove("type") {
        Some(Value::String(kind)) if kind == C::TYPE => {}
        _ => return Err(format!("it lacks `type = \"{}\"`", C::TYPE)),
    }
    serde_path_to_error::deserialize(Value::Object(settings)).map_err(|error| error.to_string())
}

/// The sample with the settings that it has in comments.
pub fn uncommented(sample: &str) -> String {
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(setting) if setting.split_once(" = ").is_some_and(|(key, _)| is_key(key)) => setting.to_owned(),
        Some(table) if table.starts_with("[connectors.") && table.ends_with(']') => table.to_owned(),
        _ => line.to_owned(),
    };
    sample.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether a text is a key of TOML; in quotes it may have spaces.
fn is_key(text: &str) -> bool {
    text.split('"').step_by(2).all(|outside| !outside.contains(' '))
}

#[cfg(test)]
mod tests;
