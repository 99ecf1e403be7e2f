//! Codec for the packets of Engine.IO 4 and Socket.IO protocol 5, without I/O.
//!
//! A packet is `<engine type>[<packet type>[<attachments>-][/<namespace>,][<id>][<JSON>]]`; its attachments are the binary
//! messages after it. Anything else becomes [`Frame::Malformed`]; no input can stop the decoder.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write as _;

use bytes::Bytes;
use pontoon_sdk::socketio::{Args, Event, Frame};
use pontoon_sdk::{Error, Raw};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

/// The most binary attachments that a message may announce. The SDK sends no more either.
const MAX_ATTACHMENTS: usize = 10;

/// A decoded packet.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    /// EVENT, ACK or a malformed message: for the session.
    Frame(Frame),
    /// Ping: the answer is `3` and these bytes.
    Ping(Bytes),
    /// CONNECT: the namespace is confirmed, with this payload.
    Connect(Raw),
    /// CONNECT_ERROR: the namespace is refused, for this reason.
    ConnectError(String),
    /// DISCONNECT, or close of Engine.IO: the service ended the session.
    Disconnect(&'static str),
}

/// Decodes messages to packets. Keeps at most one packet whose attachments are missing.
#[derive(Debug)]
pub struct Decoder {
    namespace: String,
    packets: VecDeque<Packet>,
    partial: Option<Partial>,
}

/// A packet whose attachments have not all been received.
#[derive(Debug)]
struct Partial {
    text: Bytes,
    body: Body,
    missing: usize,
    attachments: Vec<Bytes>,
}

/// A packet without its attachments.
#[derive(Debug)]
enum Body {
    Event { name: String, values: Vec<Raw>, ack: Option<u64> },
    Ack { id: u64, values: Vec<Raw> },
}

/// Why a message is not a packet.
type Fault = Cow<'static, str>;

impl Decoder {
    /// A decoder for one namespace, which begins with `/`.
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), packets: VecDeque::new(), partial: None }
    }

    /// The next decoded packet.
    pub fn take(&mut self) -> Option<Packet> {
        self.packets.pop_front()
    }

    /// Whether attachments are missing.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// Decodes a text message. A byte order mark before it and NUL bytes after it are ignored.
    pub fn text(&mut self, message: Bytes) {
        let text = Raw::json_text(&message);
        let text = text.map_or_else(|_| message.clone(), |(text, _)| message.slice_ref(text.as_bytes()));
        if self.partial.is_some() && text.first() == Some(&b'4') {
            self.give_up("a text message in place of an attachment");
        }
        match self.read(&text) {
            Ok(Some(packet)) => self.packets.push_back(packet),
            Ok(None) => {}
            Err(fault) => self.malformed(Raw::of_bytes(&message), &fault),
        }
    }

    /// Decodes a binary message.
    pub fn binary(&mut self, bytes: Bytes) {
        let Some(partial) = &mut self.partial else {
            // Never read as anything else: it may be the attachment of a malformed packet, with content of third parties.
            return self.malformed(Raw::of_binary(&bytes), "an attachment without a packet");
        };
        partial.attachments.push(bytes);
        partial.missing -= 1;
        if partial.missing == 0
            && let Some(partial) = self.partial.take()
        {
            match partial.complete() {
                Ok(frame) => self.packets.push_back(Packet::Frame(frame)),
                Err((raw, fault)) => self.malformed(raw, &fault),
            }
        }
    }

    /// Gives up the packet whose attachments are missing.
    pub fn give_up(&mut self, reason: &str) {
        if let Some(partial) = self.partial.take() {
            self.malformed(partial.raw(), reason);
        }
    }

    fn malformed(&mut self, raw: Raw, reason: &str) {
        let reason = reason.to_owned();
        self.packets.push_back(Packet::Frame(Frame::Malformed { raw, reason }));
    }

    fn read(&mut self, text: &Bytes) -> Result<Option<Packet>, Fault> {
        let (kind, rest) = split_first(text).ok_or("an empty message")?;
        match kind {
            b'0' => Err("a second handshake".into()),
            b'1' => Ok(Some(Packet::Disconnect("the service closed the session"))),
            b'2' => Ok(Some(Packet::Ping(rest))),
            // Pong (we send no pings) and noop.
            b'3' | b'6' => Ok(None),
            b'4' => self.packet(text, rest),
            b'5' => Err("an upgrade of a transport that cannot be upgraded".into()),
            _ => Err("not a packet of Engine.IO 4".into()),
        }
    }

    fn packet(&mut self, text: &Bytes, packet: Bytes) -> Result<Option<Packet>, Fault> {
        let (kind, rest) = split_first(&packet).ok_or("a packet without a type")?;
        let (count, rest) = if matches!(kind, b'5' | b'6') { announced(rest)? } else { (0, rest) };
        let (namespace, rest) = namespace(rest);
        if namespace.as_ref() != self.namespace.as_bytes() {
            return Err("a packet of another namespace".into());
        }
        if matches!(kind, b'0' | b'1' | b'4') {
            return self.control(kind, rest).map(Some);
        }
        let (number, json) = number(rest)?;
        let body = match kind {
            b'2' | b'5' => {
                let mut values = elements(&json)?.into_iter();
                let name = values.next().ok_or("an event without a name")?;
                Body::Event { name: event_name(&name)?, values: values.collect(), ack: number }
            }
            b'3' | b'6' => {
                let id = number.ok_or("an acknowledgement without a number")?;
                Body::Ack { id, values: elements(&json)? }
            }
            _ => return Err("not a packet of Socket.IO protocol 5".into()),
        };
        if count == 0 {
            return Ok(Some(Packet::Frame(body.frame(Args::new))));
        }
        let attachments = Vec::with_capacity(count);
        self.partial = Some(Partial { text: text.clone(), body, missing: count, attachments });
        Ok(None)
    }

    fn control(&self, kind: u8, json: Bytes) -> Result<Packet, Fault> {
        match kind {
            b'0' if json.is_empty() => Ok(Packet::Connect(Raw::null())),
            b'0' if json.first() == Some(&b'{') => Raw::read::<IgnoredAny>(&json)
                .map(|(_, raw)| Packet::Connect(raw))
                .map_err(|error| format!("a confirmation that is not JSON: {}", error.message()).into()),
            b'0' => Err("a confirmation that is not a JSON object".into()),
            b'1' => Ok(Packet::Disconnect("the service disconnected us from the namespace")),
            _ => Ok(Packet::ConnectError(refusal(&json))),
        }
    }
}

impl Partial {
    fn complete(self) -> Result<Frame, (Raw, String)> {
        let values = match &self.body {
            Body::Event { values, .. } | Body::Ack { values, .. } => values.clone(),
        };
        match Args::with_attachments(values, self.attachments.clone()) {
            Ok(args) => Ok(self.body.frame(|_| args)),
            Err(error) => Err((self.raw(), error.message().to_owned())),
        }
    }

    /// What was received of it.
    fn raw(&self) -> Raw {
        let attachments = self.attachments.iter().map(|bytes| Raw::of_binary(bytes));
        let attachments: Vec<_> =
            attachments.filter_map(|raw| raw.parse::<serde_json::Value>().ok()).collect();
        let all = json!({ "packet": String::from_utf8_lossy(&self.text), "attachments": attachments });
        Raw::json(&all).unwrap_or_else(|_| Raw::null())
    }
}

impl Body {
    fn frame(self, args: impl FnOnce(Vec<Raw>) -> Args) -> Frame {
        match self {
            Self::Event { name, values, ack } => Frame::Event(Event { name, args: args(values), ack }),
            Self::Ack { id, values } => Frame::Ack { id, args: args(values) },
        }
    }
}

/// The payload of CONNECT since protocol 5, with `pid` for connection state recovery.
#[derive(Debug, Deserialize)]
pub struct Handshake {
    /// The session's id.
    #[serde(rename = "sid")]
    _sid: String,
    /// The session's private id, if the service can resume it.
    #[serde(default)]
    pub pid: Option<String>,
}

fn split_first(bytes: &Bytes) -> Option<(u8, Bytes)> {
    Some((*bytes.first()?, bytes.slice(1..)))
}

/// The number of attachments, up to the dash.
fn announced(packet: Bytes) -> Result<(usize, Bytes), Fault> {
    let (count, rest) = number(packet)?;
    let count = count.ok_or("a binary packet without the number of its attachments")?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_ATTACHMENTS);
    match (count, rest.first()) {
        (None, _) => Err("a packet with more than 10 attachments".into()),
        (Some(count), Some(b'-')) => Ok((count, rest.slice(1..))),
        (Some(_), _) => Err("a binary packet without a dash after the number of its attachments".into()),
    }
}

fn namespace(packet: Bytes) -> (Bytes, Bytes) {
    if packet.first() != Some(&b'/') {
        return (Bytes::from_static(b"/"), packet);
    }
    match packet.iter().position(|byte| *byte == b',') {
        Some(comma) => (packet.slice(..comma), packet.slice(comma + 1..)),
        None => (packet, Bytes::new()),
    }
}

fn number(packet: Bytes) -> Result<(Option<u64>, Bytes), Fault> {
    let length = packet.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return Ok((None, packet));
    }
    let digits = std::str::from_utf8(packet.get(..length).unwrap_or_default()).unwrap_or_default();
    let number = digits.parse().map_err(|_| "a number that is too large")?;
    Ok((Some(number), packet.slice(length..)))
}

fn elements(json: &Bytes) -> Result<Vec<Raw>, Fault> {
    let fault = |error: Error| format!("a packet whose arguments are not a JSON array: {}", error.message());
    Raw::elements(json).map_err(|error| fault(error).into())
}

/// A name is a string; the reference implementation accepts a number, too.
fn event_name(name: &Raw) -> Result<String, Fault> {
    match name.as_bytes().first() {
        Some(b'"') => name.parse().map_err(|_| "an event whose name is not a string".into()),
        Some(b'-' | b'0'..=b'9') => Ok(String::from_utf8_lossy(name.as_bytes()).into_owned()),
        _ => Err("an event whose name is not a string".into()),
    }
}

/// The reason in a CONNECT_ERROR: a string, or an object with a `message`.
pub fn refusal(json: &Bytes) -> String {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Reason {
        Object { message: String },
        Text(String),
    }
    match Raw::read(json) {
        Ok((Reason::Object { message } | Reason::Text(message), _)) => message,
        Err(_) => String::from_utf8_lossy(json).into_owned(),
    }
}

/// The messages that carry a frame: a text, and its attachments.
pub fn encode(frame: Frame, namespace: &str) -> (String, Vec<Bytes>) {
    let (plain, name, number, args) = match &frame {
        Frame::Event(Event { name, args, ack }) => (2, Some(name.as_str()), *ack, args),
        Frame::Ack { id, args } => (3, None, Some(*id), args),
        // A malformed message is never sent; a noop replaces it.
        Frame::Malformed { .. } => return ("6".to_owned(), Vec::new()),
    };
    let attachments = args.attachments().to_vec();
    let mut text = String::from("4");
    // Writing to a string cannot fail.
    let _ = match attachments.len() {
        0 => write!(text, "{plain}"),
        count => write!(text, "{}{count}-", plain + 3),
    };
    push_namespace(&mut text, namespace);
    if let Some(number) = number {
        let _ = write!(text, "{number}");
    }
    text.push_str(&args.array(name));
    (text, attachments)
}

/// The message that connects to a namespace.
pub fn connect(namespace: &str, auth: &serde_json::Map<String, serde_json::Value>) -> String {
    let mut text = String::from("40");
    push_namespace(&mut text, namespace);
    if !auth.is_empty() {
        let _ = write!(text, "{}", json!(auth));
    }
    text
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> String {
    format!("3{}", String::from_utf8_lossy(payload))
}

/// The message that disconnects from a namespace.
pub fn disconnect(namespace: &str) -> String {
    let mut text = String::from("41");
    push_namespace(&mut text, namespace);
    text
}

fn push_namespace(text: &mut String, namespace: &str) {
    if namespace != "/" {
        text.push_str(namespace);
        text.push(',');
    }
}

#[cfg(test)]
mod tests;
