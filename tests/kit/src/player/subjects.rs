//! Names on the bus: an operation's subject, an event's headers.

use async_nats::Message;

use crate::websocket::percent_decoded;

/// A header, decoded as CloudEvents asks.
pub(super) fn header(message: &Message, name: &str) -> Option<String> {
    let value = message.headers.as_ref()?.get(name)?;
    Some(percent_decoded(&value.as_str().replace('+', "%2B")))
}

/// An operation as transcripts write it, and its argument: that of the longest operation which takes one.
pub(super) fn split_operation<'a>(written: &'a str, arguments: &[&str]) -> (&'a str, Option<&'a str>) {
    let takers = arguments
        .iter()
        .filter(|name| written.strip_prefix(**name).is_some_and(|rest| rest.starts_with('.')));
    match takers.max_by_key(|name| name.len()).and_then(|name| written.split_at_checked(name.len())) {
        Some((operation, argument)) => (operation, argument.strip_prefix('.')),
        None => (written, None),
    }
}

/// A token of a subject, for names that are not longer than a token may be.
pub(super) fn token(text: &str) -> String {
    match text {
        "" => return "_".to_owned(),
        "_" => return "=5F".to_owned(),
        _ => {}
    }
    let mut token = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            token.push_str(&format!("={byte:02X}"));
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_operation_that_takes_an_argument_is_split_off() {
        let arguments = ["call", "call.raw", "emit"];
        let split = |written| split_operation(written, &arguments);
        assert_eq!(split("call.a/b.c"), ("call", Some("a/b.c")));
        assert_eq!(split("call.raw.x"), ("call.raw", Some("x")));
        assert_eq!(split("call.rawx"), ("call", Some("rawx")));
        assert_eq!(split("emit."), ("emit", Some("")));
        for whole in ["call", "room.user.join", "emitter.x", ""] {
            assert_eq!(split(whole), (whole, None));
        }
    }

    #[test]
    fn a_token_has_no_dots_and_is_never_empty() {
        let tokens = ["a-b_C9", "room.join", "é", "", "_", "__"].map(token);
        assert_eq!(tokens, ["a-b_C9", "room=2Ejoin", "=C3=A9", "_", "=5F", "__"]);
    }
}
