//! An instance's settings, and the endpoint they make.

use std::collections::BTreeMap;

use pontoon_sdk::settings::{check, escaped};
use pontoon_sdk::socketio::{Endpoint, Event, Frame};
use pontoon_sdk::{Param, Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::headers::check_headers;
use crate::mapping::{
    self, Document, Known, Secrets, Template, TemplateMessage, Unmapped, ValueOf, check_params,
};
use crate::opening::{Opening, checked_url};
use crate::rules::{self, Checks, Memory, Outgoing};
use crate::subscriptions::BODY;
use crate::websocket::Pointer;

/// What pointers lead into here: the arguments of an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arguments {}

impl Document for Arguments {
    const MAPPED: &'static str = "events";
    const INTO: &'static str = "the list of arguments";
    const EXAMPLE: &'static str = "/0/text";
    const WRITE: &'static str = "write \"/0\" for the first argument, \"/0/text\" for its field text";
    const LIST: bool = true;
    const ACKNOWLEDGED: bool = true;
}

/// What an event of the service becomes.
pub type Mapping = mapping::Mapping<Arguments>;

/// Selects events, by their names and arguments.
pub type Selector = rules::Selector<Arguments>;
/// Select events, or ends of connections.
pub type Selectors = rules::Selectors<Arguments>;
/// What keeps the connection alive.
pub type Heartbeat = rules::Heartbeat<Arguments, Emit>;
/// What is answered to an event.
pub type Reaction = rules::Reaction<Arguments, Emit>;
/// What is remembered of events.
pub type Remember = rules::Remember<Arguments>;
/// The rules of an instance.
pub type Rules = rules::Rules<Arguments, Emit>;

/// The settings of a `socketio` instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the service is, such as `https://chat.example`. Its path is where Engine.IO listens; without one that is
    /// `/socket.io/`. Behind the host, `${name}` stands for a secret or a remembered value.
    pub url: String,
    /// The namespace.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// What is sent to be let in: each field any JSON, or a secret `{ env = "NAME" }` or `{ file = "/path" }`.
    #[serde(default)]
    pub auth: BTreeMap<String, Param<Value>>,
    /// Parameters of the URL's query; each a text or a secret. One with a remembered value that is not there is left out.
    #[serde(default)]
    pub query: BTreeMap<String, Param>,
    /// Headers of the opening request, likewise.
    #[serde(default)]
    pub headers: BTreeMap<String, Param>,
    /// The client for the protocol.
    #[serde(default)]
    pub engine: Engine,
    /// Secrets by name, for `${name}` in the url, the query, headers and arguments that are sent. Looked up at each connect.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// Events that are sent at each connect, in this order, before any command.
    #[serde(default)]
    pub emit_on_connect: Vec<Emit>,
    /// The event that must come before the link is ready for commands, or a list of which one must. Without it the link is ready once it is open.
    #[serde(default)]
    pub ready_when: Selectors,
    /// The event by which the service refuses our credentials, or a list of such. The link ends, and is dialled again slowly.
    #[serde(default)]
    pub refused_when: Selectors,
    /// The event by which the service says that there were too many requests, or a list of such. The link ends, and is
    /// dialled again slowly.
    #[serde(default)]
    pub slow_when: Selectors,
    /// The event by which the service asks for a new connection, or a list of such. The link ends, and is dialled again.
    #[serde(default)]
    pub reconnect_when: Selectors,
    /// Values of events that are remembered by name, for `${name}` in whatever is sent; kept over reconnects.
    #[serde(default)]
    pub remember: BTreeMap<String, Remember>,
    /// What is sent for events: steps of a sign-in, answers to signs of life, acknowledgements.
    #[serde(default)]
    pub on: Vec<Reaction>,
    /// What keeps the connection alive where the protocol's own pings do not.
    #[serde(default)]
    pub heartbeat: Heartbeat,
    /// What becomes of events that `events` does not list.
    #[serde(default)]
    pub unmapped: Unmapped,
    /// What the service's events become, by their names.
    #[serde(default)]
    pub events: BTreeMap<String, Mapping>,
    /// What is sent for the commands `subscribe` and `unsubscribe`, which come back after a reconnect. Without it they are
    /// refused.
    pub subscriptions: Option<Subscriptions>,
    /// What is sent for the command `message.send`. Without it that command is refused.
    pub send: Option<SendTemplate>,
}

/// The client for the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The daemon itself.
    #[default]
    Native,
    /// The crate of this name, where the daemon was built with it.
    RustSocketio,
}

/// An event to send.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Emit {
    /// Its name.
    pub event: String,
    /// Its arguments; `${name}` in their strings stands for the secret or the remembered value of that name.
    #[serde(default)]
    pub args: Vec<Template>,
}

impl Outgoing for Emit {
    type Frame = Frame;

    fn frame(&self, value_of: ValueOf<'_>) -> Frame {
        let values = self.args.iter().map(|value| value.json(value_of)).collect();
        Frame::Event(Event::new(self.event.clone(), values))
    }
}

/// What is sent for `message.send`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendTemplate {
    /// The event's name.
    pub event: String,
    /// Its arguments; a string that is `${channel}` or `${text}` stands for what the caller gives, one that is
    /// `${name}` for the secret of that name.
    #[serde(default)]
    pub args: Vec<Template>,
    /// Whether the service acknowledges the event, so that the caller can wait for that.
    #[serde(default)]
    pub acknowledged: bool,
}

/// What callers subscribe to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EmitSubscriptions")]
pub struct Subscriptions {
    /// The event for `subscribe`, which is sent again after each reconnect. `${/pointer}` stands for what the caller's body
    /// has there, `${body}` for the whole.
    pub subscribe: Emit,
    /// The event for `unsubscribe`. Without it that command is refused.
    pub unsubscribe: Option<Emit>,
    /// Where a body has what tells subscriptions apart; the whole body if it is left out.
    #[serde(default)]
    pub key: Option<Pointer>,
    /// Whether the service acknowledges both events, so that the caller can wait for that.
    #[serde(default)]
    pub acknowledged: bool,
}

impl SendTemplate {
    /// Whether any string of the arguments is `${wanted}`.
    pub(crate) fn uses(&self, wanted: &str) -> bool {
        self.args.iter().any(|value| value.uses(wanted))
    }
}

fn namespace() -> String {
    "/".to_owned()
}

/// Names that clients must not emit: the reference server closes the connection on them.
pub(crate) const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Parameters of the query that belong to Engine.IO.
const QUERY_TAKEN: [&str; 3] = ["EIO", "transport", "sid"];

impl Config {
    /// Checks the settings. Returns where to connect.
    pub(crate) fn endpoint(&self, rules: &Rules) -> Result<Endpoint> {
        let names = rules.names(self.secrets.keys());
        let mut endpoint = Endpoint::new(&checked_url(&self.url, &names, "/url")?)?;
        self.check_address()?;
        check_headers(&self.headers)?;
        self.check_emits(rules)?;
        for (name, mapping) in &self.events {
            let at = format!("/events/{}", escaped(name));
            mapping.check(&at)?;
            if mapping.acknowledge.is_some() {
                self.needs_native("answer acknowledgements", &format!("{at}/acknowledge"))?;
            }
        }
        endpoint.namespace.clone_from(&self.namespace);
        endpoint.auth = self.auth.clone().into_iter().collect();
        check_params(&self.query, &names, "/query")?;
        check_params(&self.headers, &names, "/headers")?;
        let opening = Opening { secrets: &self.secrets, memory: &Memory::default() };
        endpoint.query = opening.query(&self.query);
        endpoint.headers = opening.headers(&self.headers);
        endpoint.secrets = self.secrets.values().cloned().collect();
        endpoint.engine = (self.engine == Engine::RustSocketio).then_some("rust-socketio");
        Ok(endpoint)
    }

    fn check_address(&self) -> Result<()> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == ',' || c == '?';
        check(
            self.namespace.starts_with('/') && !self.namespace.contains(odd),
            "/namespace",
            "this is not a namespace; write / or a name such as /admin, without commas, question marks and white space",
        )?;
        let own = self.url.split_once('?').map_or("", |(_, query)| query).split('&');
        let own = own.map(|pair| ("/url".to_owned(), pair.split('=').next().unwrap_or_default()));
        let listed = self.query.keys().map(|name| (format!("/query/{}", escaped(name)), name.as_str()));
        for (at, name) in own.chain(listed) {
            let text = format!("the query's {name} is set by pontoon itself; leave it out");
            check(!QUERY_TAKEN.contains(&name), &at, &text)?;
        }
        Ok(())
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

    fn check_emits(&self, rules: &Rules) -> Result<()> {
        Secrets::check_names(&self.secrets, &TemplateMessage::NAMES)?;
        let mut known = rules.names(self.secrets.keys());
        let taken: Vec<_> = self.secrets.keys().map(String::as_str).chain(TemplateMessage::NAMES).collect();
        let check_send = |emit: &Emit, known: Known<'_>, at: &str| {
            check_event(&emit.event, &format!("{at}/event"))?;
            let mut args = emit.args.iter().enumerate();
            args.try_for_each(|(place, value)| value.check(known, &format!("{at}/args/{place}")))
        };
        let unprompted = Known { names: &known, answered: nothing_answered };
        rules.check(&Checks {
            names: &known,
            taken: &taken,
            has_kinds: true,
            answered,
            unprompted,
            send: &check_send,
        })?;
        for (place, emit) in self.emit_on_connect.iter().enumerate() {
            let at = format!("/emit_on_connect/{place}");
            check_event(&emit.event, &format!("{at}/event"))?;
            check_args(&emit.args, &known, &format!("{at}/args"))?;
        }
        if let Some(Subscriptions { subscribe, unsubscribe, acknowledged, .. }) = &self.subscriptions {
            let names = [known.as_slice(), &[BODY]].concat();
            let known = Known { names: &names, answered: of_body };
            check_send(subscribe, known, "/subscriptions/subscribe")?;
            if let Some(unsubscribe) = unsubscribe {
                check_send(unsubscribe, known, "/subscriptions/unsubscribe")?;
            }
            if *acknowledged {
                self.needs_native("wait for acknowledgements", "/subscriptions/acknowledged")?;
            }
        }
        let Some(send) = &self.send else { return Ok(()) };
        known.extend(TemplateMessage::NAMES);
        check_event(&send.event, "/send/event")?;
        check_args(&send.args, &known, "/send/args")?;
        check(
            send.uses("text"),
            "/send/args",
            "no argument is \"${text}\", so the caller's text would be lost; put it where the service expects the text",
        )?;
        if send.acknowledged {
            self.needs_native("wait for acknowledgements", "/send/acknowledged")?;
        }
        Ok(())
    }

    fn needs_native(&self, what: &str, at: &str) -> Result<()> {
        check(
            self.engine == Engine::Native,
            at,
            &format!("the engine rust-socketio cannot {what}; leave this out, or set engine = \"native\""),
        )
    }
}

fn check_event(name: &str, at: &str) -> Result<()> {
    let text = format!(
        "the event's name {name} is reserved by Socket.IO, whose servers close the connection on it; write another"
    );
    check(!RESERVED.contains(&name), at, &text)
}

fn check_args(args: &[Template], names: &[&str], at: &str) -> Result<()> {
    let known = Known { names, answered: nothing_answered };
    args.iter().enumerate().try_for_each(|(place, value)| value.check(known, &format!("{at}/{place}")))
}

/// `${/pointer}` in an event that answers another.
fn answered(pointer: &str) -> Result<(), String> {
    pointer.parse::<mapping::Pointer<Arguments>>().map(drop)
}

/// `${/pointer}` in an event that is about the body of a caller.
fn of_body(pointer: &str) -> Result<(), String> {
    pointer.parse::<Pointer>().map(drop)
}

/// `${/pointer}` in any other argument.
fn nothing_answered(pointer: &str) -> Result<(), String> {
    Err(format!(
        "${{{pointer}}} stands for a part of what is answered, and nothing is answered here; write it without ${{}}"
    ))
}
