//! Real parts for Pontoon's tests: servers that can be killed, services that can misbehave, and the daemon itself.
//!
//! * [`NatsServer`]: a real nats-server on a free port, which can be killed, restarted and frozen
//! * [`Sub0`]: the Sub0 backend, played over real WebSockets; [`WebSocketServer`] is what it stands on
//! * [`BareSocket`]: a WebSocket peer whose frames are bytes that a test chose
//! * [`Eliza`], [`MinChat`]: an ElizaOS server of any release, and a MinChat server, on a Socket.IO server with rooms
//! * [`Echo`], [`ScriptSocket`]: the server of a titled socket of Stream Avatars, and the socket of a script
//! * [`Aui`]: a network of agents on AUI
//! * [`Strict`]: strict services of the public protocols that recipes speak
//! * [`SocketIoServer`]: a Socket.IO server that sends what a test wants, right or wrong
//! * [`HostileCase`]: the packets of a hostile Socket.IO server, and what must follow each
//! * [`LuaApp`]: the Stream Avatars app with a script in it, run by a real Lua; a [`LuaScript`] is the script
//! * [`Daemon`]: the real `pontoon` with a [`DaemonConfig`], its log, metrics and signals
//! * [`TranscriptPlayer`]: plays transcripts with the real daemon between a service and NATS; a [`Profile`] is what it
//!   must know of a connector
//! * [`Proxy`]: a TCP proxy that breaks connections and refuses them
//! * [`ConnectProxy`]: an HTTP proxy that makes tunnels, and may refuse to
//! * [`FailingCalls`]: system calls of the daemon that fail, by strace
//! * [`Browser`]: a headless Chromium with one page
//! * [`eventually`], [`until_some`] and [`until_ok`]: wait for a condition with a deadline, never for luck; [`repeat`]
//!
//! Everything listens on loopback, on ports that the system chose or, where a server may be down for a while, that
//! [`reserved_port`] did, and is gone when its guard is dropped.

// This crate is test code: a part that cannot be set up fails the test, with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aui;
mod avatars;
mod bare;
mod browser;
mod connect_proxy;
mod daemon;
mod dir;
mod echo;
mod eliza;
mod failing_calls;
mod hostile;
mod metrics;
mod minchat;
mod nats;
mod player;
mod port;
mod process;
mod proxy;
mod script;
mod socketio;
pub mod strict;
mod sub0;
mod tools;
mod wait;
mod websocket;

pub use aui::{Aui, AuiAnswer, AuiEnvelope, AuiRefusal, AuiTurn};
pub use avatars::{Dialled, Farewell, LuaApp, LuaOptions, LuaScript, RanCommand, ThirdArgument};
pub use bare::{BareFrame, BareListener, BareSocket, bare_frame};
pub use browser::Browser;
pub use connect_proxy::{ConnectAnswer, ConnectProxy, ConnectRequest};
pub use daemon::{Daemon, DaemonConfig};
pub use dir::Dir;
pub use echo::Echo;
pub use eliza::{AgentReply, Eliza, ElizaDialect, ElizaOptions, ElizaVersion};
pub use failing_calls::FailingCalls;
pub use hostile::{HostileCase, HostileMessage, HostileOutcome};
pub use metrics::Metrics;
pub use minchat::MinChat;
pub use nats::{INSTANCES, NatsOptions, NatsServer};
pub use player::{LinkOf, Profile, TranscriptPlayer};
pub use port::reserved_port;
pub use proxy::Proxy;
pub use script::ScriptSocket;
pub use socketio::{Connect, Opening, Peer, SocketIoServer, Timers, Welcome};
pub use strict::Strict;
pub use sub0::{Answer, Audience, ErrorShape, Resource, Sub0, SubprotocolEcho};
pub use wait::{eventually, repeat, until_ok, until_some};
pub use websocket::{Connection, Lifetime, Listener, Received, Refusal, Request, Service, WebSocketServer};
