//! A stream of bytes to a peer, encrypted or not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::fence::Fence;

/// A connected stream, encrypted or not.
pub struct Wire {
    stream: Encryption,
    fence: Fence,
}

enum Encryption {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// A stream without encryption.
    pub fn plain(stream: TcpStream) -> Self {
        Self { stream: Encryption::Plain(stream), fence: Fence::default() }
    }

    /// An encrypted stream.
    pub fn encrypted(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: Encryption::Tls(Box::new(stream)), fence: Fence::default() }
    }

    /// The same, to which nothing is written while the fence is closed.
    #[must_use]
    pub fn fenced(self, fence: Fence) -> Self {
        Self { fence, ..self }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Encryption::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Encryption::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.fence.check()?;
        match &mut self.stream {
            Encryption::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Encryption::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fence.check()?;
        match &mut self.stream {
            Encryption::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Encryption::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fence.check()?;
        match &mut self.stream {
            Encryption::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Encryption::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
