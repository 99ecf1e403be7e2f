//! Services that connect to us because they can only dial out: where they come in, and who they are.
//!
//! A connector that has a [`Listener`] is asked of everyone who comes ([`crate::Connector::authorize`]). Whoever is let in is a
//! link like any other, under the name that the connector gives it, in the place of one of that name that is there.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::link::LinkKey;
use crate::secret::Secret;

/// Where services come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The path of the URL; any other is answered with 404.
    pub path: String,
    /// The certificate that is shown; `None` to listen without TLS.
    pub tls: Option<Identity>,
    /// How many may be in at a time; one more is let go.
    pub most: usize,
    /// A peer that sends nothing for this long, not even a pong, is taken for gone; no sooner than after two pings.
    pub silence: Duration,
    /// What peers authenticate with: the reason with which they close is shown without it.
    pub secrets: Vec<Secret>,
}

impl Listener {
    /// What the state calls the door while it cannot be opened. No link may be called so.
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

/// Somebody at the door. What it shows may be secret, so that it does not print.
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
    /// It is let in as this link.
    In {
        /// The link's name.
        link: LinkKey,
        /// The subprotocol that is chosen of those that it offers.
        subprotocol: Option<String>,
    },
    /// Its first message must be received before. After that message, it refuses the peer.
    Hear,
}

/// Without the subprotocol, which may be a secret.
impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In { link, .. } => write!(f, "In({link:?})"),
            Self::Hear => f.write_str("Hear"),
        }
    }
}
