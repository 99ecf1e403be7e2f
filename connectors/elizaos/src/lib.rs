//! Pontoon connector for ElizaOS: rooms and agents over Socket.IO.
