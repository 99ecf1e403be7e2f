//! Plays a transcript for real: the daemon stands between a real nats-server and a service that says what is written.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use pontoon_sdk::transcript::{
    CommandStep, EventStep, FrameText as _, Names, ReplyStep, StepKind, Transcript,
};
use pontoon_sdk::websocket::Frame;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite;

use crate::daemon::{Daemon, DaemonConfig};
use crate::nats::NatsServer;
use crate::wait::eventually;
use crate::websocket::{Connection, Service, WebSocketServer};

/// How long a line may take to come true.
const LINE: Duration = Duration::from_secs(10);
/// The longest `wait` that is waited for; a longer one is for the player with a clock of its own.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const INSTANCE: &str = "staged";

/// Where transcripts of one connector are played: a nats-server, and the daemon's program.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The server.
    pub nats: &'a NatsServer,
    /// The daemon's program.
    pub binary: &'a Path,
    /// The connector.
    pub kind: &'a str,
    /// What of the simulator's URL comes after the port.
    pub path: &'a str,
}

impl Stage<'_> {
    /// Whether a transcript needs nothing but real time: long waits and deadlines are for the other player.
    pub fn suits(transcript: &Transcript) -> bool {
        transcript.link.is_none()
            && transcript.steps.iter().all(|step| match &step.kind {
                StepKind::Wait(time) => *time <= LONGEST_WAIT,
                StepKind::Timeout(_) => false,
                _ => true,
            })
    }

    /// Plays a transcript.
    ///
    /// # Errors
    /// The transcript's name, the number of the line, what it expects and what came.
    ///
    /// # Panics
    /// If the daemon does not run.
    pub async fn play(&self, transcript: &Transcript) -> Result<(), String> {
        let server = WebSocketServer::start(Arc::new(Quiet)).await;
        let url = format!("ws://{}{}", server.address(), self.path);
        let mut settings = transcript.config.as_object().cloned().unwrap_or_default();
        settings.insert("url".into(), url.into());
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| format!("{key:?} = {}", toml(value))).collect();
        let client = self.nats.client().await;
        // The stream of the transcript played before would go on.
        let streams = async_nats::jetstream::new(client.clone());
        let _ = streams.delete_stream(format!("PONTOON_{}", INSTANCE.to_uppercase())).await;
        let events = client.subscribe(format!("pontoon.event.{}.{INSTANCE}.>", self.kind)).await;
        let events = events.map_err(|error| error.to_string())?;
        let config = DaemonConfig::new(self.nats).connector(INSTANCE, self.kind, &settings.join("\n"));
        let _daemon = Daemon::start(self.binary, config);
        let mut play = Play {
            kind: self.kind,
            server: &server,
            client,
            events,
            names: Names::default(),
            here: 0,
            heard: 0,
            asked: HashMap::new(),
        };
        for step in &transcript.steps {
            let place = |wrong| format!("{}:{}: {wrong}", transcript.name, step.line);
            play.step(&step.kind).await.map_err(place)?;
        }
        play.nothing_more().await.map_err(|wrong| format!("{}: at the end: {wrong}", transcript.name))
    }
}

/// The service says only what the transcript says.
struct Quiet;

impl Service for Quiet {
    fn text(&self, _: &Arc<Connection>, _: &str) {}
}

struct Play<'a> {
    kind: &'a str,
    server: &'a WebSocketServer,
    client: Client,
    events: Subscriber,
    names: Names,
    /// The connection that the conversation is held over.
    here: usize,
    /// How many frames were compared.
    heard: usize,
    /// Where replies come, by the command's label.
    asked: HashMap<String, Subscriber>,
}

impl Play<'_> {
    async fn step(&mut self, step: &StepKind) -> Result<(), String> {
        match step {
            StepKind::Open => {
                timeout(LINE, self.server.connected(1, LINE * 2)).await.map_err(|_| "nobody connects")?;
                self.here = self.server.connections().first().map_or(self.here, |connection| connection.id());
                self.settle().await?;
            }
            StepKind::FromService(text) => {
                match Frame::from_text(&self.names.fill(text)?)? {
                    Frame::Text(bytes) => self.server.send_text(&String::from_utf8_lossy(&bytes)),
                    Frame::Binary(bytes) => self.server.send_binary(&bytes),
                }
                self.settle().await?;
            }
            StepKind::ToService(text) => self.frame(text).await?,
            StepKind::Closed { code, reason } => {
                match code {
                    Some(code) => self.server.close(*code, reason),
                    None => self.server.hang_up(),
                }
                self.gone().await?;
            }
            StepKind::Close(_) => self.gone().await?,
            StepKind::Command(command) => {
                self.command(command).await?;
                self.settle().await?;
            }
            StepKind::Event(event) => self.event(event).await?,
            StepKind::Reply(reply) => self.reply(reply).await?,
            StepKind::Wait(time) => sleep(*time).await,
            // What the session tells the daemon is not seen from outside.
            StepKind::Ends(_)
            | StepKind::Ready
            | StepKind::Join { .. }
            | StepKind::Forget(_)
            | StepKind::Sent(_)
            | StepKind::Timeout(_) => {}
        }
        Ok(())
    }

    /// The connection that this conversation was held over ends. The daemon may be back at once, over another.
    async fn gone(&mut self) -> Result<(), String> {
        let here = self.here;
        let ended = async || self.server.connections().iter().all(|connection| connection.id() > here);
        timeout(LINE, eventually(LINE * 2, ended)).await.map_err(|_| "the link stays open".to_owned())
    }

    async fn frame(&mut self, text: &str) -> Result<(), String> {
        let end = Instant::now() + LINE;
        let got = loop {
            if let Some(frame) = self.frames().get(self.heard) {
                break frame.clone();
            }
            if Instant::now() > end {
                return Err("no frame comes".to_owned());
            }
            sleep(Duration::from_millis(2)).await;
        };
        self.heard += 1;
        let expected = Frame::from_text(text)?;
        if got.is(&expected, &mut self.names) {
            Ok(())
        } else {
            Err(format!("the service got {}", got.to_text()))
        }
    }

    async fn event(&mut self, expected: &EventStep) -> Result<(), String> {
        let message = loop {
            let message = timeout(LINE, self.events.next()).await.map_err(|_| "no event comes")?;
            let message = message.ok_or("the connection to NATS ended")?;
            // The daemon's own event, of which a session knows nothing.
            if header(&message, "ce-type") != Some("pontoon.gap.detected.v1") {
                break message;
            }
        };
        let got = String::from_utf8_lossy(&message.payload).into_owned();
        let wrong = |what: &str| Err(format!("{what}: {} {got}", message.subject));
        if header(&message, "ce-type") != Some(&format!("pontoon.{}.v1", expected.kind.as_str())) {
            return wrong("another event was published");
        }
        let body: Value = serde_json::from_str(&got).map_err(|error| error.to_string())?;
        if !self.names.matches_fields(&expected.fields, &body) {
            return wrong("its fields are others");
        }
        if let Some(upstream) = &expected.upstream
            && !header(&message, "ce-upstreamevent").is_some_and(|got| self.names.matches_text(upstream, got))
        {
            return wrong("the service's name for it is another");
        }
        if expected.scope == Some(None) && header(&message, "ce-subject").is_some() {
            return wrong("it has a scope");
        }
        Ok(())
    }

    async fn command(&mut self, step: &CommandStep) -> Result<(), String> {
        let (operation, argument) = match step.operation.split_once('.') {
            Some((operation, argument)) if self.kind == "sub0" => (operation, Some(argument)),
            _ => (step.operation.as_str(), None),
        };
        let argument = argument.map(|argument| format!(".{}", token(argument))).unwrap_or_default();
        let subject = format!("pontoon.command.{}.{INSTANCE}.{operation}{argument}", self.kind);
        let mut headers = HeaderMap::new();
        for (name, value) in &step.headers {
            headers.insert(name.as_str(), self.names.fill(value)?.as_str());
        }
        let body = self.names.fill(&step.body)?;
        let replies = self.ask(subject, headers, body).await.map_err(|error| error.to_string())?;
        self.asked.insert(step.label.clone(), replies);
        Ok(())
    }

    async fn reply(&mut self, expected: &ReplyStep) -> Result<(), String> {
        let replies = self.asked.get_mut(&expected.label).ok_or("there is no such command")?;
        let message = timeout(LINE, replies.next()).await.map_err(|_| "no reply comes")?;
        let message = message.ok_or("the connection to NATS ended")?;
        let got = String::from_utf8_lossy(&message.payload).into_owned();
        let body: Value = serde_json::from_str(&got).unwrap_or_default();
        let right = body["status"] == expected.status.as_str()
            && if expected.status.has_data() {
                let data = body["data"].to_string();
                expected.text.is_empty() || self.names.matches(&expected.text, &data)
            } else {
                body["error"]["code"].as_u64() == expected.code.map(u64::from)
                    && body["error"]["message"]
                        .as_str()
                        .is_some_and(|message| message.contains(&expected.text))
            };
        if right { Ok(()) } else { Err(format!("the caller was told {got}")) }
    }

    /// All that was caused has come, and nothing else.
    async fn nothing_more(&mut self) -> Result<(), String> {
        self.settle().await?;
        match self.frames().get(self.heard) {
            Some(frame) => Err(format!("the service got {} too", frame.to_text())),
            None => Ok(()),
        }
    }

    /// What was said before, by the service or by a caller, has been taken in: the daemon has answered a ping, and then
    /// a question, which it takes in turn.
    async fn settle(&mut self) -> Result<(), String> {
        let connections = self.server.connections();
        let Some(connection) = connections.first() else { return Ok(()) };
        let pings = self.server.received().len().to_string();
        connection.send_ping(pings.as_bytes());
        let ponged = async || {
            let received = self.server.received();
            received.iter().any(|received| {
                received.connection == connection.id()
                    && matches!(&received.message, tungstenite::Message::Pong(data) if data == pings.as_bytes())
            }) || self.server.connections().is_empty()
        };
        timeout(LINE, eventually(LINE * 2, ponged)).await.map_err(|_| "no pong comes")?;
        let end = Instant::now() + LINE;
        loop {
            let subject = format!("pontoon.command.{}.{INSTANCE}.status", self.kind);
            let mut replies = self
                .ask(subject, HeaderMap::new(), String::new())
                .await
                .map_err(|error| error.to_string())?;
            let reply = timeout(LINE, replies.next()).await.map_err(|_| "the daemon does not answer")?;
            let body = reply.map(|reply| reply.payload).unwrap_or_default();
            let state: Value = serde_json::from_slice(&body).unwrap_or_default();
            let link = &state["data"]["links"][0]["phase"];
            let publishing = state["data"]["bus"]["publishing"] == true;
            if publishing && (link == "ready" || self.server.connections().is_empty()) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("the instance does not get ready: {state}"));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ask(
        &self,
        subject: String,
        headers: HeaderMap,
        body: String,
    ) -> Result<Subscriber, async_nats::Error> {
        let inbox = self.client.new_inbox();
        let replies = self.client.subscribe(inbox.clone()).await?;
        self.client.publish_with_reply_and_headers(subject, inbox, headers, body.into()).await?;
        Ok(replies)
    }

    fn frames(&self) -> Vec<Frame> {
        let received = self.server.received().into_iter();
        let frames = received.filter_map(|received| match received.message {
            tungstenite::Message::Text(text) => Some(Frame::text(text.as_str())),
            tungstenite::Message::Binary(bytes) => Some(Frame::Binary(bytes)),
            _ => None,
        });
        frames.collect()
    }
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    Some(message.headers.as_ref()?.get(name)?.as_str())
}

/// A token of a subject, for names that are not longer than a token may be.
fn token(text: &str) -> String {
    let mut token = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            token.push_str(&format!("={byte:02X}"));
        }
    }
    token
}

/// A value of a transcript's settings in TOML.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let fields: Vec<_> =
                table.iter().map(|(key, value)| format!("{key:?} = {}", toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
