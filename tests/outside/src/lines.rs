//! A new transport: lines of text over TCP, as in IRC, SMTP and many other protocols. A line is a frame.
//!
//! Here is what sessions see of it; `socket` is what the daemon dials.

mod socket;

use pontoon::transport::tcp::Address;
use pontoon_sdk::{Bytes, Code, Error, Raw, Result, Secret, Transport, connector};

pub use socket::{Reader, Writer};

/// The transport.
pub enum Lines {}

impl Transport for Lines {
    type Frame = Line;
    type Endpoint = Endpoint;
}

/// One line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(Bytes);

impl Line {
    /// A line to send.
    ///
    /// # Errors
    /// `Rejected` if it has an end of a line in it: what a caller writes must not become another order.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.contains(['\n', '\r', '\0']) {
            return Err(Error::rejected(Code::BadBody, "this is more than one line; send each by itself"));
        }
        Ok(Self(text.into()))
    }

    /// Its text.
    ///
    /// # Errors
    /// `Protocol` if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.0).map_err(|_| Error::protocol("the line is not UTF-8"))
    }
}

impl connector::Frame for Line {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn raw(&self) -> Raw {
        Raw::of_bytes(&self.0)
    }
}

/// Where to connect, and how.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where the service listens.
    pub address: Address,
    /// The longest line that the service takes, in bytes, if it has a limit.
    pub limit: Option<usize>,
    /// A line that makes the service reply. Without it, a service may be silent for as long as it likes.
    pub ping: Option<Line>,
    /// The line that is sent before the connection is closed.
    pub goodbye: Option<Line>,
    /// Secrets that the session puts into lines: the service's reason at the end is shown without them.
    pub secrets: Vec<Secret>,
}

impl Endpoint {
    /// An endpoint with nothing but its address.
    ///
    /// # Errors
    /// `Config` if that is not `host:port`.
    pub fn new(address: &str) -> Result<Self> {
        let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let parts = parts.filter(|(host, _)| !host.is_empty() && !host.contains(['/', '@', ' ']));
        let (host, port) = parts.ok_or_else(|| {
            Error::config("this is not an address; write host:port, such as \"chat.example:7300\"")
        })?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let address = Address { host, port, secure: false };
        Ok(Self { address, limit: None, ping: None, goodbye: None, secrets: Vec::new() })
    }
}

/// In transcripts a line is written as it is.
#[cfg(test)]
impl pontoon_transcript::FrameText for Line {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::new(text).map_err(|error| error.to_string())
    }

    fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    fn is(&self, expected: &Self, names: &mut pontoon_transcript::Names) -> bool {
        names.matches_text(&expected.to_text(), &self.to_text())
    }
}

#[cfg(test)]
mod tests;
