//! An instance's settings.

use std::collections::BTreeMap;

use crate::encoding::{Codec, Encoding, Inflate};
use crate::mapping::{Base64, Template, Unmapped, ValueOf};
use crate::rules::{self, Outgoing};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Param, Secret, Span};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::websocket::address::{AddressFrom, BeforeConnect};
use crate::websocket::content::{Frames, Mapping, Pointer};
use crate::websocket::discriminator::Discriminator;
use crate::websocket::split::{Split, unfolded};

/// Selects frames.
pub type Selector = rules::Selector<Frames>;
/// Select frames, or ends of connections.
pub type Selectors = rules::Selectors<Frames>;
/// What keeps the connection alive.
pub type Heartbeat = rules::Heartbeat<Frames, Template>;
/// What is answered to a frame.
pub type Reaction = rules::Reaction<Frames, Template>;
/// What is remembered of frames.
pub type Remember = rules::Remember<Frames>;
/// The rules of an instance.
pub type Rules = rules::Rules<Frames, Template>;

/// Stands for a new number, where calls are configured.
pub(crate) const ID: &str = "id";

/// The settings of a `websocket` instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the service is, such as `wss://feed.example/ws`. Behind the host, `${name}` stands for a secret or a remembered
    /// value.
    pub url: String,
    /// A request over HTTP before each connection, such as one that gives the address.
    pub before_connect: Option<BeforeConnect>,
    /// A remembered value that says where the next connection is made.
    pub address: Option<AddressFrom>,
    /// Parameters of the URL's query; each a text or a secret. One with a remembered value that is not there is left out.
    #[serde(default)]
    pub query: BTreeMap<String, Param>,
    /// Headers of the opening request, likewise.
    #[serde(default)]
    pub headers: BTreeMap<String, Param>,
    /// Subprotocols to offer, in order; each a text or a secret.
    #[serde(default)]
    pub subprotocols: Vec<Param>,
    /// Whether a service that picks none of the offered subprotocols is refused.
    #[serde(default)]
    pub require_subprotocol: bool,
    /// Secrets by name, for `${name}` in the url, the query, headers and frames that are sent. Looked up at each connect.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// Frames that are sent at each connect, in this order, before any command: a string as text, `{ base64 = "…" }` as binary
    /// data, anything else as JSON.
    #[serde(default)]
    pub send_on_connect: Vec<Template>,
    /// The frame that must come before the link is ready for commands, or a list of which one must. Without it the link is ready once it is open.
    #[serde(default)]
    pub ready_when: Selectors,
    /// The frame by which the service refuses our credentials, or the close code, or a list of these. The link ends, and is
    /// dialled again slowly.
    #[serde(default)]
    pub refused_when: Selectors,
    /// The frame by which the service says that there were too many requests, or the close code, or a list of these. The
    /// link ends, and is dialled again slowly.
    #[serde(default)]
    pub slow_when: Selectors,
    /// The frame by which the service asks for a new connection, or the close code, or a list of these. The link ends, and
    /// is dialled again.
    #[serde(default)]
    pub reconnect_when: Selectors,
    /// Values of frames that are remembered by name, for `${name}` in whatever is sent; kept over reconnects.
    #[serde(default)]
    pub remember: BTreeMap<String, Remember>,
    /// What is sent for frames: steps of a sign-in, answers to signs of life, acknowledgements.
    #[serde(default)]
    pub on: Vec<Reaction>,
    /// What keeps the connection alive where the protocol's own pings do not.
    #[serde(default)]
    pub heartbeat: Heartbeat,
    /// What binary frames hold. Objects and arrays are sent so, too.
    #[serde(default)]
    pub codec: Codec,
    /// How binary frames are compressed.
    pub inflate: Option<Inflate>,
    /// How a frame is taken apart that has several messages; each then counts as one frame for all other settings.
    pub split: Option<Split>,
    /// Where frames have strings that hold JSON: pointers lead into it.
    #[serde(default)]
    pub nested_json: Vec<Pointer>,
    /// Where the kind of a frame stands: one place, or a list of places to look at in turn.
    #[serde(default)]
    pub kind: Discriminator,
    /// What the service's frames become, by their kinds.
    #[serde(default)]
    pub events: BTreeMap<String, Mapping>,
    /// What becomes of frames whose kind `events` does not list.
    #[serde(default)]
    pub unmapped: Unmapped,
    /// What frames become that are text and not a JSON object or array.
    pub text: Option<Mapping>,
    /// What binary frames become.
    pub binary: Option<Mapping>,
    /// How an answer finds its call. Without it the command `call` is refused.
    pub call: Option<Call>,
    /// What is sent for the commands `subscribe` and `unsubscribe`, which come back after a reconnect. Without it they are
    /// refused.
    pub subscriptions: Option<Subscriptions>,
    /// What is sent for the command `message.send`. Without it that command is refused.
    pub send: Option<SendTemplate>,
}

/// How an answer finds its call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Where a call's number is put in.
    pub id: Pointer,
    /// What the number is written as.
    #[serde(default)]
    pub form: Form,
    /// Where an answer has the number of its call; the same place if it is left out.
    pub answer: Option<Pointer>,
    /// Which frames are answers: a selector, or a list of them. Without it any is that has the number of a call and whose kind `events` does not list.
    #[serde(default)]
    pub when: Selectors,
    /// Where an answer has an error. It has none if nothing stands there, or `null`, `false`, `0` or an empty string.
    pub error: Option<Pointer>,
    /// Which answers are refusals: a selector, or a list of them; beyond those that have something at `error`.
    #[serde(default)]
    pub failed_when: Selectors,
    /// Fields that every call has, unless its caller writes them: `{ jsonrpc = "2.0" }`.
    #[serde(default)]
    pub constants: BTreeMap<String, Template>,
    /// Where an answer has what the caller is given; the whole frame if it is left out or nothing stands there.
    pub data: Option<Pointer>,
    /// How long a caller waits that sets no timeout.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

/// What a call's number is written as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A JSON number, from 1 on.
    #[default]
    Number,
    /// A unique text, such as `"1-5f0c…"`.
    Text,
}

/// What is sent for `message.send`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendTemplate {
    /// The frame: a string as text, anything else as JSON. A string that is `${channel}` or `${text}` stands for what the
    /// caller gives, `${id}` for a new number, one that is `${name}` for the secret of that name.
    pub frame: Template,
    /// Whether the service answers the frame as it answers a call, so that the caller can wait for that. The number is
    /// put in as into a call.
    #[serde(default)]
    pub acknowledged: bool,
}

/// What callers subscribe to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscriptions {
    /// The frame for `subscribe`, which is sent again after each reconnect. `${/pointer}` stands for what the caller's body
    /// has there, `${body}` for the whole.
    pub subscribe: Template,
    /// The frame for `unsubscribe`. Without it that command is refused.
    pub unsubscribe: Option<Template>,
    /// Where a body has what tells subscriptions apart; the whole body if it is left out.
    #[serde(default)]
    pub key: Option<Pointer>,
    /// Whether the service answers both frames as it answers a call. The number is put in as into a call.
    #[serde(default)]
    pub acknowledged: bool,
}

fn timeout() -> Span {
    Span::seconds(10)
}

impl Outgoing for Template {
    type Frame = Frame;

    fn frame(&self, value_of: ValueOf<'_>) -> Frame {
        let binary = self.base64().and_then(|text| Base64::try_from(text.to_owned()).ok());
        binary.map_or_else(|| Frame::text(self.text(value_of)), |Base64(bytes)| Frame::Binary(bytes))
    }
}

impl Config {
    /// How frames are encoded.
    pub(crate) fn encoding(&self) -> Encoding {
        Encoding { codec: self.codec, inflate: self.inflate }
    }

    /// A message in which JSON within strings is unfolded, if it has some.
    pub(crate) fn unfolded(&self, message: &Frame) -> Option<String> {
        if self.nested_json.is_empty() {
            return None;
        }
        std::str::from_utf8(message.bytes()).ok().and_then(|json| unfolded(json, &self.nested_json))
    }

    /// Takes the rules out of the settings.
    pub(crate) fn take_rules(&mut self) -> Rules {
        Rules::new(
            std::mem::take(&mut self.ready_when),
            [&mut self.refused_when, &mut self.slow_when, &mut self.reconnect_when].map(std::mem::take),
            std::mem::take(&mut self.remember),
            std::mem::take(&mut self.heartbeat),
            std::mem::take(&mut self.on),
        )
    }

    /// Whether the service answers what is sent for `message.send`.
    pub(crate) fn acknowledges_messages(&self) -> bool {
        self.send.as_ref().is_some_and(|send| send.acknowledged)
    }
}

impl Call {
    /// Where an answer has the number of its call.
    pub(crate) fn answer(&self) -> &Pointer {
        self.answer.as_ref().unwrap_or(&self.id)
    }
}
