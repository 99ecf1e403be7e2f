//! What the tests of both connectors share.

use std::time::{Duration, Instant};

use figment::Figment;
use figment::providers::{Format, Toml};
use pontoon_sdk::{Command, CommandId, Connector, Error, LinkKey, Outbox, Request, Result, Route, Session};
use serde_json::Value;
use serde_json::value::RawValue;

/// A body whose bytes must not change.
pub(crate) const BODY: &str = r#"{"z": 1.0, "a": 123456789012345678901234567890, "u":"\u00e9", "z2" :1e999}"#;

pub(crate) fn command(id: u64, operation: &'static str, argument: Option<&str>, body: &str) -> Command {
    Command {
        id: CommandId(id),
        operation,
        argument: argument.map(str::to_owned),
        body: RawValue::from_string(body.to_owned()).unwrap(),
        headers: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(3600),
        stream: false,
    }
}

/// A session and its outbox, past `open`.
pub(crate) fn session<C: Connector>(connector: &C) -> (C::Session, Outbox<<C::Session as Session>::Frame>) {
    let mut session = connector.session(&LinkKey::main());
    let mut out = Outbox::new(Instant::now());
    session.open(&[], &mut out).unwrap();
    out.drain();
    (session, out)
}

/// Reads the command as the daemon does, and hands it to the session.
pub(crate) fn encode<S: Session<Request: Request>>(
    session: &mut S,
    command: Command,
    out: &mut Outbox<S::Frame>,
) -> Result<()> {
    session.encode(S::Request::parse(&command)?, command, out)
}

/// Where a command goes: refused, read and routed in the order in which the daemon does it.
pub(crate) fn route<C: Connector>(connector: &C, command: &Command) -> Result<Route<C::Transport>> {
    let mut operations = C::Request::operations().into_iter();
    connector.offers(&operations.find(|known| known.name == command.operation).unwrap())?;
    connector.route(command, &C::Request::parse(command)?)
}

/// The settings with this URL, unless they have one.
pub(crate) fn with_url(mut settings: Value, url: &str) -> Value {
    settings.as_object_mut().unwrap().entry("url").or_insert(url.into());
    settings
}

/// Why settings are refused that can be read.
pub(crate) fn refusal<C: Connector>(settings: &Value) -> Error {
    let config =
        serde_json::from_value(settings.clone()).unwrap_or_else(|error| panic!("{settings}: {error}"));
    C::new(config).err().unwrap_or_else(|| panic!("{settings} is taken"))
}

/// The settings of the example in a README, and what follows it.
pub(crate) fn example<C: Connector>(readme: &str) -> (Value, &str) {
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (example, rest) = rest.split_once("```").unwrap();
    let settings: Value = Figment::from(Toml::string(example)).extract_inner("connectors.chat").unwrap();
    let Value::Object(mut settings) = settings else { panic!("{settings}") };
    assert_eq!(settings.remove("type").unwrap(), C::TYPE);
    (Value::Object(settings), rest)
}
