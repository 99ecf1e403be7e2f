//! The settings of an instance, and the endpoint that they make.

use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Param, Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

/// The settings of a `board` instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where Board is, such as `wss://board.example/ws`.
    url: String,
    /// The token, added to the query of the URL.
    #[serde(default)]
    token: Option<Secret>,
}

impl Config {
    /// Checks the settings. Returns where to connect.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let mut endpoint = Endpoint::new(&self.url).map_err(|error| error.at("/url"))?;
        let token = self.token.clone().map(|token| ("token".to_owned(), Param::Secret(token)));
        endpoint.query.extend(token);
        Ok(endpoint)
    }
}
