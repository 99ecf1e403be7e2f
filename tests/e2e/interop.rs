//! The real daemon against the reference Socket.IO server (npm `socket.io`), on a real nats-server.

mod bed;
mod breaks;
mod endurance;
mod handshake;
mod messages;
mod recovery;
mod server;
mod volume;
