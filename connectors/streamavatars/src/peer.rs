//! Titles, and the links that they name: those of sockets as they are, those of scripts after `script/`.

use pontoon_sdk::listener::Listener;
use pontoon_sdk::{Error, LinkKey, LinkState, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// What stands before a script's title in the name of its link, so that no script can replace a socket.
const SCRIPT: &str = "script/";
/// The longest title, in bytes.
const MAX_TITLE: usize = 128;

/// The title of a socket or a script.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline)]
pub(crate) struct Title(String);

impl TryFrom<String> for Title {
    type Error = String;

    fn try_from(title: String) -> Result<Self, String> {
        if title.is_empty() || title.len() > MAX_TITLE || title.contains(char::is_control) {
            return Err(format!("a title has 1 to {MAX_TITLE} bytes, and no control characters among them"));
        }
        if title == Listener::NAME {
            return Err(format!("a title is not \"{title}\": the state calls the listener for scripts so"));
        }
        if title.starts_with(SCRIPT) {
            return Err(format!("a title does not begin with \"{SCRIPT}\": scripts are called so"));
        }
        Ok(Self(title))
    }
}

impl Title {
    /// The title of a script that gives none.
    pub(crate) fn main() -> Self {
        Self("main".to_owned())
    }

    /// The text of the title.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The other end of a link: `title`, or `script/title`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, with = "String")]
pub(crate) enum Peer {
    /// A socket that the daemon dials.
    Socket(Title),
    /// A script that has connected to the daemon.
    Script(Title),
}

impl TryFrom<String> for Peer {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.strip_prefix(SCRIPT) {
            Some(title) => Title::try_from(title.to_owned()).map(Self::Script),
            None => Title::try_from(name).map(Self::Socket),
        }
    }
}

impl Peer {
    /// The peer of a link.
    pub(crate) fn of(link: &LinkKey) -> Self {
        let name = link.as_str();
        match name.strip_prefix(SCRIPT) {
            Some(title) => Self::Script(Title(title.to_owned())),
            None => Self::Socket(Title(name.to_owned())),
        }
    }

    /// Its link.
    pub(crate) fn key(&self) -> LinkKey {
        match self {
            Self::Socket(title) => LinkKey::new(&title.0),
            Self::Script(title) => LinkKey::new(format!("{SCRIPT}{}", title.0)),
        }
    }

    /// Its title.
    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Socket(title) | Self::Script(title) => &title.0,
        }
    }

    /// Whether it is a script.
    pub(crate) fn is_script(&self) -> bool {
        matches!(self, Self::Script(_))
    }
}

/// One row of the list of sockets and scripts.
#[derive(Serialize)]
struct Row {
    title: String,
    kind: &'static str,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// The list of all links.
///
/// # Errors
/// None that can happen.
pub(crate) fn list(links: &[LinkState]) -> Result<Box<RawValue>> {
    let row = |link: &LinkState| {
        let peer = Peer::of(&link.key);
        let kind = if peer.is_script() { "script" } else { "socket" };
        Row { title: peer.title().to_owned(), kind, phase: link.phase, detail: link.detail.clone() }
    };
    let rows: Vec<_> = links.iter().map(row).collect();
    to_raw_value(&rows).map_err(|error| Error::internal(error.to_string()))
}
