//! Frames of a WebSocket (RFC 6455 §5), without I/O: from received bytes to messages.
//!
//! The library keeps every message whole, and ends the connection at one that is too large.
//! Here a message over the limit is discarded while its bytes are received and reported with its size, so that the
//! connection goes on with the next. Frame headers are still parsed by the library.

use std::io::Cursor;

use bytes::{Buf as _, Bytes, BytesMut};
use pontoon_sdk::websocket::Frame;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::transport::classify::{NOT_UTF8, PROTOCOL, TOO_LARGE};

/// The largest payload of a control frame (RFC 6455 §5.5).
const CONTROL: u64 = 125;
/// A message of more than this many times the limit is not discarded but ends the connection, which could otherwise be
/// blocked by one endless message.
const DISCARDED: u64 = 64;
/// How much is received at a time, in bytes: enough for many small messages.
pub(super) const RECEIVED: usize = 16 * 1024;

/// What was received.
#[derive(Debug, PartialEq)]
pub(super) enum Item {
    /// A message within the limit.
    Message(Frame),
    /// A message over the limit, discarded; its size in bytes.
    TooLarge(u64),
    /// A ping, to be answered with the same payload.
    Ping(Bytes),
    /// A pong.
    Pong,
    /// The peer closes the connection.
    Close {
        /// Its code as it was received, allowed on the wire or not.
        code: Option<u16>,
        /// Its reason.
        reason: String,
    },
}

/// A violation of the protocol, or of one of our limits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Violation {
    /// The close code that answers it.
    pub(super) code: u16,
    /// What was wrong. Fits the reason of a close frame.
    pub(super) reason: String,
}

/// Turns received bytes into messages.
pub(super) struct Decoder {
    /// Whether the peer must mask what it sends, as only clients do.
    masks: bool,
    limit: u64,
    buffer: BytesMut,
    frame: Option<Payload>,
    message: Option<Message>,
}

/// A frame whose header was received.
struct Payload {
    header: FrameHeader,
    /// How much of it is still to come.
    left: u64,
}

/// A message whose last frame was not received yet.
struct Message {
    text: bool,
    size: u64,
    /// Whether it is over the limit, so that nothing of it is kept.
    discarded: bool,
    parts: BytesMut,
    /// How much of the parts is known to be UTF-8.
    checked: usize,
}

impl Decoder {
    /// A decoder for messages of at most `limit` bytes. `buffered` was received with the handshake.
    pub(super) fn new(role: Role, limit: usize, buffered: &[u8]) -> Self {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let masks = role == Role::Server;
        Self { masks, limit, buffer: BytesMut::from(buffered), frame: None, message: None }
    }

    /// Adds received bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        if self.buffer.is_empty() {
            // Not into what is left of the last allocation: an idle link keeps none.
            self.buffer = BytesMut::from(bytes);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Where to receive the rest of a large payload without another copy, if one is being received.
    pub(super) fn large_payload(&mut self) -> Option<&mut BytesMut> {
        let frame = self.frame.as_ref().filter(|frame| !self.discards(&frame.header))?;
        let missing = usize::try_from(frame.left).unwrap_or(usize::MAX).saturating_sub(self.buffer.len());
        if missing <= RECEIVED {
            return None;
        }
        self.buffer.reserve(missing);
        Some(&mut self.buffer)
    }

    /// The next item; `None` if more bytes are needed.
    ///
    /// # Errors
    /// If the peer violated the protocol; nothing can be decoded behind that.
    pub(super) fn next(&mut self) -> Result<Option<Item>, Violation> {
        loop {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.header()? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let Some(item) = self.payload(frame)? else { return Ok(None) };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    /// Parses and checks the header of the next frame.
    fn header(&mut self) -> Result<Option<Payload>, Violation> {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            return Ok(None);
        }
        let mut cursor = Cursor::new(&self.buffer[..]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|error| violation(error.to_string()))?;
        let Some((header, length)) = parsed else { return Ok(None) };
        let parsed = usize::try_from(cursor.position()).unwrap_or(0);
        self.buffer.advance(parsed);
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(violation("reserved bits are set, and no extension was negotiated"));
        }
        match (self.masks, header.mask.is_some()) {
            (true, false) => return Err(violation("a frame of a client is not masked")),
            (false, true) => return Err(violation("a frame of a server is masked")),
            _ => {}
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final => {
                return Err(violation("a control frame is fragmented"));
            }
            OpCode::Control(_) if length > CONTROL => {
                return Err(violation("a control frame is larger than 125 bytes"));
            }
            OpCode::Control(_) => {}
            OpCode::Data(_) if length >> 63 != 0 => {
                return Err(violation("the length of a frame has its highest bit set"));
            }
            OpCode::Data(kind) => self.data(kind, length)?,
        }
        Ok(Some(Payload { header, left: length }))
    }

    /// Begins or continues a message.
    fn data(&mut self, kind: Data, length: u64) -> Result<(), Violation> {
        let message = match (kind, &mut self.message) {
            (Data::Continue, None) => return Err(violation("a continuation without a message")),
            (Data::Continue, Some(message)) => message,
            (_, Some(_)) => return Err(violation("a message begins within another")),
            (kind, none) => none.insert(Message {
                text: kind == Data::Text,
                size: 0,
                discarded: false,
                parts: BytesMut::new(),
                checked: 0,
            }),
        };
        message.size = message.size.saturating_add(length);
        if message.size > self.limit.saturating_mul(DISCARDED) {
            let (size, limit) = (message.size, self.limit);
            let reason = format!(
                "a message of {size} bytes or more is over {DISCARDED} times transport.message_limit ({limit} bytes)"
            );
            return Err(Violation { code: TOO_LARGE, reason });
        }
        if message.size > self.limit {
            message.discarded = true;
            message.parts = BytesMut::new();
        }
        Ok(())
    }

    fn discards(&self, header: &FrameHeader) -> bool {
        matches!(header.opcode, OpCode::Data(_))
            && self.message.as_ref().is_some_and(|message| message.discarded)
    }

    /// Takes the payload of a frame from the buffer. `None` if it was not received whole, `Some(None)` if it completes
    /// nothing.
    #[allow(clippy::option_option)]
    fn payload(&mut self, mut frame: Payload) -> Result<Option<Option<Item>>, Violation> {
        let received = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX).min(frame.left);
        let length = usize::try_from(received).unwrap_or(0);
        if self.discards(&frame.header) {
            self.buffer.advance(length);
            frame.left -= received;
            if frame.left > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            let size = self.message.take_if(|_| frame.header.is_final).map(|message| message.size);
            return Ok(Some(size.map(Item::TooLarge)));
        }
        if received < frame.left {
            self.frame = Some(frame);
            return Ok(None);
        }
        let mut payload = self.buffer.split_to(length);
        if let Some(key) = frame.header.mask {
            mask(&mut payload, key);
        }
        match frame.header.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Some(Item::Ping(payload.freeze())))),
            OpCode::Control(Control::Close) => close(&payload).map(|item| Some(Some(item))),
            OpCode::Control(_) => Ok(Some(Some(Item::Pong))),
            OpCode::Data(_) => self.append(payload, frame.header.is_final).map(Some),
        }
    }

    /// Appends a payload to the message; returns the message with its last frame.
    fn append(&mut self, payload: BytesMut, is_final: bool) -> Result<Option<Item>, Violation> {
        let Some(message) = &mut self.message else { return Ok(None) };
        if message.parts.is_empty() {
            message.parts = payload;
        } else {
            message.parts.extend_from_slice(&payload);
        }
        if message.text {
            message.check(is_final)?;
        }
        let Some(Message { text, parts, .. }) = self.message.take_if(|_| is_final) else { return Ok(None) };
        let bytes = parts.freeze();
        Ok(Some(Item::Message(if text { Frame::Text(bytes) } else { Frame::Binary(bytes) })))
    }
}

impl Message {
    /// Checks that what was received of a text is UTF-8. A character may go on in the next frame.
    fn check(&mut self, is_final: bool) -> Result<(), Violation> {
        let unchecked = self.parts.get(self.checked..).unwrap_or_default();
        match std::str::from_utf8(unchecked) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() && !is_final => self.checked += error.valid_up_to(),
            Err(_) => {
                let reason = "a text message is not UTF-8".to_owned();
                return Err(Violation { code: NOT_UTF8, reason });
            }
        }
        Ok(())
    }
}

/// Reads the payload of a close frame: nothing, or a code and a reason (RFC 6455 §5.5.1).
fn close(payload: &[u8]) -> Result<Item, Violation> {
    match payload.split_first_chunk() {
        Some((code, reason)) => match std::str::from_utf8(reason) {
            Ok(reason) => {
                Ok(Item::Close { code: Some(u16::from_be_bytes(*code)), reason: reason.to_owned() })
            }
            Err(_) => {
                let reason = "the reason of a close frame is not UTF-8".to_owned();
                Err(Violation { code: NOT_UTF8, reason })
            }
        },
        None if payload.is_empty() => Ok(Item::Close { code: None, reason: String::new() }),
        None => Err(violation("the payload of a close frame is one byte")),
    }
}

fn violation(reason: impl Into<String>) -> Violation {
    Violation { code: PROTOCOL, reason: reason.into() }
}

/// Masks a payload, or takes the mask off (RFC 6455 §5.3).
pub(super) fn mask(payload: &mut [u8], key: [u8; 4]) {
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests;
