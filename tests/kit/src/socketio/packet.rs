//! Socket.IO packets as a server sees them: read with plain text searches, and written. It shares nothing with the daemon.

use bytes::Bytes;
use pontoon_sdk::Raw;
use pontoon_sdk::socketio::{Args, Event, Frame};
use pontoon_sdk::websocket;
use serde_json::Value;
use serde_json::value::RawValue;

/// What a text message is, as far as that is known without what follows it.
#[derive(Debug)]
pub(super) enum Packet {
    /// `40`
    Connect { namespace: String, auth: Option<Value> },
    /// `42`, `43`, or `45`, `46` with so many binary messages to come.
    Message { namespace: String, head: Head, attachments: usize },
    /// `3`
    Pong,
    /// Another packet of the protocol, such as `41`, `1` or `2probe`.
    Other,
}

/// A message but for its attachments.
#[derive(Debug)]
pub(super) struct Head {
    /// `None` for an acknowledgement.
    name: Option<String>,
    id: Option<u64>,
    values: Vec<Raw>,
}

/// Reads a text message.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(text: &str) -> Result<Packet, String> {
    let Some(rest) = text.strip_prefix('4') else {
        return match text.chars().next() {
            Some('3') if text.len() == 1 => Ok(Packet::Pong),
            Some('1' | '2' | '3' | '5' | '6') => Ok(Packet::Other),
            _ => Err("no packet of Engine.IO begins so".to_owned()),
        };
    };
    let kind = rest.chars().next().ok_or("the packet has no type")?;
    let (attachments, rest) = match (kind, rest.get(1..).unwrap_or_default()) {
        ('5' | '6', rest) => {
            let (count, rest) = rest.split_once('-').ok_or("the number of attachments has no end")?;
            (number(count)? as usize, rest)
        }
        (_, rest) => (0, rest),
    };
    let (namespace, rest) = match rest.starts_with('/') {
        true => rest.split_once(',').unwrap_or((rest, "")),
        false => ("/", rest),
    };
    let namespace = namespace.to_owned();
    match kind {
        '0' => {
            let auth = match rest {
                "" => None,
                json => Some(serde_json::from_str(json).map_err(|error| error.to_string())?),
            };
            Ok(Packet::Connect { namespace, auth })
        }
        '1' => Ok(Packet::Other),
        '2' | '3' | '5' | '6' => {
            Ok(Packet::Message { namespace, head: head(matches!(kind, '2' | '5'), rest)?, attachments })
        }
        _ => Err(format!("a client sends no packet of the type {kind}")),
    }
}

fn head(is_event: bool, text: &str) -> Result<Head, String> {
    let json = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.get(..text.len() - json.len()).unwrap_or_default();
    let id = if digits.is_empty() { None } else { Some(number(digits)?) };
    let values: Vec<Box<RawValue>> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let mut values = values.into_iter().map(Raw::from);
    let name = match is_event {
        true => {
            let name = values.next().ok_or("the event has no name")?;
            Some(name.parse::<String>().map_err(|_| "the event's name is not a text")?)
        }
        false if id.is_none() => return Err("the acknowledgement has no number".to_owned()),
        false => None,
    };
    Ok(Head { name, id, values: values.collect() })
}

fn number(digits: &str) -> Result<u64, String> {
    digits.parse().map_err(|_| format!("\"{digits}\" is not a number"))
}

impl Head {
    /// The whole message.
    ///
    /// # Errors
    /// What is wrong with its attachments.
    pub(super) fn with(self, attachments: Vec<Bytes>) -> Result<Frame, String> {
        let args = if attachments.is_empty() {
            Args::new(self.values)
        } else {
            Args::with_attachments(self.values, attachments).map_err(|error| error.to_string())?
        };
        Ok(match (self.name, self.id) {
            (Some(name), ack) => Frame::Event(Event { name, args, ack }),
            (None, id) => Frame::Ack { id: id.unwrap_or_default(), args },
        })
    }
}

/// What could not be understood, as a frame.
pub(super) fn malformed(text: &str, reason: String) -> Frame {
    Frame::Malformed { raw: Raw::of_bytes(&Bytes::copy_from_slice(text.as_bytes())), reason }
}

/// The messages that a frame is sent in. A malformed one is sent as the text that it is.
pub(super) fn write(frame: &Frame, namespace: &str) -> Vec<websocket::Frame> {
    let (kind, name, id, args) = match frame {
        Frame::Event(event) => (2, Some(event.name.as_str()), event.ack, &event.args),
        Frame::Ack { id, args } => (3, None, Some(*id), args),
        Frame::Malformed { raw, .. } => {
            let text = raw.parse::<String>();
            let text = text.map_or_else(|_| Bytes::copy_from_slice(raw.as_bytes()), Bytes::from);
            return vec![websocket::Frame::Text(text)];
        }
    };
    let count = args.attachments().len();
    let mut text = match count {
        0 => format!("4{kind}"),
        _ => format!("4{}{count}-", kind + 3),
    };
    text.push_str(&prefix(namespace));
    if let Some(id) = id {
        text.push_str(&id.to_string());
    }
    text.push_str(&args.array(name));
    let attachments = args.attachments().iter().map(|bytes| websocket::Frame::Binary(bytes.clone()));
    std::iter::once(websocket::Frame::text(text)).chain(attachments).collect()
}

/// How a packet names its namespace.
pub(super) fn prefix(namespace: &str) -> String {
    if namespace == "/" { String::new() } else { format!("{namespace},") }
}
