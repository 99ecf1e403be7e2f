//! One of the two engines.

use pontoon_sdk::End;
use pontoon_sdk::socketio::Frame;

use super::thread;
use crate::transport::socketio::driver;
use crate::transport::{Dialled, Read, Received, Write};

/// Receives frames.
pub enum Reader {
    /// With the native engine.
    Native(Box<driver::Reader>),
    /// With the crate.
    Second(thread::Reader),
}

/// Sends frames.
pub enum Writer {
    /// With the native engine.
    Native(Box<driver::Writer>),
    /// With the crate.
    Second(thread::Writer),
}

pub(super) fn native(dialled: Dialled<driver::Reader, driver::Writer>) -> Dialled<Reader, Writer> {
    let Dialled { reader, writer, resumed, limit } = dialled;
    let (reader, writer) = (Reader::Native(Box::new(reader)), Writer::Native(Box::new(writer)));
    Dialled { reader, writer, resumed, limit }
}

pub(super) fn second(dialled: Dialled<thread::Reader, thread::Writer>) -> Dialled<Reader, Writer> {
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
