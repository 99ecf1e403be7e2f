//! Texts from outside without our secrets: a service may repeat what we authenticated with, in any form that it was sent in
//! or that software on the way makes of it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::value::{RawValue, to_raw_value};

use crate::command::Reply;
use crate::event::Event;

/// Stands in the place of a secret.
const MASK: &str = "***";
/// The longest message of an error, in characters.
const MAX_MESSAGE: usize = 1_000;
/// A text shorter than this, in bytes, is in too many words to be masked.
const SHORTEST: usize = 4;
/// As many characters of a secret at the end of a text are taken for a secret that was cut off.
const CUT_OFF: usize = 8;
/// Backslashes in a row that can escape one character: JSON within JSON within JSON.
const MOST_BACKSLASHES: usize = 8;
/// The longest reference to a character in HTML, `&#x10FFFF;` and one more digit, in bytes.
const LONGEST_REFERENCE: usize = 11;

/// Masks secrets in texts, in these forms and mixtures of them: as they are; percent-encoded, once or twice, and
/// form-encoded; escaped as in JSON and as in HTML, with all characters or some; base64, also as a part of more.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<Secret>,
    /// The bytes that a form of one can begin with.
    starts: Vec<u8>,
}

/// Cuts the message of an error to [`MAX_MESSAGE`].
fn truncate(message: &mut String) {
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
    }
}

#[derive(Clone)]
struct Secret {
    chars: Vec<char>,
    /// Standard and URL-safe: alone, and at the three places that a byte can have in base64, without what depends on the
    /// bytes around.
    base64: Vec<String>,
}

impl Redactor {
    /// Masks these texts.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| secret.len() >= SHORTEST);
        let secrets: Vec<_> = secrets.map(|secret| Secret::new(&secret)).collect();
        let mut starts: Vec<u8> = secrets.iter().flat_map(Secret::starts).collect();
        starts.sort_unstable();
        starts.dedup();
        Self { secrets, starts }
    }

    /// The text without the secrets. Borrowed if none is in it.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut masked = String::new();
        let (mut at, mut copied) = (0, 0);
        while let Some(next) = text[at..].bytes().position(|byte| self.starts.contains(&byte)) {
            // It is the first byte of a character: a form begins with none that is not.
            at += next;
            let rest = &text[at..];
            match self.secrets.iter().filter_map(|secret| secret.length_in(rest)).max() {
                Some(length) => {
                    masked.push_str(&text[copied..at]);
                    masked.push_str(MASK);
                    at += length;
                    copied = at;
                }
                None => at += rest.chars().next().map_or(1, char::len_utf8),
            }
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        masked.push_str(&text[copied..]);
        Cow::Owned(masked)
    }

    /// The JSON without the secrets; a string where it would be no JSON any more.
    pub fn json(&self, json: &mut Box<RawValue>) {
        if let Cow::Owned(masked) = self.text(json.get())
            && let Ok(value) = RawValue::from_string(masked.clone()).or_else(|_| to_raw_value(&masked))
        {
            *json = value;
        }
    }

    /// The reason and the error of an event without the secrets, and the message of the error cut to 1,000 characters. Its payload (`raw`) and
    /// its contents stay as received.
    pub fn event(&self, event: &mut Event) {
        let error = event.fields.error.as_mut();
        let (code, message, details) = error.map_or((None, None, None), |error| {
            (error.code.as_mut(), error.message.as_mut(), error.details.as_mut())
        });
        let texts = [event.fields.reason.as_mut(), event.fields.name.as_mut(), code, message];
        for text in texts.into_iter().flatten() {
            if let Cow::Owned(masked) = self.text(text) {
                *text = masked;
            }
        }
        if let Some(details) = details {
            self.json(details);
        }
        // Only now, so that no piece of a secret is left.
        if let Some(message) = event.fields.error.as_mut().and_then(|error| error.message.as_mut()) {
            truncate(message);
        }
    }

    fn message(&self, text: &str) -> String {
        let mut message = self.text(text).into_owned();
        truncate(&mut message);
        message
    }

    /// A reply whose error is without the secrets, and cut to 1,000 characters; data stay as received.
    pub fn reply(&self, reply: Reply) -> Reply {
        match reply {
            Reply::Failed(error) => Reply::Failed(error.map_message(|text| self.message(text))),
            Reply::Unknown(error) => Reply::Unknown(error.map_message(|text| self.message(text))),
            Reply::Part(_) | Reply::Acked(_) | Reply::Response(_) => reply,
        }
    }
}

impl Secret {
    fn new(text: &str) -> Self {
        let mut base64 = vec![
            STANDARD.encode(text),
            URL_SAFE.encode(text),
            STANDARD_NO_PAD.encode(text),
            URL_SAFE_NO_PAD.encode(text),
        ];
        for before in 0..3 {
            let bytes = [vec![0; before], text.as_bytes().to_vec()].concat();
            // Digits of which bits belong to what stands before, and behind.
            let (first, last) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
            for form in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
                let inner = form.get(first..last).unwrap_or_default().to_owned();
                if inner.len() >= SHORTEST && !base64.contains(&inner) {
                    base64.push(inner);
                }
            }
        }
        Self { chars: text.chars().collect(), base64 }
    }

    /// The bytes that a form of it can begin with.
    fn starts(&self) -> Vec<u8> {
        let first = self.chars.first().map_or(0, |first| first.to_string().as_bytes()[0]);
        let base64 = self.base64.iter().filter_map(|form| form.bytes().next());
        [first, b'%', b'\\', b'&', b'+'].into_iter().chain(base64).collect()
    }

    /// How many bytes of this text are the secret at its beginning.
    fn length_in(&self, text: &str) -> Option<usize> {
        let encoded =
            self.base64.iter().filter(|form| text.starts_with(form.as_str())).map(String::len).max();
        encoded.max(self.escaped_in(text))
    }

    fn escaped_in(&self, text: &str) -> Option<usize> {
        // Where the characters so far can end, as some have forms of different lengths.
        let mut ends = vec![0];
        for (count, wanted) in self.chars.iter().enumerate() {
            if count >= CUT_OFF && ends.contains(&text.len()) {
                return Some(text.len());
            }
            let mut next = Vec::new();
            for end in ends {
                forms(*wanted, &text[end..], &mut |length| {
                    if !next.contains(&(end + length)) {
                        next.push(end + length);
                    }
                });
            }
            if next.is_empty() {
                return None;
            }
            ends = next;
        }
        ends.into_iter().max()
    }
}

/// Calls `found` with the length of each form in which the text begins with this character.
fn forms(wanted: char, text: &str, found: &mut impl FnMut(usize)) {
    if text.starts_with(wanted) {
        found(wanted.len_utf8());
    }
    if wanted == ' ' && text.starts_with('+') {
        found(1);
    }
    match text.as_bytes().first() {
        Some(b'%') => {
            percent(wanted, text).for_each(&mut *found);
            backslashes(wanted, text, found);
        }
        Some(b'\\') => backslashes(wanted, text, found),
        Some(b'&') => {
            html(wanted, text).into_iter().for_each(found);
        }
        _ => {}
    }
}

/// `%2F`, or `%252F`: the bytes of UTF-8 (RFC 3986 §2.1), encoded once or twice.
fn percent(wanted: char, text: &str) -> impl Iterator<Item = usize> {
    let encoded = |percent: &str| {
        let mut length = 0;
        for byte in wanted.encode_utf8(&mut [0; 4]).bytes() {
            let digits = text.get(length..)?.strip_prefix(percent)?;
            if !is_hex(digits, 2, byte.into()) {
                return None;
            }
            length += percent.len() + 2;
        }
        Some(length)
    };
    ["%", "%25"].map(encoded).into_iter().flatten()
}

/// `\"`, `\/`, `\n`, `\u0022`, `\x22`: as in JSON (RFC 8259 §7) and in JavaScript, once or within each other; the backslash
/// may be percent-encoded.
fn backslashes(wanted: char, text: &str, found: &mut impl FnMut(usize)) {
    let mut length = 0;
    for count in 1..=MOST_BACKSLASHES {
        let rest = &text[length..];
        let Some(one) = ["\\", "%5C", "%5c"].iter().find(|one| rest.starts_with(**one)) else { return };
        length += one.len();
        if wanted == '\\' && count > 1 && count.is_power_of_two() {
            found(length);
        }
        let rest = &text[length..];
        let short = match wanted {
            '"' | '\'' | '/' => Some(wanted),
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            '\u{8}' => Some('b'),
            '\u{c}' => Some('f'),
            _ => None,
        };
        if let Some(short) = short {
            if rest.starts_with(short) {
                found(length + short.len_utf8());
            }
            percent(short, rest).for_each(|more| found(length + more));
        }
        unicode(wanted, rest).into_iter().for_each(|more| found(length + more));
    }
}

/// `u0022`, or `ud83d\ude00`, or `x22`, behind the backslash.
fn unicode(wanted: char, text: &str) -> Option<usize> {
    let code = u32::from(wanted);
    if code <= 0xFF && text.strip_prefix('x').is_some_and(|digits| is_hex(digits, 2, code)) {
        return Some(3);
    }
    let mut length = 0;
    for (place, unit) in wanted.encode_utf16(&mut [0; 2]).iter().enumerate() {
        let mut rest = text.get(length..)?;
        if place > 0 {
            let bare = rest.trim_start_matches('\\');
            length += rest.len() - bare.len();
            rest = bare;
        }
        let digits = rest.strip_prefix(['u', 'U'])?;
        if !is_hex(digits, 4, (*unit).into()) {
            return None;
        }
        length += 5;
    }
    Some(length)
}

/// `&amp;`, `&#38;`, `&#x26;`
fn html(wanted: char, text: &str) -> Option<usize> {
    // No further than the longest reference: a text may be long, and have many of these.
    let end = text.bytes().take(LONGEST_REFERENCE).position(|byte| byte == b';')?;
    let name = text.get(1..end)?;
    let is_it = match name.strip_prefix('#') {
        Some(number) => {
            let hex = number.strip_prefix(['x', 'X']);
            let code = hex.map_or_else(|| number.parse(), |digits| u32::from_str_radix(digits, 16));
            code.is_ok_and(|code| code == u32::from(wanted))
        }
        None => matches!(
            (name, wanted),
            ("amp", '&') | ("lt", '<') | ("gt", '>') | ("quot", '"') | ("apos", '\'')
        ),
    };
    is_it.then_some(end + 1)
}

/// Whether the text begins with this number, in so many hexadecimal digits.
fn is_hex(text: &str, digits: usize, number: u32) -> bool {
    let digits = text.get(..digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) == Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, EventType, Raw};

    const SECRET: &str = "k/e+y&\"7 ü😀\\9";

    fn redactor() -> Redactor {
        Redactor::new([SECRET.to_owned()])
    }

    #[test]
    fn a_secret_is_masked_in_every_form() {
        let json = serde_json::to_string(SECRET).unwrap();
        for form in [
            SECRET,
            "k%2Fe%2By%26%227%20%C3%BC%F0%9F%98%80%5C9",
            "k%2fe%2by%26%227+%c3%bc%f0%9f%98%80%5c9",
            "k/e%2By%26\"7 ü😀\\9",
            "k%252Fe%252By%2526%25227%2520%25C3%25BC%25F0%259F%2598%2580%255C9",
            json.trim_matches('"'),
            r#"k\/e\u002by\u0026\u00227 \u00fc\ud83d\ude00\\9"#,
            r#"k\u002Fe\u002By\u0026\"7 \u00FC\uD83D\uDE00\u005C9"#,
            r#"k\x2fe\x2by&\x227 \xfc😀\\9"#,
            r#"k/e+y&\\\"7 ü😀\\\\9"#,
            r#"k\\u002fe\\u002by\\u0026\\u00227 \\u00fc\\ud83d\\ude00\\\\9"#,
            "k/e+y&amp;&quot;7 &#252;&#x1F600;\\9",
            "k%2Fe%2By%26%5C%227%20%C3%BC%F0%9F%98%80%5C%5C9",
        ] {
            let text = format!("bad key {form}, go");
            assert_eq!(redactor().text(&text), "bad key ***, go", "{form}");
            assert_eq!(redactor().text(form), "***", "{form}");
        }
        for around in ["", "user:", "a:", "it:"] {
            let encoded = STANDARD.encode(format!("{around}{SECRET}"));
            let shown = redactor().text(&encoded).into_owned();
            assert!(shown.contains("***") && shown.len() < around.len() + 10, "{around} {shown}");
        }
        for alone in [STANDARD.encode(SECRET), URL_SAFE.encode(SECRET), URL_SAFE_NO_PAD.encode(SECRET)] {
            assert_eq!(redactor().text(&format!("key={alone}")), "key=***");
        }
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in
            ["", "k/e+y", "%", "%2", "\\", "\\u", "&", "&#;", "k%2Fe%2By%26%22", "ü%C3", "k/e+y&\"7 ü😁\\9"]
        {
            assert!(matches!(redactor().text(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        let short = Redactor::new(["abc".to_owned()]);
        assert_eq!(short.text("abc"), "abc");
    }

    #[test]
    fn a_large_text_is_read_once() {
        // A search from each of these to the end of the text would take minutes.
        let text = "&".repeat(4 << 20);
        assert!(matches!(redactor().text(&text), Cow::Borrowed(_)));
    }

    #[test]
    fn of_several_the_longest_is_masked_and_one_that_was_cut_off_too() {
        let secrets = ["secret", "secret-long", "%25%"].map(str::to_owned);
        let redactor = Redactor::new(secrets);
        assert_eq!(redactor.text("bad secret-long, bad secret: é"), "bad ***, bad ***: é");
        assert_eq!(redactor.text("%25% and %2525%25 and %25"), "*** and *** and %25");
        assert_eq!(redactor.text("closed: secret-lo"), "closed: ***");
        assert_eq!(redactor.text("closed: secre"), "closed: secre");
    }

    #[test]
    fn of_an_event_and_a_reply_only_reasons_and_errors_are_masked() {
        let raw = Raw::json(&format!("told {SECRET}")).unwrap();
        let mut event = Event::new(EventType::ErrorRaised, raw.clone());
        event.fields.reason = Some(format!("not {SECRET}"));
        event.fields.text = Some(SECRET.to_owned());
        let details = serde_json::json!({ "key": SECRET, "n": 1 });
        event.fields.error = Some(crate::event::ServiceError {
            code: Some("401".into()),
            message: Some(format!("bad {SECRET}")),
            details: Some(to_raw_value(&details).unwrap()),
        });
        redactor().event(&mut event);
        let error = event.fields.error.unwrap();
        assert_eq!(event.fields.reason.as_deref(), Some("not ***"));
        assert_eq!((error.code.as_deref(), error.message.as_deref()), (Some("401"), Some("bad ***")));
        assert_eq!(error.details.unwrap().get(), r#"{"key":"***","n":1}"#);
        assert_eq!(event.fields.text.as_deref(), Some(SECRET));
        let Reply::Failed(error) = redactor().reply(Reply::Failed(Error::refused(SECRET).at("/x"))) else {
            panic!("another reply")
        };
        assert_eq!(error.to_string(), "*** (at /x)");
        // No piece of a secret is left where the message is cut.
        let long = Error::refused(format!("{}{SECRET}", "é".repeat(998)));
        let Reply::Unknown(error) = redactor().reply(Reply::Unknown(long)) else { panic!("another reply") };
        assert!(error.message().ends_with("é**") && error.message().chars().count() == 1_000);
        let mut number = RawValue::from_string("12345".into()).unwrap();
        Redactor::new(["12345".to_owned()]).json(&mut number);
        assert_eq!(number.get(), "\"***\"");
    }
}
