//! What Board sends, and the events that become of it.

use pontoon_sdk::event::{Message, MessageObject, Sender, ServiceError};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Event, EventType, Fields, Object, Raw, Result};
use serde_json::value::RawValue;

/// One frame of Board.
pub(crate) enum Received {
    /// The answer to the request with this id.
    Answer { id: String, result: Result<Box<RawValue>, ServiceError> },
    /// We are refused.
    Refused(ServiceError),
    /// A post.
    Post(Box<Event>),
    /// A frame that the service's page does not describe.
    Unknown,
}

/// Reads a frame.
///
/// # Errors
/// `Protocol` if it is not a JSON object.
pub(crate) fn decode(frame: &Frame) -> Result<Received> {
    let (object, raw) = frame.object()?;
    let ok = object.field("ok").map(ToOwned::to_owned);
    Ok(match (object.text("id"), ok, object.has("error"), object.object("post")) {
        (Some(id), Some(data), false, _) => Received::Answer { id, result: Ok(data) },
        (Some(id), None, true, _) => Received::Answer { id, result: Err(object.error()) },
        (None, None, true, _) => Received::Refused(object.error()),
        (None, None, false, Some(post)) => Received::Post(Box::new(event(&post, raw))),
        _ => Received::Unknown,
    })
}

/// The event of a post.
fn event(post: &Object<'_>, raw: Raw) -> Event {
    let message = MessageObject { id: post.text("id"), text: post.words("text"), ..Default::default() };
    let mut event = Event::new(EventType::MessageCreated, raw).upstream("post").channel(post.text("board"));
    event.fields = Fields {
        message: Some(Message::Object(message)),
        sender: post.text("from").map(|name| Sender { name: Some(name), ..Default::default() }),
        ..event.fields
    };
    event
}
