//! The events of a link: those of the page's callback, which sockets and scripts share, and what scripts send besides.

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::event::{Message, ServiceError};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{End, Error, Event, EventType, Object, Raw, Result};

use crate::peer::Peer;

/// An event of a peer, with the text that the page's callback gets as its message.
pub(crate) fn socket_event(kind: EventType, peer: &Peer, message: &str) -> Event {
    let callback = match kind {
        EventType::SocketOpened => "OnOpen",
        EventType::SocketClosed => "OnClose",
        EventType::SocketFailed => "OnError",
        _ => "OnMessage",
    };
    let mut event = Event::new(kind, Raw::null()).scope(peer.title()).upstream(callback);
    event.fields.title = Some(peer.title().to_owned());
    if matches!(kind, EventType::SocketClosed | EventType::SocketFailed) {
        event.fields.reason = Some(message.to_owned());
    }
    event.fields.message = (!message.is_empty()).then(|| Message::Text(message.to_owned()));
    event
}

/// The event of the end of a connection.
pub(crate) fn ended(peer: &Peer, end: &End) -> Event {
    let kind = if end.orderly { EventType::SocketClosed } else { EventType::SocketFailed };
    let mut event = socket_event(kind, peer, &end.reason);
    event.fields.code = end.code.filter(|_| end.orderly);
    event
}

/// The event of a message: its text, and the frame.
pub(crate) fn message(peer: &Peer, frame: &Frame) -> Event {
    let text = match frame {
        Frame::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Frame::Binary(bytes) => Raw::document(bytes).map(|(json, _)| json.to_owned()).unwrap_or_default(),
    };
    Event { raw: Some(frame.raw()), ..socket_event(EventType::SocketMessage, peer, &text) }
}

/// What a script sends.
pub(crate) enum ScriptFrame {
    /// To be answered with the same.
    Heartbeat,
    /// It shows its token again. This is not published.
    Auth,
    /// Anything else.
    Event(Box<Event>),
}

impl ScriptFrame {
    /// Reads a frame.
    ///
    /// # Errors
    /// `Protocol` if it is binary and not JSON: scripts have only text.
    pub(crate) fn read(peer: &Peer, frame: &Frame) -> Result<Self> {
        if let (Frame::Binary(bytes), Err(error)) = (frame, Raw::document(frame.bytes())) {
            let size = bytes.len();
            return Err(Error::protocol(format!("a binary frame of {size} bytes: {}", error.message())));
        }
        let object = frame.object().ok();
        let typed = object.as_ref().and_then(|(object, raw)| Some((kind(object)?, object, raw)));
        Ok(match typed.as_ref().map(|(kind, object, raw)| (kind.as_str(), object, raw)) {
            Some(("heartbeat", ..)) => Self::Heartbeat,
            Some(("auth", ..)) => Self::Auth,
            Some(("error", object, raw)) => {
                let error = ServiceError { message: object.words("message"), ..ServiceError::default() };
                let mut event = Event::error(error, (*raw).clone()).scope(peer.title()).upstream("error");
                event.fields.title = Some(peer.title().to_owned());
                Self::Event(Box::new(event))
            }
            typed => {
                let event = message(peer, frame);
                // The app's name for what has happened.
                let name = typed.and_then(|(_, object, _)| object.value::<String>("event"));
                Self::Event(Box::new(match name {
                    Some(name) => event.upstream(name),
                    None => event,
                }))
            }
        })
    }
}

/// The type that a script gives its frame.
pub(crate) fn kind(object: &Object<'_>) -> Option<String> {
    object.value("type")
}
