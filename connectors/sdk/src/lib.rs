//! What the author of a connector needs, and nothing else: no runtime, no sockets, no NATS.
//!
//! A [`Connector`] describes one kind of service and lives as long as its instance. A [`Session`] is one
//! conversation over one connection; it turns frames into [`Event`]s and [`Command`]s into frames by writing to
//! an [`Outbox`]. The daemon owns the rest: sockets, clocks, deadlines, reconnects, subjects, metrics.
//!
//! * [`connector`]: [`Connector`], and the links that it wants
//! * [`operations`](mod@operations): the table of what callers can ask for, which makes a [`Request`]
//! * [`listener`]: for services that connect to us
//! * [`session`]: [`Session`], [`Outbox`], what a service was asked to remember ([`Join`])
//! * [`event`]: what a service sent; [`command`]: what it is asked to do, and the [`Reply`]
//! * [`error`]: an [`Error`] is an instruction; its [`Kind`] decides what the daemon does
//! * [`websocket`], [`socketio`]: frames and endpoints of the transports
//! * [`url`]: takes URLs apart, for settings and for commands
//! * [`Object`], [`lenient`], [`json`]: JSON, texts and times as services write them
//! * [`streams`]: messages that come in parts; [`accumulator`]: what a part of one is
//! * [`Pending`]: which request an answer belongs to
//! * [`MessageSend`](message::MessageSend): the body of the command `message.send`
//! * [`redact`]: texts without our secrets, which services may repeat
//! * [`settings`], [`secret`], [`units`]: types and checks for configuration; [`rate`]: how much goes out in a time

pub mod accumulator;
pub mod command;
pub mod connector;
pub mod error;
pub mod event;
pub mod http;
mod joins;
pub mod json;
pub mod lenient;
mod link;
pub mod listener;
pub mod message;
pub mod object;
pub mod operations;
pub mod pending;
pub mod rate;
pub mod redact;
pub mod secret;
pub mod session;
pub mod settings;
pub mod socketio;
pub mod streams;
pub mod subjects;
pub mod units;
pub mod url;
pub mod websocket;

pub use accumulator::Piece;
pub use bytes::Bytes;
pub use command::{Command, CommandId, DeliveryLevel, Reply};
pub use connector::{Connector, LinkSpec, Route, Transport};
pub use error::{Code, End, Error, Kind, Result};
pub use event::{Event, EventType, Fields, Raw};
pub use http::HttpRequest;
pub use joins::{Join, Joined};
pub use link::{LinkKey, LinkState, OnDemandLimits};
pub use object::Object;
pub use operations::{Operation, Request};
pub use pending::Pending;
pub use redact::Redactor;
pub use secret::{Param, Secret};
pub use session::{Action, Outbox, Session};
pub use socketio::SocketIo;
pub use subjects::Subjects;
pub use units::{Size, Span};
pub use websocket::WebSocket;
