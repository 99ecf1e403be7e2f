//! The setting `headers`.

use std::collections::BTreeMap;

use pontoon_sdk::settings::{check, escaped, is_token};
use pontoon_sdk::{Param, Result};

/// Headers that belong to the opening of a WebSocket; so does all that begins with `sec-websocket-`.
const HEADERS_TAKEN: [&str; 4] = ["host", "connection", "upgrade", "content-length"];

/// Checks the setting `headers`: names and values that a header can have, and none that the daemon sets itself.
///
/// # Errors
/// `Config`, with the place.
pub fn check_headers(headers: &BTreeMap<String, Param>) -> Result<()> {
    for (name, value) in headers {
        let at = format!("/headers/{}", escaped(name));
        let lower = name.to_ascii_lowercase();
        let named = "this is no name of a header; write letters, digits and hyphens, such as X-Client";
        check(is_token(name), &at, named)?;
        let taken = HEADERS_TAKEN.contains(&lower.as_str()) || lower.starts_with("sec-websocket-");
        check(!taken, &at, &format!("the header {name} is set by pontoon itself; leave it out"))?;
        if let Param::Plain(text) = value {
            let printable = text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            let wrong = format!("the value of {name} holds what a header cannot; write printable ASCII");
            check(printable, &at, &wrong)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pontoon_sdk::Kind;

    use super::*;

    #[test]
    fn headers_are_checked_with_their_place() {
        let headers =
            |name: &str, value: &str| check_headers(&BTreeMap::from([(name.to_owned(), value.into())]));
        assert!(headers("X-Key", "a b\t~").is_ok());
        for (name, value, words) in [
            ("", "x", "no name of a header"),
            ("X Key", "x", "such as X-Client"),
            ("Host", "x", "set by pontoon itself"),
            ("Sec-WebSocket-Key", "x", "set by pontoon itself"),
            ("X-A", "a\r\nX-B: b", "printable ASCII"),
        ] {
            let error = headers(name, value).unwrap_err();
            assert_eq!(
                (error.kind(), error.pointer()),
                (Kind::Config, Some(format!("/headers/{name}").as_str()))
            );
            assert!(error.message().contains(words), "{error}");
        }
    }
}
