//! A WebSocket peer without a library: its frames are bytes that a test chose, and it sees those of the other side as they
//! came, with the end of the TCP connection behind them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Listens on loopback.
#[derive(Debug)]
pub struct BareListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl BareListener {
    /// Listens on a free port.
    ///
    /// # Panics
    /// If there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        Self { listener, address }
    }

    /// Its URL, `ws://…`, without a path.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The next connection that is upgraded, and the path that it asked for.
    ///
    /// # Panics
    /// If none comes in time.
    pub async fn accept(&self) -> (String, BareSocket) {
        let accepting = async {
            loop {
                let (stream, _) = self.listener.accept().await.expect("a listener listens");
                let mut socket = BareSocket::new(stream, false);
                let Some(head) = socket.head().await else { continue };
                let key = field(&head, "sec-websocket-key").unwrap_or_default();
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
                    derive_accept_key(key.as_bytes())
                );
                socket.send_bytes(answer.as_bytes()).await;
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                return (path, socket);
            }
        };
        timeout(DEADLINE, accepting).await.expect("a connection comes in time")
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct BareSocket {
    stream: TcpStream,
    received: Vec<u8>,
    /// Whether it is a client's, which masks its frames.
    masks: bool,
}

/// A frame as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareFrame {
    /// Its first byte: FIN, reserved bits and opcode.
    pub first: u8,
    /// Whether it was masked.
    pub masked: bool,
    /// Its payload, without the mask.
    pub payload: Vec<u8>,
}

impl BareFrame {
    /// Whether it is a close frame.
    pub fn is_close(&self) -> bool {
        self.first == 0x88
    }

    /// The code of a close frame.
    pub fn code(&self) -> Option<u16> {
        self.payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }
}

impl BareSocket {
    fn new(stream: TcpStream, masks: bool) -> Self {
        let _ = stream.set_nodelay(true);
        Self { stream, received: Vec::new(), masks }
    }

    /// Dials `ws://address/path` as a client.
    ///
    /// # Panics
    /// If it is not upgraded.
    pub async fn dial(url: &str) -> Self {
        let (address, path) = url.strip_prefix("ws://").and_then(|rest| rest.split_once('/')).expect("a URL");
        let stream = TcpStream::connect(address).await.expect("it listens");
        let mut socket = Self::new(stream, true);
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.send_bytes(request.as_bytes()).await;
        let head = socket.head().await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        socket
    }

    /// Sends bytes as they are. What the other side does not take any more is lost, as on any connection.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = timeout(DEADLINE, self.stream.write_all(bytes)).await.expect("the other side reads");
    }

    /// Sends a frame, masked if this is the client's end.
    pub async fn send(&mut self, first: u8, payload: &[u8]) {
        let bytes = bare_frame(first, payload, self.masks);
        self.send_bytes(&bytes).await;
    }

    /// The next frame; `None` at the end of the connection.
    ///
    /// # Panics
    /// If neither comes in time.
    pub async fn frame(&mut self) -> Option<BareFrame> {
        loop {
            if let Some((frame, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Some(frame);
            }
            if !self.receive().await.unwrap_or(false) {
                return None;
            }
        }
    }

    /// The next close frame; frames before it are passed over.
    ///
    /// # Panics
    /// If none comes.
    pub async fn close_frame(&mut self) -> BareFrame {
        loop {
            let frame = self.frame().await.expect("a close frame comes before the connection ends");
            if frame.is_close() {
                return frame;
            }
        }
    }

    /// Waits for the end of what the other side sends. `true` if it was an end, `false` if it was a reset.
    ///
    /// # Panics
    /// If it does not end in time, or frames come before.
    pub async fn ended(&mut self) -> bool {
        match self.receive().await {
            Ok(more) => {
                assert!(!more && self.received.is_empty(), "this comes: {:?}", self.received);
                true
            }
            Err(_) => false,
        }
    }

    /// Ends what this side sends (FIN).
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads more. `false` at the end.
    async fn receive(&mut self) -> std::io::Result<bool> {
        let reading = self.stream.read_buf(&mut self.received);
        timeout(DEADLINE, reading).await.expect("something comes in time").map(|read| read > 0)
    }

    /// The head of a request or an answer.
    async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if !self.receive().await.unwrap_or(false) {
                return None;
            }
        }
    }
}

/// The bytes of a frame with any first byte, masked or not.
pub fn bare_frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    const KEY: [u8; 4] = [7, 77, 0, 177];
    let mask = u8::from(masked) << 7;
    let mut bytes = vec![first];
    let length = payload.len();
    if let (Ok(short), 0..126) = (u8::try_from(length), length) {
        bytes.push(mask | short);
    } else if let Ok(medium) = u16::try_from(length) {
        bytes.push(mask | 126);
        bytes.extend(medium.to_be_bytes());
    } else {
        bytes.push(mask | 127);
        bytes.extend((length as u64).to_be_bytes());
    }
    if masked {
        bytes.extend(KEY);
        bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// The first frame of these bytes, and how many they are.
fn parse(bytes: &[u8]) -> Option<(BareFrame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (length, mut at) = match second & 0x7F {
        126 => (usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let masked = second & 0x80 != 0;
    let mut key = [0; 4];
    if masked {
        key = *bytes.get(at..)?.first_chunk()?;
        at += 4;
    }
    let payload = bytes.get(at..at + length)?;
    let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((BareFrame { first, masked, payload }, at + length))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
