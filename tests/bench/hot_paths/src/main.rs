//! `pontoon-hot-paths <path> <times>`: goes a hot path so many times on fixed input. `make bench-check` counts the
//! instructions. Without arguments it prints the paths.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pontoon::envelope::Envelope;
use pontoon::settings::{EventMode, Events};
use pontoon::transport::socketio::codec::{Decoder, Packet};
use pontoon_generic::{Socketio, Websocket};
use pontoon_sdk::operations::Request as _;
use pontoon_sdk::session::Action;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Command, CommandId, Connector, Event, LinkKey, Outbox, Session, socketio};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use time::OffsetDateTime;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Path = (&'static str, fn(u32) -> Result<()>);

/// Their names are in `counts.txt`.
const PATHS: [Path; 5] = [
    ("websocket-decode", websocket_decode),
    ("socketio-packet", socketio_packet),
    ("socketio-decode", socketio_decode),
    ("envelope-seal", envelope_seal),
    ("call-and-answer", call_and_answer),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => PATHS.iter().for_each(|(name, _)| println!("{name}")),
        [path, times] => {
            let (_, run) = PATHS.iter().find(|(name, _)| *name == path).ok_or("there is no such path")?;
            run(times.parse()?)?;
        }
        _ => return Err("usage: pontoon-hot-paths [<path> <times>]".into()),
    }
    Ok(())
}

/// A chat message of 300 bytes.
fn message() -> String {
    let text = "Hello, is there somebody? ".repeat(9);
    format!(r#"{{"room":"lobby","text":"{text}","type":"message","x":1000000000}}"#)
}

fn connector<C: Connector>(config: Value) -> Result<C> {
    Ok(C::new(serde_json::from_value(config)?).map_err(|error| error.to_string())?)
}

fn websocket() -> Result<Websocket> {
    connector(json!({
        "url": "ws://127.0.0.1:1/",
        "kind": "/type",
        "events": { "message": { "type": "message.created", "channel": "/room", "text": "/text" } },
        "call": { "id": "/id", "data": "/result" },
    }))
}

/// The events that a session has published since the last time.
fn published<F>(out: &mut Outbox<F>) -> usize {
    out.drain().filter(|action| matches!(black_box(action), Action::Publish(_))).count()
}

/// From a frame of a WebSocket to an event.
fn websocket_decode(times: u32) -> Result<()> {
    let link = LinkKey::new("main");
    let (mut session, mut out) = (websocket()?.session(&link), Outbox::new(Instant::now()));
    session.open(&[], &mut out).map_err(|error| error.to_string())?;
    let frame = Frame::text(message());
    for _ in 0..times {
        session.decode(black_box(&frame), &mut out).map_err(|error| error.to_string())?;
        check(published(&mut out) == 1)?;
    }
    Ok(())
}

/// From a message of Engine.IO to a frame.
fn socketio_packet(times: u32) -> Result<()> {
    let text = Bytes::from(format!(r#"42["message",{}]"#, message()));
    let mut decoder = Decoder::new("/");
    for _ in 0..times {
        decoder.text(black_box(text.clone()));
        check(matches!(black_box(decoder.take()), Some(Packet::Frame(socketio::Frame::Event(_)))))?;
    }
    Ok(())
}

/// From a frame of Socket.IO to an event.
fn socketio_decode(times: u32) -> Result<()> {
    let socketio: Socketio = connector(json!({
        "url": "http://127.0.0.1:1/",
        "events": { "message": { "type": "message.created", "channel": "/0/room", "text": "/0/text" } },
    }))?;
    let link = LinkKey::new("main");
    let (mut session, mut out) = (socketio.session(&link), Outbox::new(Instant::now()));
    session.open(&[], &mut out).map_err(|error| error.to_string())?;
    let mut decoder = Decoder::new("/");
    decoder.text(Bytes::from(format!(r#"42["message",{}]"#, message())));
    let Some(Packet::Frame(frame)) = decoder.take() else { return Err("the packet is not an event".into()) };
    for _ in 0..times {
        session.decode(black_box(&frame), &mut out).map_err(|error| error.to_string())?;
        check(published(&mut out) == 1)?;
    }
    Ok(())
}

/// From an event to what is published. That the event is made first is a part of it.
fn envelope_seal(times: u32) -> Result<()> {
    let link = LinkKey::new("main");
    let (mut session, mut out) = (websocket()?.session(&link), Outbox::new(Instant::now()));
    session.open(&[], &mut out).map_err(|error| error.to_string())?;
    session.decode(&Frame::text(message()), &mut out).map_err(|error| error.to_string())?;
    let events = out.drain().filter_map(|action| match action {
        Action::Publish(event) => Some(*event),
        _ => None,
    });
    let event: Event = events.last().ok_or("there is no event")?;
    let settings = Events { mode: EventMode::Binary, raw: true };
    let envelope = Envelope::new("pontoon", "websocket", "bench", 1_700_000_000_000, &settings);
    let (read_at, mut read) = (Instant::now(), OffsetDateTime::UNIX_EPOCH);
    for _ in 0..times {
        // Some events are of the same millisecond.
        read += Duration::from_micros(100);
        let record = envelope.seal(black_box(event.clone()), &link, read_at, read, None);
        check(black_box(record).size() > 300)?;
    }
    Ok(())
}

/// From the body of a command to a frame, and from the service's answer to a reply.
fn call_and_answer(times: u32) -> Result<()> {
    let link = LinkKey::new("main");
    let (mut session, mut out) = (websocket()?.session(&link), Outbox::new(Instant::now()));
    session.open(&[], &mut out).map_err(|error| error.to_string())?;
    out.drain();
    let body =
        RawValue::from_string(r#"{"method":"balance","params":{"account":"a1","since":2020}}"#.to_owned())?;
    let deadline = Instant::now() + Duration::from_secs(10);
    for number in 1..=u64::from(times) {
        let command = Command {
            id: CommandId(number),
            operation: "call",
            argument: None,
            body: body.clone(),
            headers: Vec::new(),
            deadline,
            stream: false,
        };
        let request =
            <Websocket as Connector>::Request::parse(&command).map_err(|error| error.to_string())?;
        session.encode(request, black_box(command), &mut out).map_err(|error| error.to_string())?;
        check(out.drain().any(|action| matches!(black_box(action), Action::Send(_, Some(_)))))?;
        let answer = Frame::text(format!(r#"{{"id":{number},"result":{{"balance":12,"currency":"EUR"}}}}"#));
        session.decode(black_box(&answer), &mut out).map_err(|error| error.to_string())?;
        check(out.drain().any(|action| matches!(black_box(action), Action::Reply(..))))?;
    }
    Ok(())
}

/// What is not done is not counted.
fn check(done: bool) -> Result<()> {
    if done { Ok(()) } else { Err("the path did not lead where it should".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_somewhere_and_is_counted() {
        let counts = include_str!("../counts.txt");
        for (name, run) in PATHS {
            run(10).unwrap();
            assert!(
                counts.lines().any(|line| line.starts_with(&format!("{name} "))),
                "{name} is not in counts.txt"
            );
        }
    }
}
