//! Connectors for any other service, by configuration alone.
//!
//! * [`websocket`]: services that speak JSON or text over a plain WebSocket
//! * [`socketio`]: services that speak Socket.IO
//! * [`mapping`]: what both read from their configuration: where things stand in a payload, what they become, what is sent
//! * [`encoding`]: frames that are compressed, or MessagePack or CBOR
//! * [`headers`]: the check of the setting of this name
//! * [`rules`]: what both do by their settings besides: which frames make a link ready, end it, are remembered or answered

mod answer;
pub mod encoding;
pub mod headers;
pub mod mapping;
mod opening;
pub mod rules;
pub mod socketio;
mod subscriptions;
pub mod websocket;

pub use socketio::{Socketio, SocketioOver};
pub use websocket::Websocket;

#[cfg(test)]
mod tests;
