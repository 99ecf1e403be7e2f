#![doc = include_str!("../README.md")]

mod config;
pub mod lines;
mod session;

use std::sync::Arc;

use pontoon_sdk::{Command, Connector, LinkKey, LinkSpec, Result, Route};

pub use config::Config;
pub use session::{ParleySession, Request, Say};

use lines::{Endpoint, Lines};

/// The one link of an instance.
const LINK: &str = "main";

/// A Parley server, and who we are there.
pub struct Parley {
    config: Arc<Config>,
    endpoint: Endpoint,
}

impl Connector for Parley {
    const TYPE: &'static str = "parley";
    const SAMPLE: &'static str = include_str!("../config.toml");
    type Transport = Lines;
    type Config = Config;
    type Request = Request;
    type Session = ParleySession;

    fn new(config: Config) -> Result<Self> {
        let endpoint = config.endpoint()?;
        Ok(Self { config: Arc::new(config), endpoint })
    }

    fn links(&self) -> Vec<LinkSpec<Lines>> {
        vec![LinkSpec::new(LINK, self.endpoint.clone())]
    }

    fn route(&self, _: &Command, _: &Request) -> Result<Route<Lines>> {
        Ok(Route::To(LinkKey::new(LINK)))
    }

    fn session(&self, _link: &LinkKey) -> ParleySession {
        ParleySession::new(Arc::clone(&self.config))
    }
}

#[cfg(test)]
mod tests;
