//! A NATS client that only reads what it is to verify: the protocol's lines, without a library in between
//! (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::tally::{Form, Schedule, Tally};

const READ: usize = 256 * 1024;
/// How often a reader looks whether it is to stop.
const POLL: Duration = Duration::from_millis(50);

/// A message of a subscription.
pub(crate) struct Message<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) reply: &'a [u8],
    /// As on the wire; empty if there are none.
    pub(crate) headers: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What was received and not handled is from `start` to `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    /// Connects, and subscribes to these subjects. What is published from now on is received.
    pub(crate) fn subscribe(address: SocketAddr, subjects: &[&str]) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(POLL))?;
        let mut connection = Self { stream, buffer: vec![0; 2 * READ], start: 0, end: 0 };
        let mut text =
            "CONNECT {\"verbose\":false,\"headers\":true,\"protocol\":1,\"no_responders\":false}\r\n"
                .to_owned();
        for (number, subject) in subjects.iter().enumerate() {
            text.push_str(&format!("SUB {subject} {number}\r\n"));
        }
        text.push_str("PING\r\n");
        connection.send(text.as_bytes())?;
        let end = Instant::now() + Duration::from_secs(30);
        while !connection.buffer[..connection.end].windows(6).any(|line| line == b"PONG\r\n") {
            if Instant::now() > end {
                return Err(ErrorKind::TimedOut.into());
            }
            connection.fill()?;
        }
        Ok(connection)
    }

    /// Writes lines.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits a moment for messages, and handles all that there are. Returns whether there were any.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(&Message<'_>, Instant)) -> io::Result<bool> {
        if !self.fill()? {
            return Ok(false);
        }
        let at = Instant::now();
        let mut pinged = false;
        loop {
            let rest = &self.buffer[self.start..self.end];
            let Some(line) = rest.iter().position(|byte| *byte == b'\n') else { break };
            let (line, behind) = (rest[..line].trim_ascii_end(), &rest[line + 1..]);
            let has_headers = line.starts_with(b"HMSG ");
            let mut taken = rest.len() - behind.len();
            if has_headers || line.starts_with(b"MSG ") {
                let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').skip(1).collect();
                let sizes = if has_headers { 2 } else { 1 };
                let [subject, _, between @ ..] = fields.as_slice() else {
                    return Err(ErrorKind::InvalidData.into());
                };
                let (reply, sizes) = between.split_at(between.len().saturating_sub(sizes));
                let total = size(sizes.last())?;
                let headers = if has_headers { size(sizes.first())? } else { 0 };
                let Some(payload) = behind.get(..total + 2) else { break };
                let (headers, body) = payload[..total].split_at(headers);
                each(&Message { subject, reply: reply.first().unwrap_or(&&b""[..]), headers, body }, at);
                taken += total + 2;
            } else if line == b"PING" {
                pinged = true;
            } else if line.starts_with(b"-ERR") {
                return Err(io::Error::other(String::from_utf8_lossy(line).into_owned()));
            }
            self.start += taken;
        }
        if pinged {
            self.send(b"PONG\r\n")?;
        }
        Ok(true)
    }

    /// Reads once. Returns whether there was something.
    fn fill(&mut self) -> io::Result<bool> {
        // There is always room for a whole read behind the largest message.
        if self.buffer.len() - self.end < READ {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.buffer.len() - self.end < READ {
                self.buffer.resize(self.end + READ, 0);
            }
        }
        let read = self.stream.read(&mut self.buffer[self.end..]);
        self.end += *read.as_ref().unwrap_or(&0);
        match read {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn size(field: Option<&&[u8]>) -> io::Result<usize> {
    let text = field.and_then(|field| std::str::from_utf8(field).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| ErrorKind::InvalidData.into())
}

impl Message<'_> {
    /// The message, to be compared with those of others.
    fn form(&self) -> Form {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut headers: Vec<String> = self.headers().into_iter().map(|(name, _)| name).collect();
        headers.sort();
        Form { subject: text(self.subject), headers, body: text(self.body) }
    }

    fn headers(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(self.headers);
        let fields = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    }
}

/// Reads numbered events in a thread, until it is dropped.
pub(crate) struct Subscriber {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    /// Subscribes.
    pub(crate) fn start(address: SocketAddr, subject: &str, links: usize) -> io::Result<Self> {
        let mut connection = Connection::subscribe(address, &[subject])?;
        let tally = Arc::new(Mutex::new(Tally::new(links)));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&tally), Arc::clone(&stop));
        let read = move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut tally = None;
                let read = connection.receive(|message, at| {
                    let tally: &mut MutexGuard<'_, Tally> =
                        tally.get_or_insert_with(|| shared.lock().unwrap());
                    tally.received(message.body, at);
                    if tally.form.is_none() {
                        tally.form = Some(message.form());
                        tally.headers = message.headers();
                    }
                });
                // What is missing then shows as lost.
                if read.is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::spawn(read);
        Ok(Self { tally, stop, thread: Some(thread) })
    }

    /// What was received so far.
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap()
    }

    /// Measures how late events are from now on.
    pub(crate) fn measure(&self, schedule: Schedule) {
        self.tally().measure(schedule);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
