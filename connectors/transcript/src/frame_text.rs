//! Frames as transcripts write them.

use base64::Engine as _;
use pontoon_sdk::Bytes;
use pontoon_sdk::connector::Frame;
use pontoon_sdk::event::Raw;
use pontoon_sdk::{socketio, websocket};
use serde_json::Value;

use crate::pattern::Names;

/// A frame as transcripts write it.
pub trait FrameText: Frame + Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Writes it, as [`FrameText::from_text`] reads it.
    fn to_text(&self) -> String;

    /// Whether it is what the transcript expects; learns the names in the expected text.
    fn is(&self, expected: &Self, names: &mut Names) -> bool;
}

impl FrameText for websocket::Frame {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            Some(("base64", code)) => base64::engine::general_purpose::STANDARD
                .decode(code.trim())
                .map(|bytes| Self::Binary(Bytes::from(bytes)))
                .map_err(|error| format!("this is no base64: {error}")),
            Some(("text", string)) if string.trim_start().starts_with('"') => serde_json::from_str(string)
                .map(|text: String| Self::text(text))
                .map_err(|error| format!("this is no JSON string: {error}")),
            _ => Ok(Self::text(text)),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Binary(bytes) => {
                format!("base64 {}", base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            Self::Text(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                let plain = text.trim() == text
                    && !text.chars().any(char::is_control)
                    && !text.starts_with("base64 ")
                    && !text.starts_with("text ");
                if plain { text.into_owned() } else { format!("text {}", Value::from(text)) }
            }
        }
    }

    fn is(&self, expected: &Self, names: &mut Names) -> bool {
        match (expected, self) {
            (Self::Text(expected), Self::Text(got)) => {
                names.matches(&String::from_utf8_lossy(expected), &String::from_utf8_lossy(got))
            }
            (expected, got) => expected == got,
        }
    }
}

/// An event is written `name[#7] [argument …]`, with the number under which an acknowledgement is asked for, an
/// acknowledgement `#7 [argument …]`; arguments are JSON, attachments follow them as `@base64`. A name that is no bare
/// word is written as a JSON string. `packet …` spells a packet that is none.
impl FrameText for socketio::Frame {
    fn from_text(text: &str) -> Result<Self, String> {
        if let Some(packet) = text.strip_prefix("packet ") {
            let (raw, reason) = (Raw::of_bytes(&Bytes::copy_from_slice(packet.as_bytes())), String::new());
            return Ok(Self::Malformed { raw, reason });
        }
        let (head, rest) = match text.starts_with('"') {
            true => {
                let mut names = serde_json::Deserializer::from_str(text).into_iter::<String>();
                let name = names.next().and_then(Result::ok).ok_or("the name is no JSON string")?;
                let after = text.get(names.byte_offset()..).unwrap_or_default();
                let (number, rest) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
                (format!("{name}{number}"), rest)
            }
            false => {
                let (head, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
                (head.to_owned(), rest)
            }
        };
        let (name, number) = match head.rsplit_once('#') {
            Some((name, number)) => match number.parse() {
                Ok(number) => (name.to_owned(), Some(number)),
                Err(_) => (head, None),
            },
            None => (head, None),
        };
        let args = args_from_text(rest)?;
        Ok(match (name.is_empty(), number) {
            (true, Some(id)) => Self::Ack { id, args },
            (_, ack) => Self::Event(socketio::Event { name, args, ack }),
        })
    }

    fn to_text(&self) -> String {
        let (head, args) = match self {
            Self::Event(event) => {
                let bare = !event.name.is_empty()
                    && !event
                        .name
                        .contains(|c: char| c.is_whitespace() || c.is_control() || "\"#".contains(c))
                    && event.name != "packet";
                let name =
                    if bare { event.name.clone() } else { Value::from(event.name.as_str()).to_string() };
                let number = event.ack.map(|id| format!("#{id}")).unwrap_or_default();
                (format!("{name}{number}"), &event.args)
            }
            Self::Ack { id, args } => (format!("#{id}"), args),
            Self::Malformed { raw, .. } => {
                // What is no JSON itself is kept as a JSON string.
                let text = raw.parse::<String>();
                let text = text.unwrap_or_else(|_| String::from_utf8_lossy(raw.as_bytes()).into());
                return format!("packet {text}");
            }
        };
        let values = args.values().iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let codes = args.attachments().iter();
        let codes =
            codes.map(|bytes| format!("@{}", base64::engine::general_purpose::STANDARD.encode(bytes)));
        std::iter::once(head).chain(values).chain(codes).collect::<Vec<_>>().join(" ")
    }

    fn is(&self, expected: &Self, names: &mut Names) -> bool {
        match (expected, self) {
            (Self::Event(expected), Self::Event(got)) => {
                names.matches_text(&expected.name, &got.name)
                    && expected.ack == got.ack
                    && same_args(&expected.args, &got.args, names)
            }
            (Self::Ack { id: expected, args: written }, Self::Ack { id, args }) => {
                expected == id && same_args(written, args, names)
            }
            (expected, got) => expected == got,
        }
    }
}

fn args_from_text(text: &str) -> Result<socketio::Args, String> {
    let (values, codes) = match text.find(" @") {
        _ if text.starts_with('@') => ("", text),
        // An attachment never stands within a string: there is no argument behind it.
        Some(place) if !text.get(place..).unwrap_or_default().contains(['"', '}', ']']) => {
            text.split_at(place)
        }
        _ => (text, ""),
    };
    let values = serde_json::Deserializer::from_str(values).into_iter::<Box<serde_json::value::RawValue>>();
    let values: Result<Vec<_>, _> = values.map(|value| value.map(Raw::from)).collect();
    let values = values.map_err(|error| format!("the arguments are no JSON: {error}"))?;
    let codes = codes.split_whitespace().map(|code| {
        let code = code.strip_prefix('@').ok_or("attachments stand last, each as @base64")?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(code);
        bytes.map(Bytes::from).map_err(|error| format!("this is no base64: {error}"))
    });
    let attachments = codes.collect::<Result<Vec<_>, String>>()?;
    if attachments.is_empty() {
        return Ok(socketio::Args::new(values));
    }
    socketio::Args::with_attachments(values, attachments).map_err(|error| error.to_string())
}

fn same_args(expected: &socketio::Args, got: &socketio::Args, names: &mut Names) -> bool {
    let text = |raw: &Raw| String::from_utf8_lossy(raw.as_bytes()).into_owned();
    expected.attachments() == got.attachments()
        && expected.values().len() == got.values().len()
        && expected
            .values()
            .iter()
            .zip(got.values())
            .all(|(expected, got)| names.matches(&text(expected), &text(got)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_frame_reads_back_as_it_was_written() {
        use websocket::Frame;
        for text in [r#"{"a":1}"#, "ping", "", "base64 AAE=", r#"text "a\nb ""#] {
            assert_eq!(Frame::from_text(text).unwrap().to_text(), if text.is_empty() { "" } else { text });
        }
        assert_eq!(Frame::from_text("base64 AAE=").unwrap(), Frame::Binary(Bytes::from_static(&[0, 1])));
        assert!(Frame::from_text("base64 ???").is_err());
    }

    #[test]
    fn a_socketio_frame_reads_back_as_it_was_written() {
        for text in [
            "open",
            r#"message#0 {"text":"a @b"} 2 [3]"#,
            r##""with space"#7 1"##,
            "#12 {\"ok\":true}",
            "#3",
            r#"file {"_placeholder":true,"num":0} @AB4="#,
            "packet 42[\"a\"",
        ] {
            let frame = socketio::Frame::from_text(text).unwrap();
            assert_eq!(frame.to_text(), text);
            assert!(frame.is(&frame, &mut Names::default()), "{text}");
        }
        for wrong in ["a {", "\"a", r#"file {"_placeholder":true,"num":0} @?"#, "file {} @AB4="] {
            assert!(socketio::Frame::from_text(wrong).is_err(), "{wrong}");
        }
    }
}
