//! NATS contexts: connection settings that the `nats` tool keeps in the user's configuration folder (ADR-21).

use std::path::{Path, PathBuf};

use pontoon_sdk::Secret;
use serde::Deserialize;

use crate::settings::{Nats, Urls};

/// A context file, with the fields that the tool writes (jsm.go, package natscontext). What only the tool itself needs is
/// not listed: its name, a description, the colours of its output, and where it finds advisories of JetStream.
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
    user_jwt: String,
    user_seed: String,
    jetstream_domain: String,
    jetstream_api_prefix: String,
    inbox_prefix: String,
    tls_first: bool,
    // Not supported.
    nsc: String,
    socks_proxy: String,
    windows_cert_store: String,
}

/// Fills in the settings of a named context; settings of Pontoon override them.
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
    let not_supported = [
        ("nsc", &context.nsc),
        ("socks_proxy", &context.socks_proxy),
        ("windows_cert_store", &context.windows_cert_store),
    ];
    if let Some((field, _)) = not_supported.into_iter().find(|(_, value)| !value.is_empty()) {
        return Err(unsupported(field, "a value"));
    }
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
        merged.password = secret("password", &context.password)?;
        merged.token = secret("token", &context.token)?;
        merged.user_jwt = secret("user_jwt", &context.user_jwt)?;
        merged.user_seed = secret("user_seed", &context.user_seed)?;
        merged.credentials = path("creds", &context.creds)?;
        if let Some(file) = path("nkey", &context.nkey)? {
            // Kept as a file, so that it is read again at each connect.
            let seed = looked_up("nkey", "file", &file.to_string_lossy())?;
            seed.reveal().map_err(|error| format!("the nkey of the context: {}", error.message()))?;
            merged.nkey = Some(seed);
        }
    }
    merged.tls.ca_file = merged.tls.ca_file.or(path("ca", &context.ca)?);
    if merged.tls.cert_file.is_none() {
        merged.tls.cert_file = path("cert", &context.cert)?;
        merged.tls.key_file = path("key", &context.key)?;
    }
    merged.tls.handshake_first |= context.tls_first;
    if merged.jetstream_domain.is_none() && merged.jetstream_api_prefix.is_none() {
        merged.jetstream_domain = text(&context.jetstream_domain);
        // The tool lets the domain win.
        merged.jetstream_api_prefix =
            text(&context.jetstream_api_prefix).filter(|_| merged.jetstream_domain.is_none());
    }
    merged.inbox_prefix = merged.inbox_prefix.or_else(|| text(&context.inbox_prefix));
    Ok(merged)
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// A secret of a context: the text itself, or where the tool finds it.
fn secret(field: &str, value: &str) -> Result<Option<Secret>, String> {
    let Some(value) = text(value) else { return Ok(None) };
    let found = match value.split_once("://") {
        Some(("env", name)) => looked_up(field, "env", name)?,
        Some(("file", _)) => match path(field, &value)? {
            Some(file) => looked_up(field, "file", &file.to_string_lossy())?,
            None => return Ok(None),
        },
        Some((scheme @ ("op" | "nsc"), _)) => {
            return Err(unsupported(field, &format!("a {scheme}:// reference")));
        }
        _ if value.starts_with("data:") => return Err(unsupported(field, "a data: reference")),
        _ => Secret::plain(value),
    };
    Ok(Some(found))
}

fn looked_up(field: &str, source: &str, place: &str) -> Result<Secret, String> {
    serde_json::from_value(serde_json::json!({ source: place }))
        .map_err(|error| format!("{field} of the context cannot be used: {error}"))
}

/// A path of a context; the tool writes `~` for the user's folder, and may write `file://` before it.
fn path(field: &str, value: &str) -> Result<Option<PathBuf>, String> {
    let value = value.strip_prefix("file://").unwrap_or(value);
    if value.contains("://") || value.starts_with("data:") {
        return Err(unsupported(field, "a reference that is not a file"));
    }
    if value.contains('$') {
        return Err(unsupported(field, "a variable in its path"));
    }
    Ok(text(value).map(|value| match value.strip_prefix("~/").zip(std::env::var_os("HOME")) {
        Some((rest, home)) => Path::new(&home).join(rest),
        None => value.into(),
    }))
}

fn unsupported(field: &str, what: &str) -> String {
    format!(
        "the context has {what} in {field}, which pontoon does not support; use settings of nats.* in its place, or another context"
    )
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

    #[test]
    fn every_field_of_a_context_is_understood_or_refused_by_name() {
        let read = |json: &str| merge(&Nats::default(), &serde_json::from_str(json).unwrap());
        // As `nats context add` writes it, with everything that is not set.
        let merged = read(
            r#"{"name":"x","description":"","url":"nats://h:1","socks_proxy":"","token":"","user":"","password":"","creds":"","nkey":"","cert":"","key":"","ca":"","nsc":"","jetstream_domain":"hub","jetstream_api_prefix":"JS.api","jetstream_event_prefix":"ev","inbox_prefix":"_INBOX.me","user_jwt":"eyJ","user_seed":"SUA","color_scheme":"red","tls_first":true,"windows_cert_store":"","windows_cert_match_by":"","windows_cert_match":"","windows_ca_certs_match":null}"#,
        )
        .unwrap();
        assert_eq!(merged.jetstream_api(), "$JS.hub.API");
        assert_eq!(merged.inbox_prefix.as_deref(), Some("_INBOX.me"));
        assert_eq!(
            (merged.user_jwt, merged.user_seed),
            (Some(Secret::plain("eyJ")), Some(Secret::plain("SUA")))
        );
        assert!(merged.tls.handshake_first);
        assert_eq!(read(r#"{"jetstream_api_prefix":"JS.api"}"#).unwrap().jetstream_api(), "JS.api");
        assert_eq!(read(r#"{"creds":"file:///a.creds"}"#).unwrap().credentials, Some("/a.creds".into()));
        assert_eq!(
            format!("{:?}", read(r#"{"token":"env://TOK"}"#).unwrap().token.unwrap()),
            "Secret(env TOK)"
        );
        for (json, field) in [
            (r#"{"nsc":"nsc://op/acc/user"}"#, "nsc"),
            (r#"{"socks_proxy":"socks5://h:1"}"#, "socks_proxy"),
            (r#"{"windows_cert_store":"user"}"#, "windows_cert_store"),
            (r#"{"creds":"nsc://op/acc/user"}"#, "creds"),
            (r#"{"creds":"$HOME/a.creds"}"#, "creds"),
            (r#"{"nkey":"data:;base64,U1VB"}"#, "nkey"),
            (r#"{"user_seed":"op://vault/item"}"#, "user_seed"),
            (r#"{"user":"u","password":"data:;base64,cHc="}"#, "password"),
            (r#"{"ca":"op://vault/ca"}"#, "ca"),
        ] {
            let refused = read(json).map(|_| ()).unwrap_err();
            assert!(
                refused.contains(&format!("in {field}, which pontoon does not support")),
                "{json}: {refused}"
            );
        }
    }

    #[test]
    fn own_jetstream_settings_go_before_those_of_the_context() {
        let context: Context = serde_json::from_str(r#"{"jetstream_domain":"hub"}"#).unwrap();
        let own = Nats { jetstream_api_prefix: Some("JS.api.".into()), ..Nats::default() };
        assert_eq!(merge(&own, &context).unwrap().jetstream_api(), "JS.api");
        let own = Nats { jetstream_domain: Some("leaf".into()), ..Nats::default() };
        assert_eq!(merge(&own, &context).unwrap().jetstream_api(), "$JS.leaf.API");
        assert_eq!(Nats::default().jetstream_api(), "$JS.API");
    }
}
