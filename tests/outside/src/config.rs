//! An instance's settings, and the endpoint that they make.

use pontoon_sdk::{Error, Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::lines::{Endpoint, Line};

/// The longest line that Parley takes, in bytes.
const LONGEST: usize = 1024;

/// The settings of a `parley` instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the service listens, as `host:port`.
    pub address: String,
    /// The name that this instance goes by there.
    pub name: String,
    /// The password that belongs to the name.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The rooms that are entered at each connect, and whose messages are received.
    #[serde(default)]
    pub rooms: Vec<String>,
}

impl Config {
    /// Checks the settings, and returns the address.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        if !is_word(&self.name) {
            return Err(Error::config("the name is not a word; write one such as \"bridge\"").at("/name"));
        }
        if let Some(place) = self.rooms.iter().position(|room| !is_word(room)) {
            return Err(Error::config("this is not a word, so not a room").at(format!("/rooms/{place}")));
        }
        let mut endpoint = Endpoint::new(&self.address).map_err(|error| error.at("/address"))?;
        endpoint.limit = Some(LONGEST);
        endpoint.ping = Some(Line::new("PING")?);
        endpoint.goodbye = Some(Line::new("QUIT")?);
        endpoint.secrets.extend(self.password.clone());
        Ok(endpoint)
    }
}

/// Whether it is what Parley takes for a name, or for a room.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}
