//! One conversation over one connection, with whichever end it is, and the events that both kinds of ends have.

use pontoon_sdk::event::Message;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Command, CommandId, End, Event, EventType, Join, Kind, Outbox, Raw, Result, Session};

use crate::authorize::Script;
use crate::config::Checked;
use crate::operations::Order;
use crate::peer::Place;
use crate::socket::TitledSocket;

/// A conversation.
pub struct AvatarsSession(Role);

enum Role {
    Socket(TitledSocket),
    Script(Script),
}

impl AvatarsSession {
    pub(crate) fn new(place: Place, config: &Checked) -> Self {
        Self(match place {
            Place::Socket(_) => Role::Socket(TitledSocket::new(place)),
            Place::Script(_) => Role::Script(Script::new(place, config.listen.as_ref())),
        })
    }
}

/// What the page's callback calls an event.
fn upstream(kind: EventType) -> &'static str {
    match kind {
        EventType::SocketOpened => "OnOpen",
        EventType::SocketClosed => "OnClose",
        EventType::SocketFailed => "OnError",
        _ => "OnMessage",
    }
}

/// An event of a place, with the words that the page's callback gets as its message.
pub(crate) fn event(kind: EventType, place: &Place, message: &str) -> Event {
    let mut event = Event::new(kind, Raw::null()).scope(place.title()).upstream(upstream(kind));
    event.fields.title = Some(place.title().to_owned());
    if matches!(kind, EventType::SocketClosed | EventType::SocketFailed) {
        event.fields.reason = Some(message.to_owned());
    }
    event.fields.message = (!message.is_empty()).then(|| Message::Text(message.to_owned()));
    event
}

/// The event of an end.
pub(crate) fn ended(place: &Place, end: &End) -> Event {
    let kind = if end.orderly { EventType::SocketClosed } else { EventType::SocketFailed };
    let mut event = event(kind, place, &end.reason);
    event.fields.code = end.code.filter(|_| end.orderly);
    event
}

/// The event of a message: its text, and all that there is to know of it.
pub(crate) fn said(place: &Place, frame: &Frame) -> Event {
    let text = match frame {
        Frame::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Frame::Binary(bytes) => Raw::document(bytes).map(|(json, _)| json.to_owned()).unwrap_or_default(),
    };
    let mut event = event(EventType::SocketMessage, place, &text);
    event.raw = Some(pontoon_sdk::connector::Frame::raw(frame));
    event
}

impl Session for AvatarsSession {
    type Frame = Frame;
    type Request = Order;

    fn open(&mut self, joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        match &mut self.0 {
            Role::Socket(socket) => socket.open(joins, out),
            Role::Script(script) => script.open(joins, out),
        }
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        match &mut self.0 {
            Role::Socket(socket) => socket.decode(frame, out),
            Role::Script(script) => script.decode(frame, out),
        }
    }

    fn takes(&mut self, out: &mut Outbox<Frame>) -> bool {
        match &mut self.0 {
            Role::Socket(socket) => socket.takes(out),
            Role::Script(script) => script.takes(out),
        }
    }

    fn encode(&mut self, order: Order, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        match &mut self.0 {
            Role::Socket(socket) => socket.encode(order, command, out),
            Role::Script(script) => script.encode(order, command, out),
        }
    }

    fn abandoned(&mut self, _command: CommandId, _sent: bool, _out: &mut Outbox<Frame>) {}

    fn ended(&mut self, end: &End, out: &mut Outbox<Frame>) -> Kind {
        match &mut self.0 {
            Role::Socket(socket) => socket.ended(end, out),
            Role::Script(script) => script.ended(end, out),
        }
    }
}
