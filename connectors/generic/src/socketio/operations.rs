//! The operations, and the event that is sent for each, or its refusal.

use pontoon_sdk::operations::Body;
use pontoon_sdk::socketio::Args;
use pontoon_sdk::{Bytes, Code, Command, DeliveryLevel, Error, Raw, Result, operations};
use schemars::{Schema, json_schema};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mapping::{Base64, TemplateMessage, ValueOf};
use crate::socketio::config::{Config, Emit, Engine, RESERVED, SendTemplate, Subscriptions};
use crate::subscriptions::{self, AnyJson, SUBSCRIBE, SUBSCRIPTIONS, UNSUBSCRIBE};

/// The operations that depend on the configuration.
pub(crate) const CALL: &str = "call";
/// See [`CALL`].
pub(crate) const SEND: &str = TemplateMessage::OPERATION;

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Sends an event.
        Emit(Emitted) = "emit" / "event", Sent;
        /// Sends an event, and returns its acknowledgement.
        Call(Emitted) = "call" / "event", Response;
        /// Subscribes to what the body names, as the setting `subscriptions` describes; again after each reconnect.
        Subscribe(AnyJson) = "subscribe", Acked;
        /// Ends a subscription.
        Unsubscribe(AnyJson) = "unsubscribe", Acked;
        /// Lists the bodies of all subscriptions.
        Subscriptions(AnyJson) = "subscriptions", Response;
        /// Sends a message, in the way that the setting `send` describes.
        Message(TemplateMessage) = "message.send", Acked;
    }
}

/// The body of `emit` and `call`: the event that the subject names with its arguments, else the exact form.
pub struct Emitted {
    event: String,
    args: Args,
    /// Whether it has attachments, or arguments that could stand for one.
    is_binary: bool,
}

impl Body for Emitted {
    fn schema() -> Schema {
        json_schema!({ "description": "Without a name in the subject: {\"event\": \"…\", \"args\": [ … ], \"attachments\": \
                                       [\"<base64>\", …]}. With one: a list is the arguments, anything else the one argument" })
    }

    fn read(command: &Command) -> Result<Self> {
        match &command.argument {
            Some(event) => {
                sendable(event)?;
                let args = Args::new(listed(&command.body)?);
                Ok(Self { event: event.clone(), args, is_binary: false })
            }
            None => exact(command),
        }
    }
}

/// The longest name of an event that is sent, in bytes: it is kept while an acknowledgement is waited for.
pub(crate) const MAX_NAME: usize = 1024;

/// What is sent for a command.
pub(crate) struct Outgoing {
    pub(crate) event: String,
    pub(crate) args: Args,
    /// What its caller is promised.
    pub(crate) delivery: DeliveryLevel,
}

/// The exact body of `emit` and `call`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exact<'a> {
    event: String,
    #[serde(borrow, default)]
    args: Vec<&'a RawValue>,
    #[serde(default)]
    attachments: Vec<Base64>,
}

/// Refuses an operation that this instance cannot carry out.
pub(crate) fn allowed(operation: &str, config: &Config) -> Result<()> {
    match operation {
        SEND => template_of(config).map(drop),
        SUBSCRIBE | SUBSCRIPTIONS => subscriptions_of(config).map(drop),
        UNSUBSCRIBE => unsubscribe_of(config).map(drop),
        CALL if config.engine == Engine::RustSocketio => Err(Error::rejected(
            Code::Forbidden,
            "the engine rust-socketio mixes up acknowledgements, so nothing can be called over it; set engine = \
             \"native\" for this instance, or use emit",
        )),
        _ => Ok(()),
    }
}

/// What is sent for a request with this body.
pub(crate) fn outgoing(
    request: Request,
    body: &RawValue,
    config: &Config,
    named: ValueOf<'_>,
) -> Result<Outgoing> {
    let (delivery, Emitted { event, args, is_binary }) = match request {
        Request::Message(body) => return message(&body, template_of(config)?, named),
        Request::Subscribe(_) => {
            let Subscriptions { subscribe, acknowledged, .. } = subscriptions_of(config)?;
            return Ok(about_body(subscribe, body, *acknowledged, named));
        }
        Request::Unsubscribe(_) => {
            let acknowledged = subscriptions_of(config)?.acknowledged;
            return Ok(about_body(unsubscribe_of(config)?, body, acknowledged, named));
        }
        // It is answered by the session.
        Request::Subscriptions(_) => {
            return Err(Error::internal("nothing is sent for a list of subscriptions"));
        }
        Request::Emit(emitted) => (DeliveryLevel::Sent, emitted),
        Request::Call(emitted) => (DeliveryLevel::Response, emitted),
    };
    if is_binary && config.engine == Engine::RustSocketio {
        return Err(Error::rejected(
            Code::Forbidden,
            "the engine rust-socketio garbles binary data, so none is sent over it; set engine = \"native\" for this \
             instance, or send the data as text",
        )
        .at("/attachments"));
    }
    Ok(Outgoing { event, args, delivery })
}

/// An event that is filled from a body.
pub(crate) fn about_body(emit: &Emit, body: &RawValue, acknowledged: bool, named: ValueOf<'_>) -> Outgoing {
    let args = emit.args.iter().map(|value| value.json(&|name| subscriptions::value(name, body, named)));
    let delivery = if acknowledged { DeliveryLevel::Acked } else { DeliveryLevel::Sent };
    Outgoing { event: emit.event.clone(), args: Args::new(args.collect()), delivery }
}

pub(crate) fn subscriptions_of(config: &Config) -> Result<&Subscriptions> {
    config.subscriptions.as_ref().ok_or_else(|| {
        Error::rejected(
            Code::NotFound,
            "it is not configured how this service is subscribed to; set subscriptions = { subscribe = … } for this \
             instance, or use emit.<event>",
        )
    })
}

fn unsubscribe_of(config: &Config) -> Result<&Emit> {
    subscriptions_of(config)?.unsubscribe.as_ref().ok_or_else(|| {
        Error::rejected(
            Code::NotFound,
            "it is not configured how a subscription ends; set subscriptions.unsubscribe for this instance",
        )
    })
}

fn template_of(config: &Config) -> Result<&SendTemplate> {
    config.send.as_ref().ok_or_else(|| {
        Error::rejected(
            Code::NotFound,
            "it is not configured how this service takes messages; set send = { event = \"…\", args = [ … ] } for this \
             instance, or use emit.<event>",
        )
    })
}

/// Refuses names that must not be sent.
fn sendable(event: &str) -> Result<()> {
    if RESERVED.contains(&event) {
        return Err(Error::rejected(
            Code::BadBody,
            format!(
                "the event's name {event} is reserved by Socket.IO, whose servers close the connection on it"
            ),
        ));
    }
    if event.len() > MAX_NAME {
        let text = format!("the event's name has {} bytes; at most {MAX_NAME} are sent", event.len());
        return Err(Error::rejected(Code::BadBody, text));
    }
    Ok(())
}

/// The arguments that the body of `emit.<event>` stands for: those in a list, else the one.
fn listed(body: &RawValue) -> Result<Vec<Raw>> {
    if body.get().starts_with('[') {
        return elements(Bytes::from(body.get().to_owned()));
    }
    Ok(vec![Raw::from(body.to_owned())])
}

fn elements(array: Bytes) -> Result<Vec<Raw>> {
    Raw::elements(&array).map_err(|error| Error::rejected(Code::BadBody, error.message()))
}

fn exact(command: &Command) -> Result<Emitted> {
    let name = command.operation;
    // Serde would read an array into a struct, field by field.
    if !command.body.get().starts_with('{') {
        let text = format!(
            "the body of {name} without a name in the subject is {{\"event\": \"…\", \"args\": [ … ]}}; or end the \
             subject with {name}.<event>"
        );
        return Err(Error::rejected(Code::BadBody, text).at(""));
    }
    let body: Exact<'_> = command.parse()?;
    sendable(&body.event).map_err(|error| error.at("/event"))?;
    let values: Vec<_> = body.args.iter().map(|value| Raw::from((*value).to_owned())).collect();
    if body.attachments.is_empty() && !body.args.iter().any(|value| value.get().contains("\"_placeholder\""))
    {
        return Ok(Emitted { event: body.event, args: Args::new(values), is_binary: false });
    }
    let attachments = body.attachments.into_iter().map(|Base64(bytes)| bytes).collect();
    let args = Args::with_attachments(values, attachments)
        .map_err(|error| Error::rejected(Code::BadBody, error.message()).at("/args"))?;
    Ok(Emitted { event: body.event, args, is_binary: true })
}

fn message(message: &TemplateMessage, send: &SendTemplate, named: ValueOf<'_>) -> Result<Outgoing> {
    message.check(send.uses("channel"))?;
    let value_of = |name: &str| message.json(name).or_else(|| named(name));
    let args = send.args.iter().map(|value| value.json(&value_of)).collect();
    let delivery = if send.acknowledged { DeliveryLevel::Acked } else { DeliveryLevel::Sent };
    Ok(Outgoing { event: send.event.clone(), args: Args::new(args), delivery })
}
