//! The operations and their bodies, checked before anything is done.

use pontoon_sdk::operations::Body;
use pontoon_sdk::settings::is_token;
use pontoon_sdk::{Code, Command, Error, Result, operations};
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::peer::{Peer, Title};

/// How many subprotocols may be offered.
const MAX_PROTOCOLS: usize = 16;
/// The longest subprotocol, in bytes.
const MAX_PROTOCOL: usize = 256;

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Opens a socket under a title, in the place of one of that title.
        Create(Create) = "create", Acked;
        /// Sends a text over a socket.
        Send(Send) = "send", Sent;
        /// Closes a socket for good, if there is one of this title.
        Remove(Remove) = "remove", Accepted, idempotent;
        /// Lists sockets and scripts, with the phase of each.
        List = "list", Response, idempotent;
        /// Sends a text, or JSON, to a script that has connected.
        ScriptSend(ScriptSend) = "script.send", Sent;
        /// Sends a text over a socket (channel), or has a script (script/<title>) write it into the chat.
        MessageSend(MessageSend) = "message.send", Sent;
    }
}

/// The body of `create`: what the page's `app.createWebsocket(title, url, protocols)` takes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The title that the socket gets.
    pub(crate) title: Title,
    /// Where it leads.
    pub(crate) url: String,
    /// Subprotocols to offer, in order.
    #[serde(default)]
    pub(crate) protocols: Vec<String>,
    /// Whether it is dialled again when it ends. The app itself never does.
    #[serde(default)]
    pub(crate) reconnect: bool,
}

/// The body of `send`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// The socket.
    pub(crate) title: Title,
    /// The text that is sent.
    pub(crate) message: String,
}

/// The body of `remove`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The socket.
    pub(crate) title: Title,
}

/// The body of `script.send`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptSend {
    /// The script, by the title with which it has connected.
    #[serde(default = "Title::main")]
    pub(crate) title: Title,
    /// A text, or JSON that is sent as text.
    pub(crate) message: ScriptText,
}

/// The body of `message.send`, which is the same for every service.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChannelText {
    /// A socket's title, or `script/` and a script's.
    channel: Peer,
    /// The text.
    text: String,
}

/// A text for a socket or a script, from the body of `message.send`.
pub struct MessageSend {
    pub(crate) peer: Peer,
    pub(crate) text: String,
}

impl Body for MessageSend {
    fn schema() -> Schema {
        schema_for!(ChannelText)
    }

    fn read(command: &Command) -> Result<Self> {
        let ChannelText { channel: peer, text } = Body::read(command)?;
        let text = if peer.is_script() { write_chat(&text)? } else { text };
        Ok(Self { peer, text })
    }
}

/// What a script gets: a text as it is, anything else as JSON; in a form that every build of the app can read.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "Box<RawValue>")]
#[schemars(inline, with = "serde_json::Value")]
pub(crate) struct ScriptText(pub(crate) String);

impl TryFrom<Box<RawValue>> for ScriptText {
    type Error = &'static str;

    fn try_from(message: Box<RawValue>) -> Result<Self, &'static str> {
        let text = serde_json::from_str(message.get()).unwrap_or_else(|_| message.get().to_owned());
        readable(text).map(Self).ok_or(UNREADABLE)
    }
}

const UNREADABLE: &str = "it holds a character that the app cannot read as JSON, such as a control character";

/// The frame that has a script write a text into the chat.
fn write_chat(text: &str) -> Result<String> {
    let frame = format!(r#"{{"type":"writeChat","text":{}}}"#, Value::from(text));
    readable(frame).ok_or_else(|| Error::rejected(Code::BadBody, UNREADABLE).at("/text"))
}

/// JSON without `\/` and `\u…`, which some builds of the app cannot read and JSON allows for `/` and `é`; otherwise the same.
/// Text that is not JSON is left as it is. `None` if it holds a character that can be written in no other way: a control
/// character, or half a surrogate pair.
fn readable(text: String) -> Option<String> {
    if !(text.contains("\\/") || text.contains("\\u")) || serde_json::from_str::<&RawValue>(&text).is_err() {
        return Some(text);
    }
    let mut readable = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, from)) = rest.find('"').and_then(|at| rest.split_at_checked(at)) {
        let mut strings = serde_json::Deserializer::from_str(from).into_iter::<String>();
        let string = strings.next()?.ok()?;
        if string.contains(|c| c < ' ' && !"\u{8}\u{c}\n\r\t".contains(c)) {
            return None;
        }
        readable.push_str(before);
        readable.push_str(&Value::from(string).to_string());
        rest = from.get(strings.byte_offset()..)?;
    }
    readable.push_str(rest);
    Some(readable)
}

/// Checks subprotocols: they are tokens of HTTP (RFC 6455 §4.1).
///
/// # Errors
/// `Rejected` with 400.
pub(crate) fn check_protocols(protocols: &[String]) -> Result<()> {
    let wrong = |text: String, pointer: String| Err(Error::rejected(Code::BadBody, text).at(pointer));
    if protocols.len() > MAX_PROTOCOLS {
        return wrong(format!("at most {MAX_PROTOCOLS} subprotocols are offered"), "/protocols".to_owned());
    }
    match protocols.iter().position(|protocol| protocol.len() > MAX_PROTOCOL || !is_token(protocol)) {
        Some(place) => wrong(
            format!("a subprotocol has 1 to {MAX_PROTOCOL} letters, digits and !#$%&'*+-.^_`|~"),
            format!("/protocols/{place}"),
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_escaped_that_the_app_cannot_read_and_nothing_else_is_changed() {
        for (text, expected) in [
            (r#"{"a\/b":"http:\/\/x\/"}"#, r#"{"a/b":"http://x/"}"#),
            (r#"["\\/","\\\/","\"\/","\\u00e9"]"#, r#"["\\/","\\/","\"/","\\u00e9"]"#),
            (r#"{"n":1e999, "z":"\u00e9\u002F\n\/"}"#, "{\"n\":1e999, \"z\":\"é/\\n/\"}"),
            (r#"["\ud83d\ude00é"]"#, r#"["😀é"]"#),
            (r#"["\u0022\u005C\u000a\u000D\u0009\u0008\f"]"#, r#"["\"\\\n\r\t\b\f"]"#),
            (r"not \/ JSON \u00e9", r"not \/ JSON \u00e9"),
            (r#""\"#, r#""\"#),
        ] {
            let json = readable(text.to_owned()).unwrap();
            assert_eq!(json, expected);
            let read = |text: &str| serde_json::from_str::<Value>(text).ok();
            assert_eq!(read(&json), read(text));
        }
    }

    #[test]
    fn what_can_be_written_in_no_other_way_is_refused() {
        for text in [
            r#"["\u0000"]"#,
            r#"["\u001b[31m"]"#,
            r#"["\ud83d"]"#,
            r#"["\ud83dx"]"#,
            r#"["\ud83d\u0041"]"#,
            r#"["\ude00"]"#,
        ] {
            assert_eq!(readable(text.to_owned()), None, "{text}");
        }
    }
}
