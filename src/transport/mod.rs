//! Connections to services: the only module that opens sockets to them.
//!
//! * [`dial`]: the traits of a transport; [`dials`]: how many connections are made at a time
//! * [`connect`]: a stream to an address, over [`tcp`] or through a [`proxy`]; [`resolve`]: names; [`tls`]; [`wire`]
//! * [`guard`]: where a link may lead whose URL a caller names
//! * [`upgrade`]: the opening handshake of a WebSocket (RFC 6455 §4); [`refusal`]: errors for HTTP statuses other than 101
//! * [`websocket`]: messages over it, pings, dead peers, the closing handshake
//! * [`http`]: one request before a connection
//! * [`listen`]: the server's side: WebSocket connections that services open to the daemon
//! * [`socketio`]: Socket.IO over it
//! * [`writer`]: the queue of outgoing messages of a link
//! * [`deadline`]: deadlines of a process that may be stopped; [`classify`]: kinds of close codes and HTTP statuses

pub mod classify;
pub mod connect;
pub mod deadline;
pub mod dial;
pub mod dials;
pub mod guard;
pub mod http;
pub mod listen;
pub mod proxy;
pub mod refusal;
pub mod resolve;
pub mod socketio;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod upgrade;
pub mod websocket;
pub mod wire;
pub mod writer;

pub use dial::{
    Accepted, Authorize, Dial, DialError, DialErrorKind, Dialled, DialledBy, Read, Received, Resumed,
    Settings, Write,
};
