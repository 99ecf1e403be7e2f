//! Connectors for any other service, by configuration alone.
//!
//! * [`websocket`]: services that speak JSON or text over a plain WebSocket
//! * [`socketio`]: services that speak Socket.IO
//! * [`mapping`]: what both read from their configuration: where things stand in a payload, what they become, what is sent

mod answer;
mod headers;
pub mod mapping;
pub mod socketio;
pub mod websocket;

pub use socketio::{Socketio, SocketioOver};
pub use websocket::Websocket;

#[cfg(test)]
mod tests;
