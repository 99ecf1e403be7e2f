//! The real daemon against the reference Socket.IO server (npm `socket.io`), on a real nats-server.

mod breaks;
mod endurance;
mod fixture;
mod handshake;
mod messages;
mod recovery;
mod server;
mod volume;
