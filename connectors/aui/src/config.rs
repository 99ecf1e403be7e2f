//! An instance's settings, and the endpoint that they make.

use pontoon_sdk::accumulator::Mode;
use pontoon_sdk::rate::RateLimit;
use pontoon_sdk::settings::check;
use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{OnDemandLimits, Result, Secret, Size, Span};
use schemars::JsonSchema;
use serde::Deserialize;

/// The settings of an `aui` instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The region's WebSocket address, without the key.
    pub url: String,
    /// The network API key. It is looked up at each connect.
    pub network_api_key: Secret,
    /// Where the key stands in the handshake.
    #[serde(default)]
    pub auth: Auth,
    /// What the text of an update is.
    #[serde(default = "text")]
    pub text: Mode,
    /// How many tasks have a link at a time. One more waits until the link of another is idle.
    #[serde(default = "max_links")]
    pub max_links: usize,
    /// How long a link stays without a request.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Span,
    /// How long a caller waits that sets no `Pontoon-Timeout`.
    #[serde(default = "answer_timeout")]
    pub answer_timeout: Span,
    /// How long a late answer is expected after its caller gave up, from the last part of it that came.
    #[serde(default = "late_answer_window")]
    pub late_answer_window: Span,
    /// How many requests of one task may wait. More are refused (429).
    #[serde(default = "max_queue")]
    pub max_queue: usize,
    /// How many bytes of requests of one task may wait; one alone may have more. More are refused (429).
    #[serde(default = "max_queue_bytes")]
    pub max_queue_bytes: Size,
    /// How many requests are sent in a time, over all links. More wait. Absent: as many as come.
    pub rate_limit: Option<RateLimit>,
}

/// Where the key stands in the handshake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// In the address: `?network_api_key=…`, as in the service's page.
    #[default]
    Query,
    /// In the header `x-network-api-key`, as the service's own library does outside browsers.
    Header,
}

fn text() -> Mode {
    Mode::Cumulative
}

fn max_links() -> usize {
    64
}

fn idle_timeout() -> Span {
    Span::seconds(60)
}

fn answer_timeout() -> Span {
    Span::seconds(60)
}

fn late_answer_window() -> Span {
    Span::seconds(30)
}

fn max_queue() -> usize {
    16
}

fn max_queue_bytes() -> Size {
    Size::mib(1)
}

/// The query parameter that the key stands in.
const QUERY: &str = "network_api_key";
/// The header that it stands in.
const HEADER: &str = "x-network-api-key";

impl Config {
    /// Checks the settings, and returns where to connect.
    ///
    /// # Errors
    /// `Config`, with the setting and what to write instead.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let mut endpoint = Endpoint::new(&self.url)?;
        check(
            !self.url.contains(QUERY),
            "/url",
            "the url holds the key, which would be printed; write it as network_api_key = { env = \"AUI_KEY\" }",
        )?;
        let key = self.network_api_key.clone().into();
        match self.auth {
            Auth::Query => endpoint.query.push((QUERY.to_owned(), key)),
            Auth::Header => endpoint.headers.push((HEADER.to_owned(), key)),
        }
        for (is_zero, pointer) in [
            (self.max_links == 0, "/max_links"),
            (self.max_queue == 0, "/max_queue"),
            (self.idle_timeout.0.is_zero(), "/idle_timeout"),
            (self.answer_timeout.0.is_zero(), "/answer_timeout"),
        ] {
            check(!is_zero, pointer, "0 is not allowed; leave it out for the default")?;
        }
        if let Some(limit) = self.rate_limit {
            limit.check("/rate_limit")?;
        }
        Ok(endpoint)
    }

    /// The bounds that the daemon holds the links to.
    pub(crate) fn on_demand_limits(&self) -> OnDemandLimits {
        OnDemandLimits { links: self.max_links, commands: self.max_queue, bytes: self.max_queue_bytes.0 }
    }
}
