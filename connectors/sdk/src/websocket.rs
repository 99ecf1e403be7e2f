//! Frames and endpoints of the WebSocket transport (RFC 6455).

pub mod guard;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::connector;
use crate::error::{Code, Error, Result};
use crate::event::Raw;
use crate::object::Object;
use crate::secret::{Param, Secret};
use crate::url::{self, Url};

pub use guard::Guard;

/// The WebSocket transport.
pub enum WebSocket {}

impl connector::Transport for WebSocket {
    type Frame = Frame;
    type Endpoint = Endpoint;
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text message. What was received is UTF-8: the transport has checked it.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
}

impl Frame {
    /// A text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Bytes::from(text.into()))
    }

    /// The payload, text or binary.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }

    /// Reads the payload as JSON, text or binary, and keeps all of it.
    ///
    /// # Errors
    /// `Protocol` if it is not JSON, with the place and what stands there, or not of the wanted shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<(T, Raw)> {
        Raw::read(self.bytes())
    }

    /// Reads the payload as a JSON object, text or binary, and keeps all of it.
    ///
    /// # Errors
    /// `Protocol` if it is not one, with the place and what stands there.
    pub fn object(&self) -> Result<(Object<'_>, Raw)> {
        let wrong = |error: Error| match self {
            Self::Text(_) => Error::protocol(format!("the frame is not a JSON object: {}", error.message())),
            Self::Binary(_) => {
                Error::protocol(format!("the frame is binary, and not a JSON object: {}", error.message()))
            }
        };
        Object::read(self.bytes()).map_err(wrong)
    }
}

impl connector::Frame for Frame {
    fn size(&self) -> usize {
        self.bytes().len()
    }

    fn raw(&self) -> Raw {
        match self {
            Self::Text(bytes) => Raw::of_bytes(bytes),
            Self::Binary(bytes) => {
                Raw::document(bytes).map_or_else(|_| Raw::of_binary(bytes), |(_, raw)| raw)
            }
        }
    }
}

/// Where to connect, and how.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `ws://` or `wss://`, without secrets.
    pub url: String,
    /// Added to the URL's query, percent-encoded.
    pub query: Vec<(String, Param)>,
    /// Headers of the upgrade request.
    pub headers: Vec<(String, Param)>,
    /// Subprotocols to offer, in order.
    pub subprotocols: Vec<Param>,
    /// Whether a server that picks none of them is refused, as RFC 6455 §4.1 lets a client decide.
    pub require_subprotocol: bool,
    /// Secrets that the session puts into messages: the reason of a close is shown without them.
    pub secrets: Vec<Secret>,
    /// Judges where it leads, if a caller named the URL: what it does not allow is not dialled.
    pub guard: Option<Guard>,
}

impl Endpoint {
    /// An endpoint with nothing but its URL.
    ///
    /// # Errors
    /// `Config` if it is not a `ws://` or `wss://` URL, has no host, or carries user info or a fragment.
    pub fn new(url: &str) -> Result<Self> {
        Url::parse(url, url::WEBSOCKET)?;
        Ok(Self {
            url: url.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            subprotocols: Vec::new(),
            require_subprotocol: true,
            secrets: Vec::new(),
            guard: None,
        })
    }
}

impl Guard {
    /// Judges the URL that a caller gave. The endpoint has it in one form, scheme and host in lower case, and carries this
    /// guard.
    ///
    /// # Errors
    /// `Rejected`: 400 if it is no URL, 403 with the rule by which it may not be dialled. Without a pointer: only the
    /// caller of this knows where in the body it stood.
    pub fn check_url(&self, url: &str) -> Result<Endpoint> {
        let url = Url::parse_strict(url).map_err(guard::refused)?;
        self.authorize(&url.host, url.port)?;
        let mut endpoint = Endpoint::new(&url.to_string())
            .map_err(|error| Error::rejected(Code::BadBody, error.message()))?;
        endpoint.guard = Some(self.clone());
        Ok(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_needs_a_websocket_url() {
        for good in ["ws://h/ws", "wss://h:1/", "wss://[::1]:9/x?y=z", "ws://h"] {
            assert!(Endpoint::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "http://h", "ws://", "ws:///p", "ws://:80/", "wss://u:p@h/", "ws://h/#x", "ws://h/a b"]
        {
            assert!(Endpoint::new(bad).is_err(), "{bad}");
        }
    }
}
