//! `${name}` in the setting `url`: secrets in its path or its query, as some services want a token there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pontoon_sdk::json::text as text_of;
use pontoon_sdk::settings::check;
use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Result, Secret};

use crate::mapping::{Known, Secrets, Template, check_text};

/// What stands in the place of a secret where the URL is not dialled.
const PLACE: &str = "secret";

/// Whether there is a name in it.
pub(crate) fn has_names(url: &str) -> bool {
    url.contains("${")
}

/// Checks it. Returns the endpoint without the secrets; `named` are those that there are.
///
/// # Errors
/// `Config`, with the place.
pub(crate) fn checked(url: &str, named: &BTreeMap<String, Secret>) -> Result<Endpoint> {
    if !has_names(url) {
        return Endpoint::new(url).map_err(|error| error.at("/url"));
    }
    let names: Vec<_> = named.keys().map(String::as_str).collect();
    let answered =
        |pointer: &str| Err(format!("${{{pointer}}} stands for a part of a frame, and there is none yet"));
    check_text(url, Known { names: &names, answered }, "/url")?;
    let behind = url.split_once("://").map_or(url, |(_, behind)| behind);
    let host = behind.split(['/', '?']).next().unwrap_or_default();
    check(
        !has_names(host),
        "/url",
        "a name cannot stand for the host or the port; write these, and names in the path or the query only",
    )?;
    Endpoint::new(&Template::fill(url, &|_| Some(PLACE.to_owned()))).map_err(|error| error.at("/url"))
}

/// The endpoint with the secrets, percent-encoded.
///
/// # Errors
/// `Auth` if one cannot be looked up.
pub(crate) fn filled(url: &str, endpoint: &Endpoint, named: &BTreeMap<String, Secret>) -> Result<Endpoint> {
    let secrets = Secrets::reveal(named)?;
    let encoded = |name: &str| secrets.json(name).and_then(|json| text_of(&json)).map(|text| encoded(&text));
    Ok(Endpoint { url: Template::fill(url, &encoded), ..endpoint.clone() })
}

/// A text with all but its unreserved characters percent-encoded (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> BTreeMap<String, Secret> {
        BTreeMap::from([("token".to_owned(), Secret::plain(text))])
    }

    #[test]
    fn secrets_are_filled_in_behind_the_host() {
        let url = "wss://h:1/a/${token}/b?c=${token}&d=$${e}";
        let secrets = named("k/y?#&%é");
        let endpoint = checked(url, &secrets).unwrap();
        assert_eq!(endpoint.url, "wss://h:1/a/secret/b?c=secret&d=${e}");
        let filled = filled(url, &endpoint, &secrets).unwrap();
        assert_eq!(filled.url, "wss://h:1/a/k%2Fy%3F%23%26%25%C3%A9/b?c=k%2Fy%3F%23%26%25%C3%A9&d=${e}");
        assert!(filled.parsed_url().is_ok());
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused() {
        for (url, words) in [
            ("wss://${token}/", "cannot stand for the host"),
            ("wss://h:${token}", "cannot stand for the host"),
            ("wss://h/${other}", "known are ${token}"),
            ("wss://h/${/a}", "there is none yet"),
            ("https://h/${token}", "write ws://"),
        ] {
            let error = checked(url, &named("x")).unwrap_err();
            assert!(error.pointer() == Some("/url") && error.message().contains(words), "{url}: {error}");
        }
    }
}
