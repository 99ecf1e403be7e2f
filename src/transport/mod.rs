//! Sockets: the only place where they are opened.
//!
//! * [`dial`]: the traits of a transport
//! * [`connect`]: an encrypted stream to an address, over [`tcp`] or through a [`proxy`]; [`resolve`]: names; [`tls`]; [`wire`]
//! * [`upgrade`]: the opening handshake of a WebSocket (RFC 6455 §4); [`refusal`]: what other answers to it mean
//! * [`websocket`]: messages over it, pings, dead peers, the closing handshake
//! * [`listen`]: WebSockets that services open to us
//! * [`socketio`]: Socket.IO over it
//! * [`writer`]: the queue that every link writes through
//! * [`deadline`]: deadlines of a process that may be stopped; [`meaning`]: what close codes and HTTP statuses mean

pub mod connect;
pub mod deadline;
pub mod dial;
#[cfg(test)]
mod guarded;
pub mod listen;
pub mod meaning;
#[cfg(test)]
mod proxied;
pub mod proxy;
pub mod refusal;
pub mod resolve;
pub mod socketio;
pub mod tcp;
pub mod tls;
pub mod upgrade;
pub mod websocket;
pub mod wire;
pub mod writer;

pub use dial::{
    Accepted, Authorize, Dial, DialError, DialErrorKind, Dialled, DialledBy, Read, Received, Resumed,
    Settings, Write,
};
