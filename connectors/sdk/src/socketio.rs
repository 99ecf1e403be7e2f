//! Frames and endpoints of the Socket.IO transport (protocol 5 over Engine.IO 4).

use base64::Engine as _;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::connector;
use crate::error::{Error, Result};
use crate::event::Raw;
use crate::secret::{Param, Secret};
use crate::url::{Fault, Url};

/// The Socket.IO transport. A connection is up once the service has confirmed the namespace.
pub enum SocketIo {}

impl connector::Transport for SocketIo {
    type Frame = Frame;
    type Endpoint = Endpoint;
}

/// The most binary attachments that one message may have.
const MAX_ATTACHMENTS: usize = 10;

/// One message within the namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// An event with a name, and any number of arguments.
    Event(Event),
    /// The answer to an event that asked for one.
    Ack {
        /// The number that the event gave.
        id: u64,
        /// What comes with it.
        args: Args,
    },
    /// Something that was received and is not a message; never sent.
    Malformed {
        /// What came, as it came.
        raw: Raw,
        /// What is wrong with it.
        reason: String,
    },
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name; any text.
    pub name: String,
    /// What comes with it.
    pub args: Args,
    /// The number to answer under, if an acknowledgement is asked for: by the service, or by us (see [`crate::Pending`]).
    pub ack: Option<u64>,
}

/// Arguments, each as JSON, and the binary data that they refer to.
///
/// Binary data stands in an argument as `{"_placeholder":true,"num":0}`, `num` being its place among the attachments.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args {
    values: Vec<Raw>,
    attachments: Vec<Bytes>,
}

impl Args {
    /// These values, without attachments.
    pub fn new(values: Vec<Raw>) -> Self {
        Self { values, attachments: Vec::new() }
    }

    /// With attachments.
    ///
    /// # Errors
    /// `Rejected` if there are more than 10, or the placeholders do not name each of them once.
    pub fn with_attachments(values: Vec<Raw>, attachments: Vec<Bytes>) -> Result<Self> {
        let wrong = |text: String| Err(Error::rejected(crate::Code::BadBody, text));
        if attachments.len() > MAX_ATTACHMENTS {
            let count = attachments.len();
            return wrong(format!("{count} attachments; at most {MAX_ATTACHMENTS} can be sent"));
        }
        let mut named = Vec::new();
        for value in &values {
            placeholders(&value.parse()?, &mut named);
        }
        named.sort_unstable();
        if !named.iter().copied().eq(0..attachments.len() as u64) {
            return wrong(format!(
                "the placeholders name the attachments {named:?}, and there are {}; each must be named once",
                attachments.len()
            ));
        }
        Ok(Self { values, attachments })
    }

    /// The values.
    pub fn values(&self) -> &[Raw] {
        &self.values
    }

    /// The binary data.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Everything in one value: the only argument itself, `null` if there is none, else an array of them. With
    /// attachments it is `{"args": […], "attachments": ["<base64>", …]}`.
    pub fn payload(&self) -> Raw {
        match (self.values.as_slice(), self.attachments.is_empty()) {
            ([], true) => Raw::null(),
            ([only], true) => only.clone(),
            (_, true) => Raw::checked(self.array(None)),
            (_, false) => Raw::checked(format!(
                "{{\"args\":{},\"attachments\":{}}}",
                self.array(None),
                base64_list(&self.attachments)
            )),
        }
    }

    /// The packet that they stand in, without its attachments: a JSON array of the event's name, if there is one, and the
    /// values.
    pub fn array(&self, name: Option<&str>) -> String {
        let name = name.map(|name| Value::from(name).to_string());
        let values = self.values.iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        format!("[{}]", name.into_iter().chain(values).collect::<Vec<_>>().join(","))
    }

    fn text_size(&self) -> usize {
        self.values.iter().map(|value| value.as_bytes().len() + 1).sum()
    }
}

impl Event {
    /// An event with these arguments, which asks for no acknowledgement.
    pub fn new(name: impl Into<String>, values: Vec<Raw>) -> Self {
        Self { name: name.into(), args: Args::new(values), ack: None }
    }

    /// Reads the argument at this place; `null` where there is none.
    ///
    /// # Errors
    /// `Protocol` if it is of another shape.
    pub fn read<T: DeserializeOwned>(&self, place: usize) -> Result<T> {
        match self.args.values.get(place) {
            Some(value) => value.parse(),
            None => Raw::null().parse(),
        }
    }
}

impl Frame {
    /// An event with one argument, which asks for no acknowledgement.
    pub fn event(name: impl Into<String>, value: Raw) -> Self {
        Self::Event(Event::new(name, vec![value]))
    }

    /// An event with one argument, which asks for the acknowledgement of this number.
    pub fn call(id: u64, name: impl Into<String>, value: Raw) -> Self {
        Self::Event(Event { ack: Some(id), ..Event::new(name, vec![value]) })
    }

    /// An acknowledgement.
    pub fn ack(id: u64, values: Vec<Raw>) -> Self {
        Self::Ack { id, args: Args::new(values) }
    }
}

/// What stands around the arguments of a message at most: packet types, numbers, quotes and brackets.
const AROUND: usize = 48;

impl Frame {
    /// The size of the text at most, and that of the attachments.
    fn sizes(&self) -> (usize, &[Bytes]) {
        match self {
            Self::Event(event) => {
                (written(&event.name) + event.args.text_size() + AROUND, &event.args.attachments)
            }
            Self::Ack { args, .. } => (args.text_size() + AROUND, &args.attachments),
            Self::Malformed { raw, .. } => (raw.as_bytes().len(), &[]),
        }
    }
}

impl connector::Frame for Frame {
    fn size(&self) -> usize {
        let (text, attachments) = self.sizes();
        text + attachments.iter().map(Bytes::len).sum::<usize>()
    }

    fn largest(&self) -> usize {
        let (text, attachments) = self.sizes();
        attachments.iter().map(Bytes::len).fold(text, usize::max)
    }

    /// An event as `["name", …]`, an acknowledgement as `[…]`; with attachments `{"packet": […], "attachments": […]}`.
    fn raw(&self) -> Raw {
        let (packet, attachments) = match self {
            Self::Event(Event { name, args, .. }) => (args.array(Some(name)), &args.attachments),
            Self::Ack { args, .. } => (args.array(None), &args.attachments),
            Self::Malformed { raw, .. } => return raw.clone(),
        };
        Raw::checked(if attachments.is_empty() {
            packet
        } else {
            format!("{{\"packet\":{packet},\"attachments\":{}}}", base64_list(attachments))
        })
    }
}

/// The length of a text in JSON at most, without its quotes.
fn written(text: &str) -> usize {
    let escaped = text.bytes().filter(|byte| *byte < b' ' || matches!(byte, b'"' | b'\\')).count();
    text.len() + 5 * escaped
}

fn base64_list(attachments: &[Bytes]) -> String {
    let codes = attachments.iter().map(|bytes| base64::engine::general_purpose::STANDARD.encode(bytes));
    Value::from_iter(codes).to_string()
}

/// The attachments that a value names.
fn placeholders(value: &Value, named: &mut Vec<u64>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| placeholders(item, named)),
        Value::Object(fields) if fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            named.extend(fields.get("num").and_then(Value::as_u64));
        }
        Value::Object(fields) => fields.values().for_each(|field| placeholders(field, named)),
        _ => {}
    }
}

/// Where to connect, and how.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `http://`, `https://`, `ws://` or `wss://`, without secrets. Its path is where Engine.IO listens; without one
    /// that is `/socket.io/`.
    pub url: String,
    /// The namespace, which begins with `/`.
    pub namespace: String,
    /// What is sent with CONNECT: the fields of one object.
    pub auth: Vec<(String, Param<Value>)>,
    /// Added to the URL's query, percent-encoded.
    pub query: Vec<(String, Param)>,
    /// Headers of the upgrade request.
    pub headers: Vec<(String, Param)>,
    /// Secrets that a session puts into its messages; what the service sends is logged without them.
    pub secrets: Vec<Secret>,
    /// The crate that speaks the protocol in place of the daemon, such as `rust-socketio`, where the daemon was built with
    /// it.
    pub engine: Option<&'static str>,
}

impl Endpoint {
    /// An endpoint with nothing but its URL, in the default namespace.
    ///
    /// # Errors
    /// `Config` if it is not such a URL, has no host, or carries user info or a fragment.
    pub fn new(url: &str) -> Result<Self> {
        let endpoint = Self {
            url: url.to_owned(),
            namespace: "/".to_owned(),
            auth: Vec::new(),
            query: Vec::new(),
            headers: Vec::new(),
            secrets: Vec::new(),
            engine: None,
        };
        endpoint.parsed_url()?;
        Ok(endpoint)
    }

    /// The URL, taken apart. An Engine.IO server is known by its web address as well.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parsed_url(&self) -> Result<Url<'_>, Fault> {
        Url::parse(&self.url, &[("http", 80), ("https", 443), ("ws", 80), ("wss", 443)])
    }
}

#[cfg(test)]
mod tests;
