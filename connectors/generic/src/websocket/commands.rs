//! From a command to the frame that is sent for it, or to a refusal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pontoon_sdk::message::{MessageSend, needs_object};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Bytes, Code, Command, DeliveryLevel, Error, Result};
use serde::Deserialize;

use crate::websocket::calls::Numbers;
use crate::websocket::config::{Call, Config, ID, SendTemplate};
use crate::websocket::frames::Pointer;

/// The operations.
pub(crate) const SEND: &str = "send";
/// See [`SEND`].
pub(crate) const SEND_TEXT: &str = "send.text";
/// See [`SEND`].
pub(crate) const SEND_BINARY: &str = "send.binary";
/// See [`SEND`].
pub(crate) const CALL: &str = "call";
/// See [`SEND`].
pub(crate) const MESSAGE: &str = MessageSend::OPERATION;

/// What is sent for a command.
pub(crate) struct Outgoing {
    pub(crate) frame: Frame,
    /// The most that can be said of it.
    pub(crate) delivery: DeliveryLevel,
    /// The number by which its answer is known, if one is waited for.
    pub(crate) number: Option<u64>,
}

/// The body of `send.text`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextBody {
    text: String,
}

/// The body of `send.binary`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BinaryBody {
    base64: String,
}

/// Refuses what this instance can never do, whatever the body.
pub(crate) fn allowed(operation: &str, config: &Config) -> Result<()> {
    match operation {
        CALL => call_of(config).map(drop),
        MESSAGE => template_of(config).map(drop),
        _ => Ok(()),
    }
}

/// Reads a command. `secret` gives the value of a secret by its name, as JSON.
pub(crate) fn read(
    command: &Command,
    config: &Config,
    numbers: &Numbers,
    secret: &dyn Fn(&str) -> Option<String>,
) -> Result<Outgoing> {
    match command.operation {
        CALL => call(command, call_of(config)?, numbers),
        MESSAGE => message(command, config, numbers, secret),
        operation => {
            let (frame, at) = plain(command, operation)?;
            let at = at.or(config.call.as_ref().map(|call| call.id.as_str())).unwrap_or_default();
            unmistakable(&frame, config, numbers).map_err(|error| error.at(at))?;
            Ok(Outgoing { frame, delivery: DeliveryLevel::Sent, number: None })
        }
    }
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

fn template_of(config: &Config) -> Result<&SendTemplate> {
    config.send.as_ref().ok_or_else(|| {
        Error::rejected(
            Code::NotFound,
            "it is not configured how this service takes messages; set send = { frame = … } for this instance, or use \
             the operation send",
        )
    })
}

/// A frame that goes out as the caller says, and the field of the body that it came from.
fn plain(command: &Command, operation: &str) -> Result<(Frame, Option<&'static str>)> {
    match operation {
        SEND_TEXT => {
            needs_object(command, "{\"text\": \"…\"}")?;
            let TextBody { text } = command.parse()?;
            Ok((Frame::text(text), Some("/text")))
        }
        SEND_BINARY => {
            needs_object(command, "{\"base64\": \"…\"}")?;
            let BinaryBody { base64 } = command.parse()?;
            let bytes = STANDARD.decode(base64).map_err(|error| {
                let text = format!("this is no base64 (RFC 4648 §4, with padding): {error}");
                Error::rejected(Code::BadBody, text).at("/base64")
            })?;
            Ok((Frame::Binary(Bytes::from(bytes)), Some("/base64")))
        }
        _ => Ok((Frame::text(command.body.get()), None)),
    }
}

/// Refuses a frame whose answer could be taken for that of a call.
fn unmistakable(frame: &Frame, config: &Config, numbers: &Numbers) -> Result<()> {
    let Some(Call { id, .. }) = &config.call else { return Ok(()) };
    let found = std::str::from_utf8(frame.bytes()).ok().and_then(|json| id.find(json));
    if found.is_none_or(|found| numbers.read(found).is_none()) {
        return Ok(());
    }
    let text = format!(
        "the number at {} could be taken for that of a call; use call, or leave it out, or have this instance give its \
         calls texts (call.form = \"text\")",
        id.as_str()
    );
    Err(Error::rejected(Code::BadBody, text))
}

fn call(command: &Command, call: &Call, numbers: &Numbers) -> Result<Outgoing> {
    let number = numbers.next();
    let text = put_number(command.body.get(), &call.id, &numbers.json(number))?;
    Ok(Outgoing { frame: Frame::text(text), delivery: DeliveryLevel::Response, number: Some(number) })
}

fn put_number(json: &str, id: &Pointer, number: &str) -> Result<String> {
    id.put(json, number).map_err(|why| {
        let text = format!("the number of the call is put in at {}, where {why}", id.as_str());
        Error::rejected(Code::BadBody, text).at(id.as_str())
    })
}

fn message(
    command: &Command,
    config: &Config,
    numbers: &Numbers,
    secret: &dyn Fn(&str) -> Option<String>,
) -> Result<Outgoing> {
    let SendTemplate { frame: template, acknowledged } = template_of(config)?;
    let message = MessageSend::read(command, template.uses("channel"))?;
    let filled = template.text(&|name| match name {
        ID => Some(numbers.json(numbers.next())),
        name => message.json(name).or_else(|| secret(name)),
    });
    if *acknowledged {
        let number = numbers.next();
        let text = put_number(&filled, &call_of(config)?.id, &numbers.json(number))?;
        return Ok(Outgoing {
            frame: Frame::text(text),
            delivery: DeliveryLevel::Acked,
            number: Some(number),
        });
    }
    let frame = Frame::text(filled);
    if template.is_text() {
        unmistakable(&frame, config, numbers).map_err(|error| error.at("/text"))?;
    }
    Ok(Outgoing { frame, delivery: DeliveryLevel::Sent, number: None })
}
