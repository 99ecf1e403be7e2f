//! An instance's settings, and the endpoint that they make.

use pontoon_sdk::settings::{check, is_token};
use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Param, Result, Secret, Size, Span};
use schemars::JsonSchema;
use serde::Deserialize;

/// The settings of a `sub0` instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The backend's WebSocket route, such as `wss://my-backend.example/ws`.
    pub url: String,
    /// Names this connection for broadcasts to single clients. Sub0 puts it into object payloads as `id`, over the
    /// caller's `id`.
    pub uid: Option<String>,
    /// The token for protected resources. It holds as long as the connection, and is looked up at each connect.
    pub token: Option<Secret>,
    /// The resources' `provide_as`: offered as a subprotocol before the token.
    #[serde(default = "token_name")]
    pub token_name: String,
    /// The `Origin` header, for backends that list the origins that they allow.
    pub origin: Option<String>,
    /// How long a caller waits that sets no `Pontoon-Timeout`.
    #[serde(default = "call_timeout")]
    pub call_timeout: Span,
    /// How long a late answer is expected after its caller gave up, and kept from other callers.
    #[serde(default = "late_answer_window")]
    pub late_answer_window: Span,
    /// The action of calls without the header `Pontoon-Action`; without this either, the resource's name is the
    /// action.
    pub default_action: Option<String>,
    /// How an answer finds its call.
    #[serde(default)]
    pub correlation: Correlation,
    /// Whether answers are published as `resource.responded` too.
    #[serde(default)]
    pub publish_responses: bool,
    /// Whether a backend that picks none of the offered subprotocols is refused.
    #[serde(default)]
    pub require_subprotocol: bool,
    /// How many calls may be pending: waiting, in flight, or given up within the window. More are refused (429).
    #[serde(default = "max_calls")]
    pub max_calls: usize,
    /// How many bytes of calls may wait for their action to be free. More are refused (429).
    #[serde(default = "max_queue_bytes")]
    pub max_queue_bytes: Size,
}

/// How an answer finds its call: it repeats nothing but the action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Correlation {
    /// One call of an action at a time; the others wait their turn.
    #[default]
    Serial,
    /// Every call has a unique action: the name with a suffix, which is taken off the answer.
    UniqueAction,
    /// Many calls of an action at a time; the service answers them in order, every one.
    Fifo,
}

fn token_name() -> String {
    "x-access-token".to_owned()
}

fn call_timeout() -> Span {
    Span::seconds(10)
}

fn late_answer_window() -> Span {
    Span::seconds(30)
}

fn max_calls() -> usize {
    1024
}

fn max_queue_bytes() -> Size {
    Size::mib(16)
}

/// The longest name of an action or a resource, in bytes.
pub(crate) const MAX_NAME: usize = 256;

impl Config {
    /// Checks the settings, and returns where to connect.
    ///
    /// # Errors
    /// `Config`, with the setting and what to write instead.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let mut endpoint = Endpoint::new(&self.url)?;
        endpoint.require_subprotocol = self.require_subprotocol;
        if let Some(uid) = &self.uid {
            check(!uid.is_empty(), "/uid", "uid is empty; leave it out to connect without one")?;
            endpoint.query.push(("uid".to_owned(), Param::Plain(uid.clone())));
        }
        if let Some(origin) = &self.origin {
            let printable = !origin.is_empty() && origin.bytes().all(|byte| byte.is_ascii_graphic());
            check(
                printable,
                "/origin",
                "origin is not an origin; write scheme://host, such as https://my.example",
            )?;
            endpoint.headers.push(("Origin".to_owned(), Param::Plain(origin.clone())));
        }
        check(
            is_token(&self.token_name),
            "/token_name",
            "token_name is not a subprotocol; write letters, digits and hyphens, such as x-access-token",
        )?;
        if let Some(token) = &self.token {
            endpoint.subprotocols = vec![self.token_name.as_str().into(), token.clone().into()];
        }
        if let Some(action) = &self.default_action {
            check(
                !action.is_empty() && action.len() <= MAX_NAME,
                "/default_action",
                "default_action has 1 to 256 bytes; leave it out to use the resource's name",
            )?;
        }
        check(
            !self.call_timeout.0.is_zero(),
            "/call_timeout",
            "call_timeout is 0; write a time such as \"10s\"",
        )?;
        check(self.max_calls > 0, "/max_calls", "max_calls is 0, so no call could be made; write 1 or more")?;
        Ok(endpoint)
    }
}
