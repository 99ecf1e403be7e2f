//! Frames and endpoints of the WebSocket transport (RFC 6455).

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::connector::{self, AllowList};
use crate::error::{Error, Result};
use crate::event::Raw;
use crate::object::Object;
use crate::secret::{Param, Secret};
use crate::url::{self, Url};

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
    /// Where it may lead, if a caller named the URL: anything else is not dialled.
    pub allow_list: Option<AllowList>,
}

impl Endpoint {
    /// An endpoint with nothing but its URL.
    ///
    /// # Errors
    /// `Config` if it is not a `ws://` or `wss://` URL, has no host, or carries user info or a fragment.
    pub fn new(url: &str) -> Result<Self> {
        Url::parse(url, url::WEBSOCKET)?;
        Ok(Self::unchecked(url, None))
    }

    /// An endpoint whose URL a caller named. The daemon checks it by the list, before it opens the link and at each dial.
    pub fn restricted(url: &str, allow_list: AllowList) -> Self {
        Self::unchecked(url, Some(allow_list))
    }

    fn unchecked(url: &str, allow_list: Option<AllowList>) -> Self {
        Self {
            url: url.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            subprotocols: Vec::new(),
            require_subprotocol: true,
            secrets: Vec::new(),
            allow_list,
        }
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
