//! Frames that are compressed, or encoded otherwise than as text: to text when they are received, and back when they are sent.

mod codec;
mod inflate;
mod transcode;

use std::borrow::Cow;

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Error, Event, EventType, Outbox, Result};
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::codec::Codec;
use self::inflate::Stream;

/// How binary frames are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Inflate {
    /// Each is a gzip file (RFC 1952).
    Gzip,
    /// Each is a zlib stream (RFC 1950).
    Zlib,
    /// All frames of a connection are one zlib stream, in which each message is flushed.
    ZlibStream,
}

/// How the frames of an instance are encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoding {
    /// What binary frames hold.
    pub codec: Codec,
    /// How they are compressed, if they are.
    pub inflate: Option<Inflate>,
}

/// Reads the frames of one connection.
#[derive(Default)]
pub struct FrameReader {
    encoding: Encoding,
    /// Of `zlib-stream`, from its first frame: it takes 43 KiB.
    stream: Option<Stream>,
}

impl Encoding {
    /// Whether frames stay as they are.
    pub fn is_plain(self) -> bool {
        self == Self::default()
    }

    /// What is sent: JSON objects and arrays in the codec, anything else as it is.
    pub fn encoded(self, frame: Frame) -> Frame {
        let Frame::Text(bytes) = &frame else { return frame };
        let json = std::str::from_utf8(bytes).unwrap_or_default();
        if self.codec == Codec::Json || !json.trim_ascii_start().starts_with(['{', '[']) {
            return frame;
        }
        transcode::encoded(self.codec, json).map_or(frame, |bytes| Frame::Binary(bytes.into()))
    }

    /// The JSON text of a frame that is sent, as the service reads it. `None` if it is something else.
    pub fn json(self, frame: &Frame) -> Option<Cow<'_, str>> {
        match frame {
            Frame::Binary(bytes) if self.codec != Codec::Json => {
                transcode::json(self.codec, bytes).ok().map(Cow::Owned)
            }
            _ => std::str::from_utf8(frame.bytes()).ok().map(Cow::Borrowed),
        }
    }

    /// The first frame of a connection, as [`FrameReader::read`] reads it.
    ///
    /// # Errors
    /// As there.
    pub fn first(self, frame: &Frame) -> Result<Option<Cow<'_, Frame>>> {
        FrameReader::new(self).decoded(frame)
    }
}

impl FrameReader {
    /// A new connection.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, stream: None }
    }

    /// A frame that was received, inflated and as JSON text; a text frame as it is. `None` if its message goes on in the
    /// next. A frame that ends the connection is published.
    ///
    /// # Errors
    /// `Protocol` if this frame cannot be read, `Disconnected` if none behind it can be.
    pub fn read<'a>(&mut self, frame: &'a Frame, out: &mut Outbox<Frame>) -> Result<Option<Cow<'a, Frame>>> {
        let decoded = self.decoded(frame);
        if let Err(error) = &decoded
            && error.kind() == pontoon_sdk::Kind::Disconnected
        {
            let mut event = Event::new(EventType::FrameUnrecognised, frame.raw());
            event.fields.reason = Some(error.message().to_owned());
            out.publish(event);
        }
        decoded
    }

    fn decoded<'a>(&mut self, frame: &'a Frame) -> Result<Option<Cow<'a, Frame>>> {
        let Frame::Binary(bytes) = frame else { return Ok(Some(Cow::Borrowed(frame))) };
        let Encoding { codec, inflate } = self.encoding;
        let of = |name: &str, wrong: String| format!("the frame cannot be read as {name}: {wrong}");
        let inflated = match inflate {
            None => Cow::Borrowed(&**bytes),
            Some(Inflate::Gzip) => {
                Cow::Owned(inflate::gzip(bytes).map_err(|wrong| Error::protocol(of("gzip", wrong)))?)
            }
            Some(Inflate::Zlib) => {
                Cow::Owned(inflate::zlib(bytes).map_err(|wrong| Error::protocol(of("zlib", wrong)))?)
            }
            Some(Inflate::ZlibStream) => {
                let pushed = self.stream.get_or_insert_default().push(bytes);
                let message = pushed.map_err(|wrong| Error::disconnected(of("zlib-stream", wrong)))?;
                let Some(message) = message else { return Ok(None) };
                Cow::Owned(message)
            }
        };
        let name = match codec {
            Codec::Json => {
                return Ok(Some(match inflated {
                    Cow::Borrowed(_) => Cow::Borrowed(frame),
                    Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
                        Ok(text) => Frame::text(text),
                        Err(error) => Frame::Binary(error.into_bytes().into()),
                    }),
                }));
            }
            Codec::Msgpack => "MessagePack",
            Codec::Cbor => "CBOR",
        };
        let json = transcode::json(codec, &inflated).map_err(|wrong| Error::protocol(of(name, wrong)))?;
        Ok(Some(Cow::Owned(Frame::text(json))))
    }
}

#[cfg(test)]
mod tests;
