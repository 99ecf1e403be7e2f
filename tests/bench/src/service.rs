//! The service that all contenders connect to: it sends numbered messages and answers calls. Its messages are made before
//! they are sent, and many are written at once, so that it is never what limits a result.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pontoon_testkit::bare_frame;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::tally::{DIGITS, FIRST, Schedule, quantile, sorted};

const WRITE: usize = 256 * 1024;
const TEXT: u8 = 0x81;
const PONG: u8 = 0x8A;
/// How far ahead of its first message a paced run is planned.
const LEAD: Duration = Duration::from_millis(50);

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    WebSocket,
    SocketIo,
}

/// A service on a free port of loopback.
pub(crate) struct Service {
    protocol: Protocol,
    address: SocketAddr,
    open: Arc<Open>,
    runtime: Handle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The connections that are ready.
#[derive(Default)]
struct Open {
    /// Those without TLS, in the order in which they became ready.
    plain: Mutex<Vec<Arc<TcpStream>>>,
    count: AtomicUsize,
}

/// How a paced run went.
pub(crate) struct Paced {
    /// How many messages were sent.
    pub(crate) count: u64,
    /// How much later than intended they were written: the 99th percentile, in microseconds.
    pub(crate) late: f64,
}

impl Service {
    /// Listens; with TLS if there is an acceptor, and then nothing is sent.
    pub(crate) fn start(protocol: Protocol, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let open = Arc::new(Open::default());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&open);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, protocol, tls, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { protocol, address, open, runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are ready.
    pub(crate) fn ready(&self) -> usize {
        self.open.count.load(Ordering::Acquire)
    }

    /// Sends messages of this size for so long over the first connection, as fast as they are read, from this number on.
    /// Returns how many.
    pub(crate) fn blast(&self, first: u64, size: usize, time: Duration) -> io::Result<u64> {
        let frame = NumberedFrame::new(self.protocol, size);
        let length = frame.bytes.len();
        let mut chunk = frame.bytes.repeat((WRITE / length).max(1));
        let streams = self.streams();
        let stream = streams.first().ok_or(io::ErrorKind::NotConnected)?;
        let end = Instant::now() + time;
        let mut count = 0;
        while Instant::now() < end {
            for copy in chunk.chunks_exact_mut(length) {
                frame.number_at(copy, first + count);
                count += 1;
            }
            self.write(stream, &chunk)?;
        }
        Ok(count)
    }

    /// Sends messages of this size at this rate, each in its own write at the time that is meant for it, over all
    /// connections in turn. `begin` gets the plan before the first is sent.
    pub(crate) fn paced(
        &self,
        first: u64,
        size: usize,
        (rate, time): (f64, Duration),
        begin: impl FnOnce(Schedule),
    ) -> io::Result<Paced> {
        let streams = self.streams();
        let count = (rate * time.as_secs_f64()) as u64;
        let interval = Duration::from_secs_f64(1.0 / rate);
        let schedule = Schedule { first, start: Instant::now() + LEAD, interval };
        let mut frame = NumberedFrame::new(self.protocol, size);
        let mut late = Vec::new();
        exact_timers();
        begin(schedule);
        for place in 0..count {
            let number = first + place;
            let Some(due) = schedule.due(number) else { continue };
            wait_until(due);
            let bytes = frame.numbered(number);
            let link = ((number - FIRST) % streams.len() as u64) as usize;
            self.write(&streams[link], bytes)?;
            late.push(due.elapsed().as_nanos() as f64 / 1e3);
        }
        Ok(Paced { count, late: quantile(&sorted(late), 0.99) })
    }

    fn streams(&self) -> Vec<Arc<TcpStream>> {
        self.open.plain.lock().unwrap().clone()
    }

    fn write(&self, stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.runtime.block_on(stream.writable())?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Waits until this time, as exactly as the system can.
#[expect(clippy::disallowed_methods, reason = "the generator's own thread")]
fn wait_until(due: Instant) {
    while let Some(rest) = due.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        std::thread::sleep(rest);
    }
}

/// Has the kernel wake this thread when it asks to be, and not up to 50 microseconds later. Linux only; see proc(5).
fn exact_timers() {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let id = thread.as_ref().and_then(|path| path.file_name()).and_then(|id| id.to_str());
    if let Some(id) = id {
        let _ = std::fs::write(format!("/proc/{id}/timerslack_ns"), "1");
    }
}

/// A message whose number can be changed in place.
struct NumberedFrame {
    bytes: Vec<u8>,
    at: usize,
}

impl NumberedFrame {
    /// A message of so many bytes, without what the protocol adds.
    fn new(protocol: Protocol, size: usize) -> Self {
        let message = message(size);
        let payload = match protocol {
            Protocol::WebSocket => message,
            Protocol::SocketIo => format!("42[\"message\",{message}]"),
        };
        let bytes = bare_frame(TEXT, payload.as_bytes(), false);
        let digits = bytes.iter().rposition(u8::is_ascii_digit).unwrap_or_default() + 1;
        Self { at: digits - DIGITS, bytes }
    }

    fn numbered(&mut self, number: u64) -> &[u8] {
        write_number(&mut self.bytes[self.at..self.at + DIGITS], number);
        &self.bytes
    }

    /// Numbers a copy.
    fn number_at(&self, copy: &mut [u8], number: u64) {
        write_number(&mut copy[self.at..self.at + DIGITS], number);
    }
}

fn write_number(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A chat message of so many bytes, whose last field is its number. Its fields are in alphabetical order, so that it is the
/// same when a library has parsed and written it.
pub(crate) fn message(size: usize) -> String {
    let around = format!(r#"{{"room":"lobby","text":"","type":"message","x":{FIRST}}}"#).len();
    let text: String =
        "Hello, is there somebody? ".chars().cycle().take(size.saturating_sub(around)).collect();
    format!(r#"{{"room":"lobby","text":"{text}","type":"message","x":{FIRST}}}"#)
}

async fn accept(listener: TcpListener, protocol: Protocol, tls: Option<TlsAcceptor>, open: Arc<Open>) {
    // They end with the runtime, so that nothing outlives the service.
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (tls, open) = (tls.clone(), Arc::clone(&open));
        tokio::spawn(async move {
            let _ = match tls {
                Some(tls) => serve_tls(stream, &tls, &open).await,
                None => serve(stream, protocol, &open).await,
            };
        });
    }
}

async fn serve_tls(stream: TcpStream, tls: &TlsAcceptor, open: &Open) -> io::Result<()> {
    let mut stream = tls.accept(stream).await?;
    upgrade(&mut stream).await?;
    open.count.fetch_add(1, Ordering::Release);
    let mut frames = Frames::default();
    loop {
        frames.fill_from(&mut stream).await?;
        let answers = frames.answers(Protocol::WebSocket);
        stream.write_all(&answers.bytes).await?;
    }
}

async fn serve(mut stream: TcpStream, protocol: Protocol, open: &Open) -> io::Result<()> {
    upgrade(&mut stream).await?;
    let stream = Arc::new(stream);
    let ready = || {
        open.plain.lock().unwrap().push(Arc::clone(&stream));
        open.count.fetch_add(1, Ordering::Release);
    };
    match protocol {
        Protocol::WebSocket => ready(),
        Protocol::SocketIo => {
            let hello = r#"0{"sid":"s","upgrades":[],"pingInterval":300000,"pingTimeout":300000,"maxPayload":1000000}"#;
            write_now(&stream, &bare_frame(TEXT, hello.as_bytes(), false)).await?;
        }
    }
    let mut frames = Frames::default();
    loop {
        stream.readable().await?;
        match frames.fill_now(&stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            result => result?,
        }
        let answers = frames.answers(protocol);
        write_now(&stream, &answers.bytes).await?;
        if answers.joined {
            ready();
        }
    }
}

async fn write_now(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The opening handshake (RFC 6455 section 4.2). Whatever path and protocols are asked for are right.
async fn upgrade(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut some = [0; 2048];
        let read = stream.read(&mut some).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&some[..read]);
    }
    let head = String::from_utf8_lossy(&head);
    let key = head.lines().filter_map(|line| line.split_once(':'));
    let mut key = key.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let key = key.next().map(|(_, key)| key.trim()).ok_or(io::ErrorKind::InvalidData)?;
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await
}

/// The frames that a client sends.
#[derive(Default)]
struct Frames {
    received: Vec<u8>,
}

/// What is to be written to a client.
#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
    /// It has joined the Socket.IO namespace.
    joined: bool,
}

#[derive(Deserialize)]
struct Call<'a> {
    id: u64,
    #[serde(borrow)]
    params: &'a RawValue,
}

impl Frames {
    const READ: usize = 16 * 1024;

    async fn fill_from(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        let mut some = [0; 1024];
        let read = stream.read(&mut some).await?;
        self.received.extend_from_slice(&some[..read]);
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn fill_now(&mut self, stream: &TcpStream) -> io::Result<()> {
        let mut some = [0; Self::READ];
        let read = stream.try_read(&mut some)?;
        self.received.extend_from_slice(&some[..read]);
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Takes all complete frames, and answers them.
    fn answers(&mut self, protocol: Protocol) -> Answers {
        let mut answers = Answers::default();
        let mut at = 0;
        while let Some((opcode, payload, length)) = unmasked(&self.received[at..]) {
            at += length;
            match (opcode, protocol) {
                (1, Protocol::SocketIo) if payload.starts_with(b"40") => {
                    answers.bytes.extend(bare_frame(TEXT, br#"40{"sid":"n"}"#, false));
                    answers.joined = true;
                }
                (1, Protocol::WebSocket) => {
                    if let Ok(Call { id, params }) = serde_json::from_slice(&payload) {
                        let answer = format!(r#"{{"id":{id},"result":{params}}}"#);
                        answers.bytes.extend(bare_frame(TEXT, answer.as_bytes(), false));
                    }
                }
                (9, _) => answers.bytes.extend(bare_frame(PONG, &payload, false)),
                _ => {}
            }
        }
        self.received.drain(..at);
        answers
    }
}

/// The first frame, if it is complete: its opcode, its payload, and how many bytes it takes (RFC 6455 section 5.2).
fn unmasked(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (length, at) = match second & 0x7F {
        126 => (usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let key: [u8; 4] = *bytes.get(at..)?.first_chunk()?;
    let payload = bytes.get(at + 4..at + 4 + length)?;
    let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((first & 0x0F, payload, at + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_size_and_its_number() {
        for size in [76, 300, 4096, 65536] {
            let message = message(size);
            assert_eq!(message.len(), size);
            assert_eq!(crate::tally::number(message.as_bytes()), Some(FIRST));
        }
    }

    #[test]
    fn a_frame_is_numbered_in_place() {
        for protocol in [Protocol::WebSocket, Protocol::SocketIo] {
            let mut frame = NumberedFrame::new(protocol, 300);
            let bytes = frame.numbered(FIRST + 4_711).to_vec();
            assert_eq!(crate::tally::number(&bytes), Some(FIRST + 4_711));
        }
    }

    #[test]
    fn a_call_is_answered_with_its_parameters() {
        let call = br#"{"params":{"x":1000000001},"id":7}"#;
        let mut frames = Frames { received: bare_frame(TEXT, call, true) };
        let answer = br#"{"id":7,"result":{"x":1000000001}}"#;
        assert_eq!(frames.answers(Protocol::WebSocket).bytes, bare_frame(TEXT, answer, false));
        assert!(frames.received.is_empty());
    }
}
