//! Titles, and the links that they name: those of sockets as they are, those of scripts behind `script/`.

use pontoon_sdk::listener::Listener;
use pontoon_sdk::{Code, Error, LinkKey, LinkState, Result};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// What stands before a script's title in the name of its link, so that no script can take a socket's place.
const SCRIPT: &str = "script/";
/// The longest title, in bytes.
const MAX_TITLE: usize = 128;

/// One end of a conversation, by its title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A socket that we dial.
    Socket(String),
    /// A script that has dialled us.
    Script(String),
}

impl Place {
    /// The place of a link.
    pub(crate) fn of(link: &LinkKey) -> Self {
        Self::named(link.as_str())
    }

    /// The place of this name: a title, or `script/` and a title.
    pub(crate) fn named(name: &str) -> Self {
        match name.strip_prefix(SCRIPT) {
            Some(title) => Self::Script(title.to_owned()),
            None => Self::Socket(name.to_owned()),
        }
    }

    /// Its link.
    pub(crate) fn key(&self) -> LinkKey {
        match self {
            Self::Socket(title) => LinkKey::new(title),
            Self::Script(title) => LinkKey::new(format!("{SCRIPT}{title}")),
        }
    }

    /// Its title.
    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Socket(title) | Self::Script(title) => title,
        }
    }
}

/// What is wrong with a title, if anything is.
pub(crate) fn fault(title: &str) -> Option<String> {
    if title.is_empty() || title.len() > MAX_TITLE || title.chars().any(char::is_control) {
        return Some(format!("a title has 1 to {MAX_TITLE} bytes, and no control characters among them"));
    }
    if title == Listener::NAME {
        return Some(format!("a title is not \"{title}\": the state calls the door for scripts so"));
    }
    title
        .starts_with(SCRIPT)
        .then(|| format!("a title does not begin with \"{SCRIPT}\": scripts are called so"))
}

/// Checks a title that a caller gave.
///
/// # Errors
/// `Rejected` with 400.
pub(crate) fn check(title: &str, pointer: &str) -> Result<()> {
    fault(title).map_or(Ok(()), |wrong| Err(Error::rejected(Code::BadBody, wrong).at(pointer)))
}

/// One row of the list of sockets and scripts.
#[derive(Serialize)]
struct Row<'a> {
    title: &'a str,
    kind: &'static str,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// The list of all links.
///
/// # Errors
/// None that can happen.
pub(crate) fn list(links: &[LinkState]) -> Result<Box<RawValue>> {
    let places: Vec<_> = links.iter().map(|link| (Place::of(&link.key), link)).collect();
    let rows: Vec<_> = places
        .iter()
        .map(|(place, link)| Row {
            title: place.title(),
            kind: if matches!(place, Place::Script(_)) { "script" } else { "socket" },
            phase: link.phase,
            detail: link.detail.as_deref(),
        })
        .collect();
    to_raw_value(&rows).map_err(|error| Error::internal(error.to_string()))
}
