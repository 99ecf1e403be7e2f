//! Services that connect to the daemon because they can only dial out.
//!
//! A connector that has a [`Listener`] decides on each connection ([`crate::Connector::authorize`]). One that is accepted is a
//! link like any other, with the name that the connector gives it; it replaces a link with the same name.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::link::LinkKey;
use crate::secret::Secret;

/// Where services connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The path of the URL; any other is answered with 404.
    pub path: String,
    /// The certificate that is shown; `None` to listen without TLS.
    pub tls: Option<Identity>,
    /// How many may be connected at a time; one more is closed.
    pub most: usize,
    /// A peer that sends nothing for this long, not even a pong, is taken for gone; no sooner than after two pings.
    pub silence: Duration,
    /// What peers authenticate with: the reason with which they close is shown without it.
    pub secrets: Vec<Secret>,
}

impl Listener {
    /// Its name in the state while it cannot be opened. No link may have this name.
    pub const NAME: &str = "listen";

    /// The texts of its secrets, as far as they are there.
    pub fn revealed(&self) -> Vec<String> {
        self.secrets.iter().filter_map(|secret| secret.reveal().ok()).collect()
    }
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The certificate, and those that lead to its authority (PEM).
    pub cert_file: PathBuf,
    /// Its key (PEM).
    pub key_file: PathBuf,
}

/// The handshake of a peer. It may hold secrets, so it does not print.
pub struct Handshake<'a, F> {
    /// The parameters of the URL's query, decoded.
    pub query: &'a [(String, String)],
    /// The subprotocols that it offers.
    pub subprotocols: &'a [String],
    /// Its first message, once it is there.
    pub first: Option<&'a F>,
}

impl<F> Handshake<'_, F> {
    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What becomes of a handshake.
#[derive(Clone, PartialEq, Eq)]
pub enum Accept {
    /// Accepted as this link.
    As {
        /// The link's name.
        link: LinkKey,
        /// The subprotocol that is chosen of those that it offers.
        subprotocol: Option<String>,
    },
    /// Decided once the first message is there. The same after that message refuses the peer.
    AfterFirstMessage,
}

/// Without the subprotocol, which may be a secret.
impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As { link, .. } => write!(f, "As({link:?})"),
            Self::AfterFirstMessage => f.write_str("AfterFirstMessage"),
        }
    }
}
