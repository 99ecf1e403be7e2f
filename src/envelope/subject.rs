//! Subjects: one encoder for every token that comes from outside, so that none can break out of its place.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Longest token, in bytes.
const TOKEN_LIMIT: usize = 64;
/// How much of a longer token is kept.
const TOKEN_KEPT: usize = 40;

/// Appends one token. Bytes in `[A-Za-z0-9_-]` pass, others become `=HH`; empty becomes `_`, `_` alone becomes `=5F`;
/// what is longer than 64 bytes afterwards becomes its first 40 bytes, `=h`, and 16 hex digits of its SHA-256.
pub fn push_token(subject: &mut String, text: &str) {
    match text {
        "" => return subject.push('_'),
        "_" => return subject.push_str("=5F"),
        _ => {}
    }
    let start = subject.len();
    for byte in text.bytes() {
        // A text that is far too long needs no more than its beginning, and its hash.
        if subject.len() - start > TOKEN_LIMIT {
            break;
        }
        push_byte(subject, byte);
    }
    if subject.len() - start > TOKEN_LIMIT {
        shorten(subject, start, text);
    }
}

fn push_byte(subject: &mut String, byte: u8) {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => subject.push(char::from(byte)),
        _ => {
            let _ = write!(subject, "={byte:02X}");
        }
    }
}

fn shorten(subject: &mut String, start: usize, text: &str) {
    let mut kept = start;
    for byte in text.bytes() {
        let width = if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') { 1 } else { 3 };
        if kept + width > start + TOKEN_KEPT {
            break;
        }
        kept += width;
    }
    subject.truncate(kept);
    subject.push_str("=h");
    for byte in Sha256::digest(text.as_bytes()).iter().take(8) {
        let _ = write!(subject, "{byte:02x}");
    }
}

/// What a caller means by a token: `=HH` is a byte, anything else is itself. `None` if an escape is broken or the
/// bytes are no text.
pub fn decode_token(token: &str) -> Option<String> {
    match token {
        "_" => return Some(String::new()),
        _ if !token.contains('=') => return Some(token.to_owned()),
        _ => {}
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'=' => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next()?)? << 4 | digit(rest.next()?)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Appends what follows the instance's own tokens in the subject of an event: `<noun>.<verb>.<scope>`.
pub fn push_event(subject: &mut String, noun_verb: &str, scope: &str) {
    subject.push_str(noun_verb);
    subject.push('.');
    push_token(subject, scope);
}

/// The subjects of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    prefix: String,
    place: String,
    event: String,
}

impl Subjects {
    /// The subjects of this instance. Prefix, type and instance were checked with the configuration.
    pub fn new(prefix: &str, kind: &str, instance: &str) -> Self {
        let place = format!("{kind}.{instance}");
        let event = format!("{prefix}.event.{place}.");
        Self { prefix: prefix.to_owned(), place, event }
    }

    /// What the subject of every event begins with, `<prefix>.event.<type>.<instance>.`; [`push_event`] appends the rest.
    pub fn events(&self) -> &str {
        &self.event
    }

    /// Everything that this instance publishes as events.
    pub fn all_events(&self) -> String {
        format!("{}>", self.event)
    }

    /// `<prefix>.command.<type>.<instance>`
    pub fn commands(&self) -> String {
        format!("{}.command.{}", self.prefix, self.place)
    }

    /// `<prefix>.job.<type>.<instance>`
    pub fn jobs(&self) -> String {
        format!("{}.job.{}", self.prefix, self.place)
    }

    /// Every job of the instance.
    pub fn all_jobs(&self) -> String {
        format!("{}.>", self.jobs())
    }

    /// Every job of every instance.
    pub fn every_job(&self) -> String {
        format!("{}.job.>", self.prefix)
    }

    /// `<prefix>.result.<type>.<instance>.<operation>` for the tokens of a job, which come from outside: what would not be
    /// a plain token is encoded.
    pub fn result(&self, operation: &str) -> String {
        let mut subject = format!("{}.result.{}", self.prefix, self.place);
        for token in operation.split('.') {
            subject.push('.');
            let is_plain = !token.is_empty()
                && token.len() <= TOKEN_LIMIT
                && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-=".contains(&byte));
            if is_plain { subject.push_str(token) } else { push_token(&mut subject, token) }
        }
        subject
    }

    /// Every result of the instance.
    pub fn all_results(&self) -> String {
        format!("{}.result.{}.>", self.prefix, self.place)
    }

    /// Every result of every instance.
    pub fn every_result(&self) -> String {
        format!("{}.result.>", self.prefix)
    }

    /// The `Nats-Msg-Id` of what is known under this key within the instance: `<type>.<instance>:<key>`.
    pub fn message_id(&self, key: &str) -> String {
        format!("{}:{key}", self.place)
    }

    /// `<prefix>.state.<type>.<instance>`
    pub fn state(&self) -> String {
        format!("{}.state.{}", self.prefix, self.place)
    }

    /// `<prefix>.dead.<type>.<instance>.<reason>`
    pub fn dead(&self, reason: &str) -> String {
        format!("{}.dead.{}.{reason}", self.prefix, self.place)
    }
}

/// The longest reply subject, in bytes.
const LONGEST_REPLY: usize = 1_024;

/// Whether a reply may be written to this subject: it has an allowed prefix, and is not one of the server's, not one
/// of ours (a reply must never become a command), and no pattern.
///
/// It is short, too: the server closes connections on which a line is longer than `max_control_line` (4,096 bytes).
pub fn reply_allowed(subject: &str, allowed: &[String], own_prefix: &str) -> bool {
    let own = subject.strip_prefix(own_prefix).is_some_and(|rest| rest.starts_with('.'));
    let tokens = subject.split('.').all(|token| !token.is_empty() && token != "*" && token != ">");
    let plain = subject.bytes().all(|byte| byte.is_ascii_graphic());
    tokens
        && plain
        && subject.len() <= LONGEST_REPLY
        && !own
        && !subject.starts_with('$')
        && allowed.iter().any(|prefix| subject.starts_with(prefix.as_str()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn token(text: &str) -> String {
        let mut subject = String::new();
        push_token(&mut subject, text);
        subject
    }

    #[test]
    fn the_encoder_does_as_the_contract_says() {
        for (text, expected) in [
            ("room42", "room42"),
            ("", "_"),
            ("_", "=5F"),
            ("__", "__"),
            ("a.b", "a=2Eb"),
            ("*", "=2A"),
            (">", "=3E"),
            ("a b\r\n\0", "a=20b=0D=0A=00"),
            ("é", "=C3=A9"),
            ("a=2E", "a=3D2E"),
            ("$JS.API", "=24JS=2EAPI"),
        ] {
            assert_eq!(token(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_token_keeps_its_beginning_and_its_hash() {
        assert_eq!(token(&"a".repeat(64)), "a".repeat(64));
        let long = token(&"a".repeat(65));
        assert_eq!(long.len(), 40 + 2 + 16);
        assert!(long.starts_with(&format!("{}=h", "a".repeat(40))));
        // 39 plain bytes and an escape would be cut in the middle: the escape is left out.
        assert!(
            token(&format!("{}{}", "a".repeat(39), ".".repeat(30)))
                .starts_with(&format!("{}=h", "a".repeat(39)))
        );
    }

    #[test]
    fn the_subject_of_a_result_is_the_jobs_and_never_a_pattern() {
        let subjects = Subjects::new("acme.prod", "sub0", "shop");
        assert_eq!(subjects.all_jobs(), "acme.prod.job.sub0.shop.>");
        for (operation, tokens) in [
            ("call.auth=2Fsign-in", "call.auth=2Fsign-in"),
            ("call.*", "call.=2A"),
            ("call.>", "call.=3E"),
            ("call.a b", "call.a=20b"),
            ("", "_"),
        ] {
            assert_eq!(subjects.result(operation), format!("acme.prod.result.sub0.shop.{tokens}"));
        }
    }

    #[test]
    fn replies_go_to_inboxes_only() {
        let allowed = ["_INBOX.".to_owned(), "replies.app.".to_owned()];
        let ok = |subject: &str| reply_allowed(subject, &allowed, "pontoon");
        assert!(ok("_INBOX.abc.1") && ok("replies.app.x"));
        for bad in [
            "$JS.API.STREAM.PURGE.EV",
            "_INBOX.*.x",
            "_INBOX.>",
            "_INBOX.",
            "_INBOX..a",
            "pontoon.command.sub0.a.call.x",
            "other.x",
            "",
            "_INBOX.a b",
            "_INBOX.a\r\nPUB x",
            "_INBOX.é",
            "replies.app",
        ] {
            assert!(!ok(bad), "{bad:?}");
        }
        assert!(!reply_allowed("pontoon.event.x", &["pontoon.".to_owned()], "pontoon"));
        let long = |length| format!("{:a<length$}", "_INBOX.");
        assert!(ok(&long(LONGEST_REPLY)) && !ok(&long(LONGEST_REPLY + 1)));
    }

    proptest! {
        #[test]
        fn any_scope_makes_a_subject(scope in ".*", instance in "[a-z0-9_]{1,40}") {
            let mut subject = Subjects::new("pontoon", "streamavatars", &instance).events().to_owned();
            push_event(&mut subject, "message.completed", &scope);
            prop_assert!(subject.bytes().all(|b| b.is_ascii_alphanumeric() || b"_=.-".contains(&b)), "{subject}");
            prop_assert_eq!(subject.split('.').count(), 7);
            prop_assert!(subject.split('.').all(|token| !token.is_empty()));
            prop_assert!(subject.len() <= 255);
        }

        #[test]
        fn a_token_means_what_it_was_made_of(text in ".{0,21}") {
            let token = token(&text);
            // Below its length limit the encoder is injective, because decoding undoes it.
            if token.len() <= TOKEN_LIMIT && !token.contains("=h") {
                prop_assert_eq!(decode_token(&token), Some(text));
            }
        }

        #[test]
        fn decoding_never_fails_badly(text in ".*") {
            let _ = decode_token(&text);
        }
    }

    #[test]
    fn short_texts_all_differ() {
        let mut seen = HashMap::new();
        let alphabet = ["a", "_", "=", ".", "h", "0", "A", "é", " "];
        for a in alphabet {
            for b in alphabet.iter().chain([&""]) {
                for c in alphabet.iter().chain([&""]) {
                    let text = format!("{a}{b}{c}");
                    if let Some(other) = seen.insert(token(&text), text.clone()) {
                        assert_eq!(other, text);
                    }
                }
            }
        }
    }
}
