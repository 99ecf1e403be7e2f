//! `${name}` in what opens a connection: in the URL behind its host, in the query and in headers. It stands for a secret or a
//! remembered value.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pontoon_sdk::json::text as text_of;
use pontoon_sdk::settings::check;
use pontoon_sdk::{Param, Result, Secret};

use crate::mapping::{Template, check_unprompted, filled};
use crate::rules::Memory;

/// What stands in the place of a name where the URL is only checked.
const PLACE: &str = "value";

/// Whether there is a name in it.
pub(crate) fn has_names(url: &str) -> bool {
    url.contains("${")
}

/// The names in a URL and in these parameters.
pub(crate) fn names<'a, const N: usize>(
    url: &'a str,
    params: [&'a BTreeMap<String, Param>; N],
) -> impl Iterator<Item = &'a str> {
    let plain = |param: &'a Param| if let Param::Plain(text) = param { Some(text.as_str()) } else { None };
    let texts = params.into_iter().flat_map(BTreeMap::values).filter_map(plain);
    std::iter::once(url).chain(texts).flat_map(Template::names)
}

/// Checks the names in a URL. Returns one that has something in their places, of which the form is still to be checked.
///
/// # Errors
/// `Config`, with the place.
pub(crate) fn checked_url(url: &str, names: &[&str], at: &str) -> Result<String> {
    check_unprompted(url, names, at)?;
    let behind = url.split_once("://").map_or(url, |(_, behind)| behind);
    let host = behind.split(['/', '?']).next().unwrap_or_default();
    check(
        !has_names(host),
        at,
        "a name cannot stand for the host or the port; write these, and names in the path or the query only (a whole address \
         that the service gives is for the setting address of websocket)",
    )?;
    Ok(Template::fill(url, &|_| Some(PLACE.to_owned())))
}

/// What names stand for when a connection is opened.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// The secrets by their names.
    pub(crate) secrets: &'a BTreeMap<String, Secret>,
    /// What is remembered.
    pub(crate) memory: &'a Memory,
}

impl Opening<'_> {
    /// A URL with what its names stand for, percent-encoded; nothing in the place of what is not known.
    pub(crate) fn url(self, url: &str) -> String {
        let secret = |name: &str| self.secrets.get(name).and_then(|secret| secret.reveal().ok());
        let text_of = |name: &str| secret(name).or_else(|| self.remembered(name));
        Template::fill(url, &|name| text_of(name).map(|text| encoded(&text)))
    }

    /// A query, without the parameters that have a value in them which is not remembered.
    pub(crate) fn query(self, query: &BTreeMap<String, Param>) -> Vec<(String, Param)> {
        filled(query, self.secrets, &|name| self.remembered(name))
    }

    /// Headers, without those that have a value in them which is not remembered, or that cannot stand there.
    pub(crate) fn headers(self, headers: &BTreeMap<String, Param>) -> Vec<(String, Param)> {
        let is_printable = |text: &String| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        filled(headers, self.secrets, &|name| self.remembered(name).filter(is_printable))
    }

    /// What is remembered of these names, to be masked: a service may give us tickets.
    pub(crate) fn masked<'n>(self, names: impl Iterator<Item = &'n str>) -> impl Iterator<Item = Secret> {
        names.filter_map(move |name| self.remembered(name)).map(Secret::plain)
    }

    fn remembered(self, name: &str) -> Option<String> {
        self.memory.json(name).map(|json| text_of(&json).unwrap_or(json))
    }
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

    fn params(params: &[(&str, &str)]) -> BTreeMap<String, Param> {
        params.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())).collect()
    }

    fn shown(params: Vec<(String, Param)>) -> Vec<String> {
        let text = |(name, param): (String, Param)| format!("{name}={}", param.reveal().unwrap());
        params.into_iter().map(text).collect()
    }

    #[test]
    fn names_are_filled_in_behind_the_host() {
        let url = "wss://h:1/a/${token}/b?c=${token}&s=${session}&d=$${e}";
        let wanted = "wss://h:1/a/value/b?c=value&s=value&d=${e}";
        assert_eq!(checked_url(url, &["token", "session"], "/url").unwrap(), wanted);
        let (secrets, memory) = (named("k/y?#&%é"), Memory::default());
        let opening = Opening { secrets: &secrets, memory: &memory };
        let filled = "wss://h:1/a/k%2Fy%3F%23%26%25%C3%A9/b?c=k%2Fy%3F%23%26%25%C3%A9&s=";
        assert_eq!(opening.url(url), format!("{filled}&d=${{e}}"));
        memory.set("session", "\"a&b=c\\r\\nHost: evil\"");
        assert_eq!(opening.url(url), format!("{filled}a%26b%3Dc%0D%0AHost%3A%20evil&d=${{e}}"));
        let masked: Vec<_> = opening.masked(names(url, [])).collect();
        assert_eq!(masked, [Secret::plain("a&b=c\r\nHost: evil")]);
    }

    #[test]
    fn a_parameter_is_left_out_until_its_value_is_remembered() {
        let (secrets, memory) = (named("hunter2"), Memory::default());
        let opening = Opening { secrets: &secrets, memory: &memory };
        let list = params(&[("both", "${token} ${session}"), ("plain", "x"), ("session", "s${session}")]);
        assert_eq!(shown(opening.query(&list)), ["plain=x"]);
        assert_eq!(shown(opening.headers(&list)), ["plain=x"]);
        memory.set("session", "7.0");
        let all = ["both=hunter2 7.0", "plain=x", "session=s7.0"];
        assert_eq!(shown(opening.query(&list)), all);
        assert_eq!(shown(opening.headers(&list)), all);
        assert!(matches!(opening.query(&list)[0].1, Param::Secret(_)));
        // A second header must not come of it.
        memory.set("session", "\"a\\r\\nHost: evil\"");
        assert_eq!(shown(opening.headers(&list)), ["plain=x"]);
        assert_eq!(shown(opening.query(&list))[2], "session=sa\r\nHost: evil");
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused() {
        for (url, words) in [
            ("wss://${token}/", "cannot stand for the host"),
            ("wss://h:${token}", "cannot stand for the host"),
            ("wss://h/${other}", "known are ${token}"),
            ("wss://h/${/a}", "there is none yet"),
        ] {
            let error = checked_url(url, &["token"], "/url").unwrap_err();
            assert!(error.pointer() == Some("/url") && error.message().contains(words), "{url}: {error}");
        }
    }
}
