//! The client protocol of NATS, as far as publishing needs it: the operations of a server, read within bounds, and events
//! as they are published (<https://docs.nats.io/reference/reference-protocols/nats-protocol>, ADR-4 for headers).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The longest line of a server, in bytes. INFO is the longest: it lists the servers of a cluster.
pub(super) const MAX_LINE: usize = 64 * 1024;
/// The largest message that is read, with its headers. A confirmation has about 100 bytes; a larger message is skipped.
pub(super) const MAX_MESSAGE: usize = 16 * 1024;
/// How much is read at a time, and kept while nothing is there.
const READ: usize = 8 * 1024;
/// How many arguments an operation has at the most: subject, sid, reply, size of the headers, size of all.
const MAX_ARGUMENTS: usize = 5;

/// What headers begin with.
const VERSION: &[u8] = b"NATS/1.0";
const LINE_END: &[u8] = b"\r\n";
/// A stream stores the message only behind that of this sequence (ADR-8).
const EXPECTED: &[u8] = b"Nats-Expected-Last-Sequence: ";

/// One operation of a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operation<'a> {
    /// What the server is, as JSON.
    Info(&'a [u8]),
    /// A message of a subscription.
    Message(Message<'a>),
    /// A message that is too large to be read; its bytes are skipped.
    Skipped,
    /// The server asks for a [`PONG`].
    Ping,
    /// The answer to a [`PING`].
    Pong,
    /// Confirmation of an operation, which only verbose connections get.
    Ok,
    /// The server refuses something.
    Error(&'a [u8]),
}

/// A message of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) subject: &'a [u8],
    /// The number that we gave the subscription.
    pub(super) subscription: u64,
    /// Whether its headers begin with a status, such as 503 for a subject that has no subscriber.
    pub(super) has_status: bool,
    pub(super) payload: &'a [u8],
}

/// What a server never sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolError {
    #[error("it sends a line of more than {MAX_LINE} bytes")]
    LineTooLong,
    #[error("it sends an operation that NATS does not have")]
    UnknownOperation,
    #[error("it sends an operation whose arguments cannot be read")]
    Arguments,
    #[error("it sends a message that is longer than announced")]
    MessageEnd,
    #[error("it sends an INFO that cannot be read")]
    Info,
    #[error("it sends something else than INFO first, or more than that before TLS")]
    First,
}

/// What was received and not used yet.
pub(super) struct Incoming {
    bytes: Vec<u8>,
    /// Where what was not used begins and ends.
    start: usize,
    end: usize,
    /// How many bytes of a message that is too large are still to come.
    skip: usize,
}

impl Incoming {
    /// Nothing was received yet.
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, skip: 0 }
    }

    /// Whether everything that was received was used.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The next operation, if all of it was received.
    ///
    /// # Errors
    /// See [`ProtocolError`]; nothing can be read behind it.
    pub(super) fn next(&mut self) -> Result<Option<Operation<'_>>, ProtocolError> {
        let skipped = self.skip.min(self.end - self.start);
        self.start += skipped;
        self.skip -= skipped;
        let unread = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some(found) = find(unread)? else { return Ok(None) };
        self.start += found.length;
        self.skip = found.skip;
        Ok(Some(found.operation))
    }

    /// Reads what has arrived.
    ///
    /// # Errors
    /// Those of the stream, and if it has ended.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.make_room();
        let mut room = ReadBuf::new(self.bytes.get_mut(self.end..).unwrap_or_default());
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        if read == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")));
        }
        self.end += read;
        Poll::Ready(Ok(()))
    }

    /// What is kept is less than one operation, so it never grows past the longest.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.bytes.len() - self.end < READ {
            self.bytes.resize(self.end + READ, 0);
        }
    }

    /// Gives back memory that is not needed now.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            (self.start, self.end) = (0, 0);
        }
    }
}

/// An operation at the beginning of what was received.
struct Found<'a> {
    operation: Operation<'a>,
    /// How many bytes it has, without those to skip.
    length: usize,
    skip: usize,
}

fn find(bytes: &[u8]) -> Result<Option<Found<'_>>, ProtocolError> {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX_LINE { Ok(None) } else { Err(ProtocolError::LineTooLong) };
    };
    let (line, rest) = bytes.split_at(end + 1);
    let text = line.trim_ascii();
    let name = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (name, arguments) = text.split_at(name);
    let arguments = arguments.trim_ascii_start();
    let is = |operation: &str| name.eq_ignore_ascii_case(operation.as_bytes());
    let operation = if is("MSG") || is("HMSG") {
        return message(is("HMSG"), line.len(), arguments, rest);
    } else if is("PING") {
        Operation::Ping
    } else if is("PONG") {
        Operation::Pong
    } else if is("INFO") {
        Operation::Info(arguments)
    } else if is("-ERR") {
        Operation::Error(arguments)
    } else if is("+OK") {
        Operation::Ok
    } else {
        return Err(ProtocolError::UnknownOperation);
    };
    Ok(Some(Found { operation, length: line.len(), skip: 0 }))
}

/// `MSG <subject> <sid> [reply] <size>`, `HMSG <subject> <sid> [reply] <size of the headers> <size of all>`, and what
/// follows the line.
fn message<'a>(
    has_headers: bool,
    line: usize,
    arguments: &'a [u8],
    rest: &'a [u8],
) -> Result<Option<Found<'a>>, ProtocolError> {
    let mut split = arguments.split(u8::is_ascii_whitespace).filter(|argument| !argument.is_empty());
    let mut list = [b"".as_slice(); MAX_ARGUMENTS + 1];
    let count = list.iter_mut().zip(&mut split).map(|(place, argument)| *place = argument).count();
    let (headers, size) = match (has_headers, list.get(..count).unwrap_or_default()) {
        (false, [_, _, size] | [_, _, _, size]) => (0, number(size)?),
        (true, [_, _, headers, size] | [_, _, _, headers, size]) => (number(headers)?, number(size)?),
        _ => return Err(ProtocolError::Arguments),
    };
    if headers > size {
        return Err(ProtocolError::Arguments);
    }
    let whole = size + LINE_END.len();
    if size > MAX_MESSAGE {
        return Ok(Some(Found { operation: Operation::Skipped, length: line, skip: whole }));
    }
    let Some((message, behind)) = rest.split_at_checked(size) else { return Ok(None) };
    match behind.get(..LINE_END.len()) {
        None => return Ok(None),
        Some(LINE_END) => {}
        Some(_) => return Err(ProtocolError::MessageEnd),
    }
    let (headers, payload) = message.split_at(headers);
    let has_status = headers.strip_prefix(VERSION).is_some_and(|behind| behind.starts_with(b" "));
    let message = Message { subject: list[0], subscription: number(list[1])? as u64, has_status, payload };
    Ok(Some(Found { operation: Operation::Message(message), length: line + whole, skip: 0 }))
}

/// A size in bytes. The server's own limit has far fewer digits.
fn number(digits: &[u8]) -> Result<usize, ProtocolError> {
    let is_size = digits.len() <= 10 && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_size);
    text.and_then(|text| text.parse().ok()).ok_or(ProtocolError::Arguments)
}

/// The round trip: a server answers with PONG once it has processed everything before.
pub(super) const PING: &[u8] = b"PING\r\n";
/// The answer to a PING of the server.
pub(super) const PONG: &[u8] = b"PONG\r\n";

/// What is published.
pub(super) struct Publish<'a> {
    pub(super) subject: &'a [u8],
    /// Where it is confirmed, if a stream confirms it: this, and the number behind it.
    pub(super) reply: Option<(&'a str, u64)>,
    /// Lines of headers, each with its end.
    pub(super) headers: &'a [&'a [u8]],
    /// The sequence that the stream must be at.
    pub(super) expected: Option<u64>,
    pub(super) body: &'a [u8],
}

impl Publish<'_> {
    /// How many bytes count against the server's `max_payload`: headers and body.
    pub(super) fn size(&self) -> usize {
        self.header_size() + self.body.len()
    }

    fn header_size(&self) -> usize {
        let lines: usize = self.headers.iter().map(|lines| lines.len()).sum();
        let digits = |number: u64| number.checked_ilog10().map_or(1, |log| log as usize + 1);
        let expected = self.expected.map_or(0, |last| EXPECTED.len() + digits(last) + LINE_END.len());
        VERSION.len() + LINE_END.len() + lines + expected + LINE_END.len()
    }

    /// Appends `HPUB <subject> [reply] <size of the headers> <size of all>`, headers and body.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let headers = self.header_size();
        to.reserve(self.subject.len() + headers + self.body.len() + 128);
        to.extend_from_slice(b"HPUB ");
        to.extend_from_slice(self.subject);
        to.push(b' ');
        if let Some((reply, number)) = self.reply {
            to.extend_from_slice(reply.as_bytes());
            push_number(to, number);
            to.push(b' ');
        }
        push_number(to, headers as u64);
        to.push(b' ');
        push_number(to, self.size() as u64);
        to.extend_from_slice(LINE_END);
        to.extend_from_slice(VERSION);
        to.extend_from_slice(LINE_END);
        for lines in self.headers {
            to.extend_from_slice(lines);
        }
        if let Some(last) = self.expected {
            to.extend_from_slice(EXPECTED);
            push_number(to, last);
            to.extend_from_slice(LINE_END);
        }
        to.extend_from_slice(LINE_END);
        to.extend_from_slice(self.body);
        to.extend_from_slice(LINE_END);
    }
}

/// Appends a number in decimal digits.
fn push_number(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that is read of these bytes when they arrive in chunks that end at these places: the operations as text,
    /// and the error behind them.
    fn read(bytes: &[u8], mut ends: Vec<usize>) -> (Vec<String>, Option<ProtocolError>) {
        ends.retain(|end| *end < bytes.len());
        ends.push(bytes.len());
        ends.sort_unstable();
        let (mut incoming, mut operations, mut start) = (Incoming::new(), Vec::new(), 0);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for end in ends {
            let mut chunk = &bytes[start..end];
            start = end;
            while !chunk.is_empty() {
                assert!(matches!(incoming.poll_read(&mut chunk, &mut cx), Poll::Ready(Ok(()))));
                loop {
                    match incoming.next() {
                        Ok(Some(operation)) => operations.push(format!("{operation:?}")),
                        Ok(None) => break,
                        Err(error) => return (operations, Some(error)),
                    }
                }
                assert!(incoming.bytes.len() <= MAX_LINE + MAX_MESSAGE + 2 * READ);
            }
        }
        (operations, None)
    }

    const CONVERSATION: &[u8] = b"INFO {\"max_payload\":1}\r\nPING\r\n+OK\r\npong\r\nMSG a.b 1 5\r\nh\r\nlo\r\nMSG a 1 r.x 0\r\n\r\nHMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\nHMSG a 1 r 22 24\r\nNATS/1.0\r\nA: 12345\r\n\r\nxy\r\n-ERR 'No'\r\nMSG a 1 20000\r\n";

    fn conversation() -> Vec<u8> {
        [CONVERSATION, &[b'\n'; 20_000], b"\r\nPONG\r\n"].concat()
    }

    fn message<'a>(subject: &'a str, has_status: bool, payload: &'a str) -> Operation<'a> {
        Operation::Message(Message {
            subject: subject.as_bytes(),
            subscription: 1,
            has_status,
            payload: payload.as_bytes(),
        })
    }

    #[test]
    fn every_operation_of_a_server_is_read() {
        let wanted = [
            Operation::Info(b"{\"max_payload\":1}"),
            Operation::Ping,
            Operation::Ok,
            Operation::Pong,
            message("a.b", false, "h\r\nlo"),
            message("a", false, ""),
            message("a", true, ""),
            message("a", false, "xy"),
            Operation::Error(b"'No'"),
            Operation::Skipped,
            Operation::Pong,
        ];
        let wanted: Vec<_> = wanted.iter().map(|operation| format!("{operation:?}")).collect();
        assert_eq!(read(&conversation(), Vec::new()), (wanted, None));
    }

    #[test]
    fn what_no_server_sends_is_an_error_and_takes_no_memory() {
        let long = [b"INFO ".as_slice(), &vec![b'x'; 2 * MAX_LINE]].concat();
        let header_only = [b"MSG a 1 3\r\n".as_slice(), b"abcde\r\n"].concat();
        for (bytes, error) in [
            (long.as_slice(), ProtocolError::LineTooLong),
            (&vec![b' '; 2 * MAX_LINE], ProtocolError::LineTooLong),
            (b"HTTP/1.1 200 OK\r\n", ProtocolError::UnknownOperation),
            (b"\r\n", ProtocolError::UnknownOperation),
            (b"MSG a 1\r\n", ProtocolError::Arguments),
            (b"MSG a 1 r r r r 5\r\n", ProtocolError::Arguments),
            (b"MSG a 1 -1\r\n", ProtocolError::Arguments),
            (b"MSG a 1 99999999999\r\n", ProtocolError::Arguments),
            (b"MSG a 1 +5\r\n", ProtocolError::Arguments),
            (b"HMSG a 1 7 6\r\n", ProtocolError::Arguments),
            (&header_only, ProtocolError::MessageEnd),
        ] {
            assert_eq!(
                read(bytes, Vec::new()).1,
                Some(error),
                "{}",
                String::from_utf8_lossy(&bytes[..9.min(bytes.len())])
            );
        }
        // Skipped without being kept.
        let huge = [b"MSG a 1 9999999999\r\n".as_slice(), &vec![b'x'; 1 << 20]].concat();
        assert_eq!(read(&huge, Vec::new()), (vec!["Skipped".to_owned()], None));
    }

    #[test]
    fn a_stream_that_ends_is_an_error() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let ended = Incoming::new().poll_read(&mut b"".as_slice(), &mut cx);
        assert!(matches!(ended, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn an_event_is_written_as_the_protocol_has_it() {
        let mut bytes = Vec::new();
        let publish = Publish {
            subject: b"a.b",
            reply: Some(("_I.", 70)),
            headers: &[b"A: b\r\n", b"C: d\r\n"],
            expected: None,
            body: b"{}",
        };
        publish.write(&mut bytes);
        assert_eq!(bytes, b"HPUB a.b _I.70 24 26\r\nNATS/1.0\r\nA: b\r\nC: d\r\n\r\n{}\r\n");
        assert_eq!(publish.size(), 26);
        for (last, digits) in [(0, 1), (9, 1), (10, 2), (99, 2), (100, 3), (u64::MAX, 20)] {
            bytes.clear();
            Publish { reply: None, headers: &[], body: b"", expected: Some(last), ..publish }
                .write(&mut bytes);
            let size = 12 + 31 + digits;
            let wanted = format!(
                "HPUB a.b {size} {size}\r\nNATS/1.0\r\nNats-Expected-Last-Sequence: {last}\r\n\r\n\r\n"
            );
            assert_eq!(String::from_utf8_lossy(&bytes), wanted);
        }
        bytes.clear();
        for number in [0, 9, 10, u64::MAX] {
            push_number(&mut bytes, number);
            bytes.push(b' ');
        }
        assert_eq!(bytes, format!("0 9 10 {} ", u64::MAX).as_bytes());
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_split_makes_no_difference(ends in proptest::collection::vec(0..20_300_usize, 0..40), near in proptest::collection::vec(0..300_usize, 0..100)) {
            let whole = conversation();
            prop_assert_eq!(read(&whole, [ends, near].concat()), read(&whole, Vec::new()));
        }

        #[test]
        fn no_bytes_can_do_harm(lines in proptest::collection::vec("(INFO|MSG|HMSG|PING|PONG|\\+OK|-ERR|[A-Z]{0,4})( [a-z0-9]{0,4}){0,6}\r?\n?", 0..20), ends in proptest::collection::vec(0..200_usize, 0..20)) {
            let bytes = lines.concat().into_bytes();
            prop_assert_eq!(read(&bytes, ends), read(&bytes, Vec::new()));
        }
    }
}
