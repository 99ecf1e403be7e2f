//! The connector from outside: its transcripts, and what they do not reach.

mod decode;
mod sessions;
mod settings;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pontoon_sdk::event::Message;
use pontoon_sdk::socketio::Frame;
use pontoon_sdk::{
    Action, Code, Command, CommandId, DeliveryLevel, Event, EventType, Join, Kind, Outbox, Raw, Reply,
    Request as _, Route, Session,
};
use pontoon_transcript::play_folder;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::config::{MAX_ID, MAX_ROOMS};

const ROOM: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const OTHER: &str = "aaaaaaaa-0000-4000-8000-000000000002";
const AGENT: &str = "bbbbbbbb-0000-4000-8000-00000000000a";

#[test]
fn every_transcript_plays() {
    let count = play_folder::<ElizaOs>(concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts")).unwrap();
    assert!(count >= 55, "only {count} transcripts");
}

fn read(more: Value) -> Result<Config, String> {
    let mut table = json!({"url": "http://localhost:3000"});
    table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(table).map_err(|error| error.to_string())
}

fn elizaos(more: Value) -> ElizaOs {
    ElizaOs::new(read(more).unwrap()).unwrap()
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn command(id: u64, operation: &'static str, body: &str) -> Command {
    Command {
        id: CommandId(id),
        operation,
        argument: None,
        body: raw(body),
        headers: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(3600),
        stream: false,
    }
}

/// Parses a command and encodes it, as the daemon does.
fn encode(session: &mut ElizaOsSession, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
    session.encode(Request::parse(&command)?, command, out)
}

/// A session in the native dialect, past `open`, and its outbox.
fn session(elizaos: &ElizaOs) -> (ElizaOsSession, Outbox<Frame>) {
    let mut session = elizaos.session(&LinkKey::main());
    let mut out = Outbox::new(Instant::now());
    session.open(&[], &mut out).unwrap();
    receive(&mut session, &mut out, "connection_established", &json!({}));
    (session, out)
}

/// What a session does with an event.
fn receive(
    session: &mut ElizaOsSession,
    out: &mut Outbox<Frame>,
    name: &str,
    payload: &Value,
) -> Vec<Action<Frame>> {
    session.decode(&Frame::event(name, Raw::json(payload).unwrap()), out).unwrap();
    out.drain().collect()
}

/// The only event among what a session did.
fn event(actions: Vec<Action<Frame>>) -> Box<Event> {
    let mut events = actions.into_iter().filter_map(|action| match action {
        Action::Publish(event) => Some(event),
        _ => None,
    });
    let event = events.next().unwrap();
    assert!(events.next().is_none());
    event
}

/// The payload of what a session sent for a command.
fn sent(out: &mut Outbox<Frame>) -> String {
    let mut frames = out.drain().filter_map(|action| match action {
        Action::Send(Frame::Event(event), _) => Some(event.args.payload()),
        _ => None,
    });
    let payload = frames.next().unwrap();
    assert!(frames.next().is_none());
    String::from_utf8(payload.as_bytes().to_vec()).unwrap()
}
