//! The operations, and the frame that is sent for each, or its refusal.

use std::borrow::Cow;

use pontoon_sdk::operations::Body;
use pontoon_sdk::settings::escaped;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Code, Command, DeliveryLevel, Error, Object, Result, operations};
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mapping::{Base64, Json, Template, TemplateMessage, ValueOf};
use crate::rules::Outgoing as _;
use crate::subscriptions::{self, AnyJson, SUBSCRIBE, SUBSCRIPTIONS, UNSUBSCRIBE};
use crate::websocket::config::{Call, Config, ID, SendTemplate, Subscriptions};
use crate::websocket::content::Pointer;
use crate::websocket::ids::RequestIds;

/// The operations that depend on the configuration.
pub(crate) const CALL: &str = "call";
/// See [`CALL`].
pub(crate) const MESSAGE: &str = TemplateMessage::OPERATION;

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Sends the body as a frame.
        Send(AnyJson) = "send", Sent;
        /// Sends a text as it is.
        SendText(TextBody) = "send.text", Sent;
        /// Sends binary data.
        SendBinary(BinaryBody) = "send.binary", Sent;
        /// Sends the body with a number in it, and returns the answer, as the setting `call` describes.
        Call(CallFrame) = "call", Response;
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

/// The body of `send.text`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "{\"text\": \"…\"}")]
pub struct TextBody {
    /// The text.
    text: String,
}

/// The body of `send.binary`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "{\"base64\": \"…\"}")]
pub struct BinaryBody {
    /// The data (RFC 4648 §4).
    base64: Base64,
}

/// The body of `call`: a frame.
pub struct CallFrame;

impl Body for CallFrame {
    fn schema() -> Schema {
        json_schema!({
            "description": "The frame, without the number",
            "type": ["object", "array"]
        })
    }

    fn read(_: &Command) -> Result<Self> {
        Ok(Self)
    }
}

/// What is sent for a command.
pub(crate) struct Outgoing {
    pub(crate) frame: Frame,
    /// What its caller is promised.
    pub(crate) delivery: DeliveryLevel,
    /// The id by which its answer is known, if one is waited for.
    pub(crate) id: Option<u64>,
}

/// Refuses an operation that this instance cannot carry out.
pub(crate) fn allowed(operation: &str, config: &Config) -> Result<()> {
    match operation {
        CALL => call_of(config).map(drop),
        MESSAGE => template_of(config).map(drop),
        SUBSCRIBE | SUBSCRIPTIONS => subscriptions_of(config).map(drop),
        UNSUBSCRIBE => unsubscribe_of(config).map(drop),
        _ => Ok(()),
    }
}

/// What is sent for a request. `secret` gives the value of a secret by its name, as JSON.
pub(crate) fn outgoing(
    request: Request,
    command: &Command,
    config: &Config,
    ids: &RequestIds,
    secret: ValueOf<'_>,
) -> Result<Outgoing> {
    let (frame, at) = match request {
        Request::Call(_) => {
            let call = call_of(config)?;
            let body = with_constants(command.body.get(), call, secret);
            return with_id(&body, call, ids, DeliveryLevel::Response);
        }
        Request::Message(body) => return message(&body, config, ids, secret),
        Request::Subscribe(_) => {
            let Subscriptions { subscribe, acknowledged, .. } = subscriptions_of(config)?;
            return about_body(subscribe, &command.body, *acknowledged, config, ids, secret);
        }
        Request::Unsubscribe(_) => {
            let acknowledged = subscriptions_of(config)?.acknowledged;
            return about_body(unsubscribe_of(config)?, &command.body, acknowledged, config, ids, secret);
        }
        // It is answered by the session.
        Request::Subscriptions(_) => {
            return Err(Error::internal("nothing is sent for a list of subscriptions"));
        }
        Request::Send(_) => (Frame::text(command.body.get()), None),
        Request::SendText(TextBody { text }) => (Frame::text(text), Some("/text")),
        Request::SendBinary(BinaryBody { base64: Base64(bytes) }) => (Frame::Binary(bytes), Some("/base64")),
    };
    // The field of the body that the frame came from; for a whole body, where the number stands in it.
    let at = at.or(config.call.as_ref().map(|call| call.id.as_str())).unwrap_or_default();
    unmistakable(&frame, config, ids).map_err(|error| error.at(at))?;
    Ok(Outgoing { frame, delivery: DeliveryLevel::Sent, id: None })
}

fn call_of(config: &Config) -> Result<&Call> {
    config.call.as_ref().ok_or_else(|| {
        Error::rejected(
            Code::NotFound,
            "it is not configured how an answer of this service finds its call; set call = { id = \"/…\" } for this \
             instance, or use send",
        )
    })
}

pub(crate) fn subscriptions_of(config: &Config) -> Result<&Subscriptions> {
    config.subscriptions.as_ref().ok_or_else(|| {
        Error::rejected(
            Code::NotFound,
            "it is not configured how this service is subscribed to; set subscriptions = { subscribe = … } for this \
             instance, or use send",
        )
    })
}

fn unsubscribe_of(config: &Config) -> Result<&Template> {
    subscriptions_of(config)?.unsubscribe.as_ref().ok_or_else(|| {
        Error::rejected(
            Code::NotFound,
            "it is not configured how a subscription ends; set subscriptions.unsubscribe for this instance",
        )
    })
}

/// A frame that is filled from a body.
pub(crate) fn about_body(
    template: &Template,
    body: &RawValue,
    acknowledged: bool,
    config: &Config,
    ids: &RequestIds,
    named: ValueOf<'_>,
) -> Result<Outgoing> {
    let value_of = |name: &str| match name {
        ID => Some(ids.json(ids.next())),
        name => subscriptions::value(name, body, named),
    };
    if acknowledged {
        return with_id(&template.text(&value_of), call_of(config)?, ids, DeliveryLevel::Acked);
    }
    let frame = template.frame(&value_of);
    unmistakable(&frame, config, ids)?;
    Ok(Outgoing { frame, delivery: DeliveryLevel::Sent, id: None })
}

fn template_of(config: &Config) -> Result<&SendTemplate> {
    config.send.as_ref().ok_or_else(|| {
        Error::rejected(
            Code::NotFound,
            "it is not configured how this service takes messages; set send = { frame = … } for this instance, or use \
             the operation send",
        )
    })
}

/// Refuses a frame whose answer could be taken for that of a call.
fn unmistakable(frame: &Frame, config: &Config, ids: &RequestIds) -> Result<()> {
    let Some(Call { id, .. }) = &config.call else { return Ok(()) };
    let json = config.encoding().json(frame).unwrap_or_default();
    let found = id.find(&Json::new(&json));
    if found.is_none_or(|found| ids.read(found).is_none()) {
        return Ok(());
    }
    let text = format!(
        "the number at {} could be taken for that of a call; use call, or leave it out, or have this instance give its \
         calls texts (call.form = \"text\")",
        id.as_str()
    );
    Err(Error::rejected(Code::BadBody, text))
}

/// A frame with the constants that its caller has not written. Only an object has fields.
fn with_constants<'a>(json: &'a str, call: &Call, value_of: ValueOf<'_>) -> Cow<'a, str> {
    let mut body = Cow::Borrowed(json);
    for (name, constant) in &call.constants {
        let Ok(object) = serde_json::from_str::<Object<'_>>(&body) else { break };
        if object.field(name).is_none() {
            let value = constant.json(value_of);
            let value = String::from_utf8_lossy(value.as_bytes());
            let place = format!("/{}", escaped(name)).parse::<Pointer>();
            if let Some(with) = place.ok().and_then(|place| place.put(&body, &value).ok()) {
                body = Cow::Owned(with);
            }
        }
    }
    body
}

/// A frame with a new id put in, which is answered as a call.
fn with_id(json: &str, call: &Call, ids: &RequestIds, delivery: DeliveryLevel) -> Result<Outgoing> {
    let (place, id) = (&call.id, ids.next());
    let text = place.put(json, &ids.json(id)).map_err(|why| {
        let text = format!("the number of the call is put in at {}, where {why}", place.as_str());
        Error::rejected(Code::BadBody, text).at(place.as_str())
    })?;
    Ok(Outgoing { frame: Frame::text(text), delivery, id: Some(id) })
}

fn message(
    message: &TemplateMessage,
    config: &Config,
    ids: &RequestIds,
    secret: ValueOf<'_>,
) -> Result<Outgoing> {
    let SendTemplate { frame: template, acknowledged } = template_of(config)?;
    message.check(template.uses("channel"))?;
    let filled = template.text(&|name| match name {
        ID => Some(ids.json(ids.next())),
        name => message.json(name).or_else(|| secret(name)),
    });
    if *acknowledged {
        return with_id(&filled, call_of(config)?, ids, DeliveryLevel::Acked);
    }
    let frame = Frame::text(filled);
    if template.is_text() {
        unmistakable(&frame, config, ids).map_err(|error| error.at("/text"))?;
    }
    Ok(Outgoing { frame, delivery: DeliveryLevel::Sent, id: None })
}
