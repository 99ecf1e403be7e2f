//! The Socket.IO transport: protocol 5 over Engine.IO 4, over the WebSocket transport.
//!
//! * [`codec`]: packets, without I/O
//! * `driver`: reads and writes them over an open WebSocket
//! * `recovery`: what is remembered to go on after a break

pub mod codec;
mod driver;
mod recovery;

use std::time::Duration;

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::socketio::{AuthValue, Endpoint, Engine, Frame};
use pontoon_sdk::url::{self, Url};
use pontoon_sdk::{End, Error, Param, SocketIo, Span, WebSocket, websocket};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use self::codec::{Decoder, Handshake, Heard};
use self::driver::Pongs;
use super::tcp::Address;
use super::websocket::socket::{Reader as WebSocketReader, Writer as WebSocketWriter, read_and_answer};
use super::{Dial, DialError, Dialled, Received, Settings, meaning};

pub use driver::{Reader, Writer};
pub use recovery::Recovery;

/// Where Engine.IO listens unless the URL says otherwise.
const PATH: &str = "/socket.io/";
/// The longest silence that a service may ask us to bear.
const LONGEST_SILENCE: Duration = Duration::from_secs(3600);
/// How many of the largest messages a service may say before it confirms the namespace.
const EARLY: usize = 16;
/// The shortest that is taken seriously.
const SHORTEST_SILENCE: Duration = Duration::from_millis(100);

impl Dial for SocketIo {
    type Reader = Reader;
    type Writer = Writer;
    type Memory = Recovery;

    fn check(endpoint: &Endpoint) -> Result<(), Error> {
        match endpoint.engine {
            Engine::Native => Ok(()),
            Engine::RustSocketio => Err(Error::config(
                "this program has no engine rust-socketio; write engine = \"native\", or use the program \
                 pontoon-rust-socketio (connectors/rust_socketio)",
            )
            .at("/engine")),
        }
    }

    fn secrets(endpoint: &Endpoint) -> Vec<String> {
        let auth = endpoint.auth.iter().filter_map(|(_, value)| match value {
            AuthValue::Secret(secret) => Some(secret),
            AuthValue::Plain(_) => None,
        });
        let named = endpoint.query.iter().chain(&endpoint.headers);
        let named = named.filter_map(|(_, value)| match value {
            Param::Secret(secret) => Some(secret),
            Param::Plain(_) => None,
        });
        // One that cannot be looked up was not sent.
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

/// The namespace was not confirmed within `transport.connect_timeout`.
pub fn unconfirmed(endpoint: &Endpoint, limit: Span) -> DialError {
    let namespace = &endpoint.namespace;
    DialError::unreachable(format!("the service did not confirm the namespace {namespace} within {limit}"))
}

/// What an Engine.IO server says first.
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
    let mut writer = driver::Writer::new(writer, &endpoint.namespace, pongs.clone());
    let silence = Duration::from_millis(ping_interval.saturating_add(ping_timeout));
    reader.expect_within(silence.clamp(SHORTEST_SILENCE, LONGEST_SILENCE));
    let mut reader = driver::Reader::new(reader, Decoder::new(&endpoint.namespace), memory.clone(), pongs);
    let mut auth = auth(endpoint)?;
    if let Some((pid, offset)) = memory.ask() {
        auth.insert("pid".to_owned(), pid.into());
        auth.insert("offset".to_owned(), offset.into());
    }
    writer.say(codec::connect(&endpoint.namespace, &auth)).await.map_err(broke)?;
    let (mut early, room) = (0, EARLY * settings.config.message_limit.0);
    let pid = loop {
        let received = reader.hear_and_answer(&mut writer).await.map_err(broke)?;
        match &received {
            Received::Message(Heard::Connected(words)) => match words.parse::<Handshake>() {
                Ok(handshake) => break handshake.pid,
                Err(_) => return Err(too_old()),
            },
            Received::Message(Heard::Refused(words)) => return Err(refused(&endpoint.namespace, words)),
            Received::Message(Heard::Closed(words)) => return Err(DialError::unreachable(*words)),
            Received::Message(Heard::Ping(payload)) => {
                writer.say(codec::pong(payload)).await.map_err(broke)?;
                continue;
            }
            // What a resumed session has missed is sent before its confirmation.
            Received::Message(Heard::Frame(frame)) => early += frame.size() + weight(frame),
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
    // None at all means none that is told. Any namespace but this stands in every packet.
    let limit = max_payload.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok());
    let namespace = Some(endpoint.namespace.as_str()).filter(|namespace| *namespace != "/");
    let limit = limit.map(|limit| limit.saturating_sub(namespace.map_or(0, str::len)));
    Ok(Dialled { reader, writer, resumed, limit })
}

/// What the arguments of a frame take in memory beside their text, in bytes.
fn weight(frame: &Frame) -> usize {
    let args = match frame {
        Frame::Event(event) => &event.args,
        Frame::Ack(ack) => &ack.args,
        Frame::Malformed(_) => return 0,
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
            "what answers speaks WebSocket, but is no Engine.IO 4 server (Socket.IO 3 or later)",
        )
    })
}

/// A server of protocol 4 or older confirms a namespace without a session id, and by itself: it would send every event
/// twice, for the confirmation that it made by itself and for ours.
fn too_old() -> DialError {
    DialError::wrong_address(
        "the service speaks Socket.IO 2 or older, and Pontoon speaks Socket.IO 3 and later",
    )
    .slowly()
}

/// The service refused the namespace with this text.
pub fn refused(namespace: &str, words: &str) -> DialError {
    // The reference server's words for a namespace that it does not have.
    if words == "Invalid namespace" {
        return DialError::wrong_address(format!("the service has no namespace {namespace}"));
    }
    let message = format!("the service refused the connection: {words}");
    if meaning::is_rate_limit(words) {
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
            AuthValue::Plain(value) => value.clone(),
            AuthValue::Secret(secret) => secret.reveal()?.into(),
        };
        auth.insert(name.clone(), value);
    }
    Ok(auth)
}

/// The WebSocket that carries the session.
fn socket(endpoint: &Endpoint) -> Result<websocket::Endpoint, DialError> {
    let mut socket = websocket::Endpoint::new(&url(&endpoint.url)?)?;
    socket.query = vec![("EIO".to_owned(), "4".into()), ("transport".to_owned(), "websocket".into())];
    socket.query.extend(endpoint.query.iter().cloned());
    socket.headers.clone_from(&endpoint.headers);
    Ok(socket)
}

/// A web URL as that of a WebSocket, with the path where Engine.IO listens.
///
/// # Errors
/// `WrongAddress` if it is not such a URL.
pub fn url(url: &str) -> Result<String, DialError> {
    let url = Url::parse(url, url::SOCKET_IO).map_err(|fault| DialError::wrong_address(fault.to_string()))?;
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
    fn a_url_without_a_path_gets_the_usual_one() {
        for (given, made) in [
            ("https://api.example.test", "wss://api.example.test/socket.io/"),
            ("http://h:3000/", "ws://h:3000/socket.io/"),
            ("ws://h:3000/socket.io/", "ws://h:3000/socket.io/"),
            ("wss://h?room=a/b", "wss://h/socket.io/?room=a/b"),
            ("http://h/base/io?x=1", "ws://h/base/io?x=1"),
            ("http://[::1]:80", "ws://[::1]:80/socket.io/"),
        ] {
            assert_eq!(url(given).unwrap(), made);
        }
    }

    #[test]
    fn what_a_session_may_ask_of_us_is_bounded() {
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
