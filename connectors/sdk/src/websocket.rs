//! Frames and endpoints of the WebSocket transport (RFC 6455).

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::connector::{self, AllowList};
use crate::error::{Error, Result};
use crate::event::Raw;
use crate::object::Object;
use crate::redact::Redactor;
use crate::secret::{Param, Secret};
use crate::url::{Fault, Url};

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

    /// The frame without the secrets; `None` if none is in it.
    pub fn redacted(&self, redactor: &Redactor) -> Option<Self> {
        let Cow::Owned(text) = redactor.text(std::str::from_utf8(self.bytes()).ok()?) else { return None };
        Some(match self {
            Self::Text(_) => Self::text(text),
            Self::Binary(_) => Self::Binary(text.into()),
        })
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
        let endpoint = Self::unchecked(url, None);
        endpoint.parsed_url()?;
        Ok(endpoint)
    }

    /// An endpoint whose URL a caller named. The daemon checks it by the list, before it opens the link and at each dial.
    pub fn restricted(url: &str, allow_list: AllowList) -> Self {
        Self::unchecked(url, Some(allow_list))
    }

    /// The URL, taken apart.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parsed_url(&self) -> Result<Url<'_>, Fault> {
        // RFC 6455 §3
        Url::parse(&self.url, &[("ws", 80), ("wss", 443)])
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

    #[test]
    fn a_key_is_masked_in_every_form() {
        let redactor = |key: &str| Redactor::new([key.to_owned()]);
        let key = redactor("k\"y/1");
        for (text, hidden) in [
            (r#"{"message":"bad key k\"y/1"}"#, r#"{"message":"bad key ***"}"#),
            ("no JSON: k\"y/1", "no JSON: ***"),
            (r#"{"url":"wss://h/?network_api_key=k%22y%2F1"}"#, r#"{"url":"wss://h/?network_api_key=***"}"#),
        ] {
            assert_eq!(Frame::text(text).redacted(&key), Some(Frame::text(hidden)));
        }
        // JSON may come in a binary frame, too.
        let binary = |text: &'static str| Frame::Binary(text.as_bytes().into());
        assert_eq!(binary("\"k\\\"y/1\"").redacted(&key), Some(binary("\"***\"")));
        assert_eq!(Frame::text("{}").redacted(&key), None);
        assert_eq!(Frame::Binary(vec![255].into()).redacted(&key), None);
        assert_eq!(Frame::text("a b c").redacted(&redactor("b")), None);
        assert_eq!(Frame::text(" ").redacted(&redactor(" ")), None);
    }
}
