//! The two halves of a connection, of either engine.

use pontoon::transport::{Dialled, Read, Received, Write, socketio};
use pontoon_sdk::End;
use pontoon_sdk::socketio::Frame;

use crate::thread;

/// Receives frames.
pub enum Reader {
    /// Of the daemon's engine.
    Native(Box<socketio::Reader>),
    /// Of the crate.
    Second(thread::Reader),
}

/// Sends frames.
pub enum Writer {
    /// Of the daemon's engine.
    Native(Box<socketio::Writer>),
    /// Of the crate.
    Second(thread::Writer),
}

pub(crate) fn native(dialled: Dialled<socketio::Reader, socketio::Writer>) -> Dialled<Reader, Writer> {
    let Dialled { reader, writer, resumed, limit } = dialled;
    let (reader, writer) = (Reader::Native(Box::new(reader)), Writer::Native(Box::new(writer)));
    Dialled { reader, writer, resumed, limit }
}

pub(crate) fn second(dialled: Dialled<thread::Reader, thread::Writer>) -> Dialled<Reader, Writer> {
    let Dialled { reader, writer, resumed, limit } = dialled;
    Dialled { reader: Reader::Second(reader), writer: Writer::Second(writer), resumed, limit }
}

impl Read<Frame> for Reader {
    async fn read(&mut self) -> Result<Received<Frame>, End> {
        match self {
            Self::Native(reader) => reader.read().await,
            Self::Second(reader) => reader.read().await,
        }
    }
}

impl Write<Frame> for Writer {
    async fn feed(&mut self, frame: Frame) -> Result<(), End> {
        match self {
            Self::Native(writer) => writer.feed(frame).await,
            Self::Second(writer) => writer.feed(frame).await,
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        match self {
            Self::Native(writer) => writer.flush().await,
            Self::Second(writer) => writer.flush().await,
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        match self {
            Self::Native(writer) => writer.ping().await,
            Self::Second(writer) => writer.ping().await,
        }
    }

    async fn due(&mut self) {
        match self {
            Self::Native(writer) => writer.due().await,
            Self::Second(writer) => writer.due().await,
        }
    }

    async fn close(&mut self) -> Result<(), End> {
        match self {
            Self::Native(writer) => writer.close().await,
            Self::Second(writer) => writer.close().await,
        }
    }
}
