//! Transcripts of recipes: conversations of a configuration in another file.

use figment::Figment;
use figment::providers::{Format, Toml};
use serde_json::{Map, Value};

/// What stands in the place of every secret of a recipe.
pub const SECRET: &str = "hunter2";

/// A transcript of a recipe: the recipe's settings as its `config` line, in the place of the comment with which the text
/// begins.
///
/// # Errors
/// That the configuration is not one table `[connectors.<name>]`, or the text begins with no comment.
pub fn recipe_transcript(config: &str, text: &str) -> Result<String, String> {
    with_settings(recipe_settings(config)?.1, text)
}

/// The same with these settings.
///
/// # Errors
/// That the text begins with no comment.
pub fn with_settings(settings: Map<String, Value>, text: &str) -> Result<String, String> {
    let Some(("", rest)) = text.split_once('#').map(|(before, rest)| (before.trim(), rest)) else {
        return Err("it must begin with a comment that says what it shows".to_owned());
    };
    let rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    Ok(format!("config {}\n{rest}", Value::Object(settings)))
}

/// The type and the settings of a recipe, without those of the daemon and those that lead to other servers, and with [`SECRET`] in the place of its secrets.
///
/// # Errors
/// That the configuration is not one table `[connectors.<name>]`.
pub fn recipe_settings(config: &str) -> Result<(String, Map<String, Value>), String> {
    let tables: Map<String, Value> =
        Figment::from(Toml::string(config)).extract_inner("connectors").map_err(|error| error.to_string())?;
    let mut instances = tables.into_iter();
    let (Some((_, Value::Object(mut settings))), None) = (instances.next(), instances.next()) else {
        return Err("it must be one table, such as [connectors.name]".to_owned());
    };
    // Those of the daemon, and what leads to other servers than the one that plays the service.
    for other in ["transport", "before_connect", "address"] {
        settings.remove(other);
    }
    let Some(Value::String(kind)) = settings.remove("type") else {
        return Err("its table lacks the type".to_owned());
    };
    if let Some(Value::Object(secrets)) = settings.get_mut("secrets") {
        secrets.values_mut().for_each(|secret| *secret = Value::from(SECRET));
    }
    Ok((kind, settings))
}
