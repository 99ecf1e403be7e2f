//! What differs between the protocols: endpoints, and frames as scripts see and write them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pontoon_generic::encoding::{Encoding, FrameReader};
use pontoon_generic::headers::check_headers;
use pontoon_generic::mapping::with_secrets;
use pontoon_sdk::settings::{check, escaped, is_token};
use pontoon_sdk::{
    Error, Outbox, Param, Raw, Result, SocketIo, Transport, WebSocket, connector, socketio, websocket,
};
use rquickjs::function::{Args, IntoArgs};
use rquickjs::{Ctx, TypedArray};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::config::Config;
use crate::engine::{Act, Engine, Fault};

/// A protocol that a script can speak.
pub trait Speaks: Transport<Frame: connector::Frame> + Sized {
    /// Checks the settings. Returns where to connect.
    ///
    /// # Errors
    /// `Config`, with the place.
    fn endpoint(config: &Config) -> Result<Self::Endpoint>;
}

/// What a session does with its frames.
pub trait Frames: connector::Frame + Clone {
    /// A frame that was received, inflated and decoded. `None` if its message goes on in the next.
    ///
    /// # Errors
    /// As [`FrameReader::read`].
    fn decoded<'a>(
        &'a self,
        _reader: &mut FrameReader,
        _out: &mut Outbox<Self>,
    ) -> Result<Option<Cow<'a, Self>>> {
        Ok(Some(Cow::Borrowed(self)))
    }

    /// Gives a frame that was received to the script.
    fn decode(&self, engine: &Engine, now: f64) -> Result<Vec<Act>, Fault>;

    /// The payload of what is published of it.
    fn payload(&self) -> Raw;

    /// The frame that a script sends.
    ///
    /// # Errors
    /// What to write.
    fn sent(act: &Act, encoding: Encoding) -> Result<Self, String>;
}

impl Speaks for WebSocket {
    fn endpoint(config: &Config) -> Result<websocket::Endpoint> {
        let mut endpoint = websocket::Endpoint::new(&config.url).map_err(|error| error.at("/url"))?;
        check_headers(&config.headers)?;
        for (place, subprotocol) in config.subprotocols.iter().enumerate() {
            let is_name = !matches!(subprotocol, Param::Plain(name) if !is_token(name));
            check(
                is_name,
                &format!("/subprotocols/{place}"),
                "this is not a subprotocol; write letters, digits, hyphens and dots",
            )?;
        }
        endpoint.query = with_secrets(&config.query, &config.secrets, "/query")?;
        endpoint.headers = with_secrets(&config.headers, &config.secrets, "/headers")?;
        endpoint.subprotocols.clone_from(&config.subprotocols);
        endpoint.require_subprotocol = false;
        endpoint.secrets = config.secrets.values().cloned().collect();
        Ok(endpoint)
    }
}

impl Frames for websocket::Frame {
    fn decoded<'a>(
        &'a self,
        reader: &mut FrameReader,
        out: &mut Outbox<Self>,
    ) -> Result<Option<Cow<'a, Self>>> {
        reader.read(self, out)
    }

    fn decode(&self, engine: &Engine, now: f64) -> Result<Vec<Act>, Fault> {
        let called = match self {
            Self::Text(bytes) => {
                engine.call::<_, ()>("frame", now, (String::from_utf8_lossy(bytes).into_owned(),))
            }
            Self::Binary(bytes) => engine.call::<_, ()>("frame", now, Binary(bytes)),
        };
        called.map(|((), acts)| acts)
    }

    fn payload(&self) -> Raw {
        connector::Frame::raw(self)
    }

    fn sent(act: &Act, encoding: Encoding) -> Result<Self, String> {
        match act.kind.as_str() {
            "json" => Ok(encoding.encoded(Self::text(act.text.as_str()))),
            "binary" => STANDARD
                .decode(&act.text)
                .map(|bytes| Self::Binary(bytes.into()))
                .map_err(|error| error.to_string()),
            _ => Ok(Self::text(act.text.as_str())),
        }
    }
}

/// Bytes as the argument of a function.
struct Binary<'a>(&'a [u8]);

impl<'js> IntoArgs<'js> for Binary<'_> {
    fn num_args(&self) -> usize {
        1
    }

    fn into_args(self, args: &mut Args<'js>) -> rquickjs::Result<()> {
        let ctx: Ctx<'js> = args.ctx().clone();
        args.push_arg(TypedArray::new_copy(ctx, self.0)?)
    }
}

impl Speaks for SocketIo {
    fn endpoint(config: &Config) -> Result<socketio::Endpoint> {
        let mut endpoint = socketio::Endpoint::new(&config.url).map_err(|error| error.at("/url"))?;
        check_headers(&config.headers)?;
        let taken = |name: &&String| matches!(name.as_str(), "EIO" | "transport" | "sid");
        if let Some(name) = config.query.keys().find(taken) {
            let error = Error::config(format!("the query's {name} is set by pontoon itself; leave it out"));
            return Err(error.at(format!("/query/{}", escaped(name))));
        }
        if let Some(namespace) = &config.namespace {
            let odd = |c: char| c.is_whitespace() || c.is_control() || c == ',' || c == '?';
            let is_namespace = namespace.starts_with('/') && !namespace.contains(odd);
            check(is_namespace, "/namespace", "this is not a namespace; write / or a name such as /admin")?;
            endpoint.namespace.clone_from(namespace);
        }
        endpoint.auth = config.auth.clone().into_iter().collect();
        endpoint.query = with_secrets(&config.query, &config.secrets, "/query")?;
        endpoint.headers = with_secrets(&config.headers, &config.secrets, "/headers")?;
        endpoint.secrets = config.secrets.values().cloned().collect();
        Ok(endpoint)
    }
}

/// A Socket.IO message as a script writes it: an event, or an acknowledgement with a number only.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    event: Option<String>,
    #[serde(default)]
    args: Vec<Box<RawValue>>,
    ack: Option<u64>,
}

impl Frames for socketio::Frame {
    fn decode(&self, engine: &Engine, now: f64) -> Result<Vec<Act>, Fault> {
        let values = |args: &socketio::Args| -> Vec<Box<RawValue>> {
            args.values().iter().filter_map(|value| value.parse().ok()).collect()
        };
        let attachments = |args: &socketio::Args| -> Vec<String> {
            args.attachments().iter().map(|bytes| STANDARD.encode(bytes)).collect()
        };
        let seen = match self {
            Self::Event(event) => json!({
                "event": event.name, "args": values(&event.args), "ack": event.ack, "attachments": attachments(&event.args),
            }),
            Self::Ack { id, args } => {
                json!({ "args": values(args), "ack": id, "attachments": attachments(args) })
            }
            Self::Malformed { reason, .. } => {
                return Err(Fault { message: reason.clone(), exhausted: false });
            }
        };
        engine.call::<_, ()>("decode", now, (seen.to_string(),)).map(|((), acts)| acts)
    }

    fn payload(&self) -> Raw {
        match self {
            Self::Event(event) => event.args.payload(),
            other => connector::Frame::raw(other),
        }
    }

    fn sent(act: &Act, _: Encoding) -> Result<Self, String> {
        let write = "write { event: \"name\", args: […] }, or { ack: 7, args: […] } as an acknowledgement";
        let message: Message =
            serde_json::from_str(&act.text).map_err(|error| format!("{write}: {error}"))?;
        let args = message.args.into_iter().map(Raw::from).collect();
        match (message.event, message.ack) {
            (Some(name), ack) => Ok(Self::Event(socketio::Event { ack, ..socketio::Event::new(name, args) })),
            (None, Some(id)) => Ok(Self::ack(id, args)),
            (None, None) => Err(write.to_owned()),
        }
    }
}
