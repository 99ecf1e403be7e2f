//! NATS contexts: connection settings that the `nats` tool keeps in the user's configuration folder (ADR-21).

use std::path::{Path, PathBuf};

use pontoon_sdk::Secret;
use serde::Deserialize;

use crate::config::{Nats, Urls};

/// A context file, as far as it says how to connect.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    url: String,
    user: String,
    password: String,
    token: String,
    creds: String,
    nkey: String,
    cert: String,
    key: String,
    ca: String,
}

/// Fills in what a named context says; settings of our own override it.
///
/// # Errors
/// A sentence that names the file that is missing or cannot be read.
pub fn apply(nats: &Nats) -> Result<Nats, String> {
    let Some(name) = nats.context.as_deref() else {
        return Ok(nats.clone());
    };
    let file = folder()
        .ok_or("nats.context is set, but neither XDG_CONFIG_HOME nor HOME is")?
        .join(format!("{name}.json"));
    merge(nats, &read(&file)?)
}

fn folder() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)?;
    Some(config.join("nats").join("context"))
}

fn read(file: &Path) -> Result<Context, String> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        format!(
            "the NATS context {} cannot be read: {error}; `nats context ls` lists those there are",
            file.display()
        )
    })?;
    // The parser's message may quote what stands there, which may be a password.
    serde_json::from_str(&text).map_err(|error| {
        format!(
            "the NATS context {} is not valid JSON (line {}, column {})",
            file.display(),
            error.line(),
            error.column()
        )
    })
}

fn merge(nats: &Nats, context: &Context) -> Result<Nats, String> {
    let mut merged = nats.clone();
    if merged.url == Nats::default().url && !context.url.is_empty() {
        merged.url = Urls::One(context.url.clone());
    }
    let has_own = merged.user.is_some()
        || merged.token.is_some()
        || merged.nkey.is_some()
        || merged.credentials.is_some();
    if !has_own {
        merged.user = text(&context.user);
        merged.password = text(&context.password).map(Secret::plain);
        merged.token = text(&context.token).map(Secret::plain);
        merged.credentials = path(&context.creds);
        if let Some(file) = path(&context.nkey) {
            // Kept as a file, so that it is read anew at each connect.
            let seed: Secret = serde_json::from_value(serde_json::json!({ "file": file }))
                .map_err(|error| format!("the nkey file of the context has no usable name: {error}"))?;
            seed.reveal().map_err(|error| format!("the nkey of the context: {}", error.message()))?;
            merged.nkey = Some(seed);
        }
    }
    merged.tls.ca_file = merged.tls.ca_file.or_else(|| path(&context.ca));
    if merged.tls.cert_file.is_none() {
        merged.tls.cert_file = path(&context.cert);
        merged.tls.key_file = path(&context.key);
    }
    Ok(merged)
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// A path of a context; the tool writes `~` for the user's folder.
fn path(value: &str) -> Option<PathBuf> {
    let value = text(value)?;
    match value.strip_prefix("~/").zip(std::env::var_os("HOME")) {
        Some((rest, home)) => Some(Path::new(&home).join(rest)),
        None => Some(value.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_settings_override_the_context() {
        let context: Context = serde_json::from_str(
            r#"{"url":"nats://ctx:4222","user":"u","password":"p","ca":"/ca.pem","description":"x"}"#,
        )
        .unwrap();
        let merged = merge(&Nats::default(), &context).unwrap();
        assert_eq!(merged.url.list(), ["nats://ctx:4222"]);
        assert_eq!(merged.user.as_deref(), Some("u"));
        assert_eq!(merged.tls.ca_file.as_deref(), Some(Path::new("/ca.pem")));

        let own = Nats {
            token: Some(Secret::plain("t")),
            url: Urls::One("nats://own:1".into()),
            ..Nats::default()
        };
        let merged = merge(&own, &context).unwrap();
        assert_eq!(merged.url.list(), ["nats://own:1"]);
        assert_eq!(merged.user, None);
    }
}
