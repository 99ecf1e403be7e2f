//! The Socket.IO transport: protocol 5 over Engine.IO 4, over the WebSocket transport.
//!
//! * [`codec`]: packets, without I/O
//! * `driver`: reads and writes them over an open WebSocket
//! * `recovery`: the state for connection state recovery

pub mod codec;
mod driver;
mod recovery;

use std::time::Duration;

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::socketio::{Endpoint, Frame};
use pontoon_sdk::{End, Error, Param, SocketIo, Span, WebSocket, websocket};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use self::codec::{Decoder, Handshake, Packet};
use self::driver::Pongs;
use super::tcp::Address;
use super::websocket::socket::{Reader as WebSocketReader, Writer as WebSocketWriter, read_and_answer};
use super::{Dial, DialError, Dialled, Received, Settings, classify};

pub use driver::{Reader, Writer};
pub use recovery::Recovery;

/// The path of Engine.IO if the URL has none.
const PATH: &str = "/socket.io/";
/// The longest ping timeout that a service may set.
const LONGEST_SILENCE: Duration = Duration::from_secs(3600);
/// How many messages of the largest size a service may send before it confirms the namespace.
const EARLY: usize = 16;
/// The shortest ping timeout that is used.
const SHORTEST_SILENCE: Duration = Duration::from_millis(100);

impl Dial for SocketIo {
    type Reader = Reader;
    type Writer = Writer;
    type Memory = Recovery;

    fn restore(memory: &mut Recovery, position: &[u8]) {
        memory.restore(position);
    }

    fn check(endpoint: &Endpoint) -> Result<(), Error> {
        match endpoint.engine {
            None => Ok(()),
            Some(engine) => Err(Error::config(format!(
                "this program has no engine {engine}; write engine = \"native\", or use the program \
                 pontoon-{engine} (connectors/rust_socketio)"
            ))
            .at("/engine")),
        }
    }

    fn address(endpoint: &Endpoint) -> Option<String> {
        let url = endpoint.parsed_url().ok()?;
        Some(format!("{}://{}", url.scheme, url.authority()))
    }

    fn secrets(endpoint: &Endpoint) -> Vec<String> {
        let auth = endpoint.auth.iter().filter_map(|(_, value)| match value {
            Param::Secret(secret) => Some(secret),
            Param::Plain(_) => None,
        });
        let named = endpoint.query.iter().chain(&endpoint.headers);
        let named = named.filter_map(|(_, value)| match value {
            Param::Secret(secret) => Some(secret),
            Param::Plain(_) => None,
        });
        // A secret that cannot be resolved was not sent.
        auth.chain(named).chain(&endpoint.secrets).filter_map(|secret| secret.reveal().ok()).collect()
    }

    async fn dial(
        endpoint: &Endpoint,
        memory: &mut Recovery,
        settings: &Settings,
    ) -> Result<Dialled<Reader, Writer>, DialError> {
        let limit = settings.config.connect_timeout;
        let end = Instant::now() + limit.0;
        let socket = WebSocket::dial(&socket(endpoint)?, &mut (), settings).await?;
        let dialled = timeout_at(end, handshake(endpoint, memory, settings, socket)).await;
        dialled.unwrap_or_else(|_| Err(unconfirmed(endpoint, limit)))
    }
}

/// The error if the namespace was not confirmed within `transport.connect_timeout`.
pub fn unconfirmed(endpoint: &Endpoint, limit: Span) -> DialError {
    let namespace = &endpoint.namespace;
    DialError::unreachable(format!("the service did not confirm the namespace {namespace} within {limit}"))
}

/// The `open` packet of Engine.IO.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    /// Milliseconds.
    ping_interval: u64,
    /// Milliseconds.
    ping_timeout: u64,
    /// Bytes.
    max_payload: Option<u64>,
}

async fn handshake(
    endpoint: &Endpoint,
    memory: &Recovery,
    settings: &Settings,
    socket: Dialled<WebSocketReader, WebSocketWriter>,
) -> Result<Dialled<Reader, Writer>, DialError> {
    let Dialled { mut reader, mut writer, .. } = socket;
    let first = read_and_answer(&mut reader, &mut writer).await.map_err(broke)?;
    let Open { ping_interval, ping_timeout, max_payload } = open(first)?;
    let pongs = Pongs::default();
    let mut writer = driver::Writer::new(writer, &endpoint.namespace, memory.clone(), pongs.clone());
    let silence = Duration::from_millis(ping_interval.saturating_add(ping_timeout));
    reader.expect_within(silence.clamp(SHORTEST_SILENCE, LONGEST_SILENCE));
    let mut reader = driver::Reader::new(reader, Decoder::new(&endpoint.namespace), memory.clone(), pongs);
    let mut auth = auth(endpoint)?;
    if let Some((pid, offset)) = memory.request() {
        auth.insert("pid".to_owned(), pid.into());
        auth.insert("offset".to_owned(), offset.into());
    }
    writer.send_text(codec::connect(&endpoint.namespace, &auth)).await.map_err(broke)?;
    let (mut early, room) = (0, EARLY * settings.config.message_limit.0);
    let pid = loop {
        let received = reader.receive_and_answer(&mut writer).await.map_err(broke)?;
        match &received {
            Received::Message(Packet::Connect(payload)) => match payload.parse::<Handshake>() {
                Ok(handshake) => break handshake.pid,
                Err(_) => return Err(too_old()),
            },
            Received::Message(Packet::ConnectError(reason)) => {
                return Err(refused(&endpoint.namespace, reason));
            }
            Received::Message(Packet::Disconnect(reason)) => return Err(DialError::unreachable(*reason)),
            Received::Message(Packet::Ping(payload)) => {
                writer.send_text(codec::pong(payload)).await.map_err(broke)?;
                continue;
            }
            // A resumed session receives what it has missed before its CONNECT.
            Received::Message(Packet::Frame(frame)) => early += frame.size() + weight(frame),
            Received::TooLarge(_) => early += size_of_val(&received),
        }
        if early > room {
            return Err(DialError::unreachable(
                "the service sends too much before it confirms the namespace",
            ));
        }
        reader.keep(received);
    };
    let resumed = memory.begin(pid);
    // 0 means unknown. Every packet holds the namespace, unless it is `/`.
    let limit = max_payload.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok());
    let namespace = Some(endpoint.namespace.as_str()).filter(|namespace| *namespace != "/");
    let limit = limit.map(|limit| limit.saturating_sub(namespace.map_or(0, str::len)));
    Ok(Dialled { reader, writer, resumed, limit })
}

/// The memory that the arguments of a frame take besides their text, in bytes.
fn weight(frame: &Frame) -> usize {
    let args = match frame {
        Frame::Event(event) => &event.args,
        Frame::Ack { args, .. } => args,
        Frame::Malformed { .. } => return 0,
    };
    size_of_val(args.values())
}

fn open(first: Received<websocket::Frame>) -> Result<Open, DialError> {
    let text = match &first {
        Received::Message(websocket::Frame::Text(text)) => text.strip_prefix(b"0"),
        Received::Message(websocket::Frame::Binary(_)) | Received::TooLarge(_) => None,
    };
    text.and_then(|json| serde_json::from_slice(json).ok()).ok_or_else(|| {
        DialError::wrong_address(
            "the server speaks WebSocket, but is not an Engine.IO 4 server (Socket.IO 3 or later)",
        )
    })
}

/// A server of protocol 4 or older confirms the namespace without a session id and without a request: it would send every
/// event twice, for its own CONNECT and for ours.
fn too_old() -> DialError {
    DialError::wrong_address(
        "the service speaks Socket.IO 2 or older, and Pontoon supports Socket.IO 3 and later",
    )
    .slowly()
}

/// The error if the service refused the namespace with this text.
pub fn refused(namespace: &str, reason: &str) -> DialError {
    // The message of the reference server for an unknown namespace.
    if reason == "Invalid namespace" {
        return DialError::wrong_address(format!("the service has no namespace {namespace}"));
    }
    let message = format!("the service refused the connection: {reason}");
    if classify::is_rate_limit(reason) {
        return DialError::unreachable(message).slowly();
    }
    DialError::credentials(message)
}

fn broke(end: End) -> DialError {
    DialError::unreachable(format!("the handshake of Socket.IO was broken off: {end}"))
}

/// The `auth` of a connection, with its secrets.
///
/// # Errors
/// If a secret cannot be read.
pub fn auth(endpoint: &Endpoint) -> Result<Map<String, Value>, DialError> {
    let mut auth = Map::new();
    for (name, value) in &endpoint.auth {
        let value = match value {
            Param::Plain(value) => value.clone(),
            Param::Secret(secret) => secret.reveal()?.into(),
        };
        auth.insert(name.clone(), value);
    }
    Ok(auth)
}

/// The WebSocket that carries the session.
fn socket(endpoint: &Endpoint) -> Result<websocket::Endpoint, DialError> {
    let mut socket = websocket::Endpoint::new(&url(endpoint)?)?;
    socket.query = vec![("EIO".to_owned(), "4".into()), ("transport".to_owned(), "websocket".into())];
    socket.query.extend(endpoint.query.iter().cloned());
    socket.headers.clone_from(&endpoint.headers);
    Ok(socket)
}

/// Converts an HTTP URL to a WebSocket URL with the path of Engine.IO.
///
/// # Errors
/// `WrongAddress` if it is not such a URL.
pub fn url(endpoint: &Endpoint) -> Result<String, DialError> {
    let url = endpoint.parsed_url().map_err(|fault| DialError::wrong_address(fault.to_string()))?;
    let scheme = if Address::from(&url).secure { "wss" } else { "ws" };
    let target = url.path_and_query();
    let (path, query) = target.find('?').map_or((&*target, ""), |mark| target.split_at(mark));
    let path = if path == "/" { PATH } else { path };
    Ok(format!("{scheme}://{}{path}{query}", url.authority()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_gets_the_default_one() {
        for (given, made) in [
            ("https://api.example.test", "wss://api.example.test/socket.io/"),
            ("http://h:3000/", "ws://h:3000/socket.io/"),
            ("ws://h:3000/socket.io/", "ws://h:3000/socket.io/"),
            ("wss://h?room=a/b", "wss://h/socket.io/?room=a/b"),
            ("http://h/base/io?x=1", "ws://h/base/io?x=1"),
            ("http://[::1]:80", "ws://[::1]:80/socket.io/"),
        ] {
            assert_eq!(url(&Endpoint::new(given).unwrap()).unwrap(), made);
        }
    }

    #[test]
    fn an_open_packet_must_have_its_timers() {
        let open = |text: &str| open(Received::Message(websocket::Frame::text(text)));
        assert!(open(r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#).is_ok());
        for wrong in
            ["", "0", "0{}", "40", r#"{"pingInterval":1,"pingTimeout":1}"#, r#"0{"pingInterval":-1}"#]
        {
            assert_eq!(
                open(wrong).unwrap_err().kind,
                crate::transport::DialErrorKind::WrongAddress,
                "{wrong}"
            );
        }
    }
}
