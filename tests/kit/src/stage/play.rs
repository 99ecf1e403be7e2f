//! One transcript on the stage, line by line.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use pontoon_sdk::json;
use pontoon_sdk::transcript::{
    CommandStep, EventStep, FrameText as _, Names, ReplyStep, StepKind, Transcript,
};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite;

use super::voice::Voice;
use super::words::{header, split_operation, token};
use super::{Cast, needs_connection};
use crate::websocket::Connection;

/// How long a line may take to come true.
const LINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);

pub(super) struct Play<'a, V> {
    kind: &'a str,
    instance: &'a str,
    arguments: &'a [&'a str],
    /// Whether links are opened by commands.
    on_demand: bool,
    /// Whether a connection is to be there as soon as it is needed.
    to_be_opened: bool,
    /// The link whose conversation this is, where there may be others.
    link: Option<&'a str>,
    /// Connections that belong to other links.
    others: HashSet<usize>,
    voice: &'a V,
    client: Client,
    events: Subscriber,
    names: Names,
    /// The connection that the conversation is held over, or was.
    here: Option<Arc<Connection>>,
    /// How many of its frames were compared.
    heard: usize,
    pings: usize,
    /// Where replies come, by the command's label.
    asked: HashMap<String, Subscriber>,
}

impl<'a, V: Voice> Play<'a, V> {
    /// Listens for events. The daemon is started after this.
    pub(super) async fn new(
        kind: &'a str,
        instance: &'a str,
        cast: &Cast<'a>,
        transcript: &'a Transcript,
        voice: &'a V,
        client: Client,
    ) -> Result<Self, String> {
        let link = match (voice.knows_links(), &transcript.link) {
            (true, link) => Some(link.as_deref().unwrap_or_else(|| (cast.first_link)(&transcript.config))),
            (false, None) => None,
            (false, Some(link)) if cast.on_demand => Some(link.as_str()),
            (false, Some(link)) => {
                let name = &transcript.name;
                return Err(format!("{name}: it is of the link {link}, and nothing here tells links apart"));
            }
        };
        let events = client.subscribe(format!("pontoon.event.{kind}.{instance}.>")).await;
        Ok(Self {
            kind,
            instance,
            arguments: cast.arguments,
            on_demand: cast.on_demand,
            to_be_opened: false,
            link,
            others: HashSet::new(),
            voice,
            client,
            events: events.map_err(|error| error.to_string())?,
            names: Names::default(),
            here: None,
            heard: 0,
            pings: 0,
            asked: HashMap::new(),
        })
    }

    pub(super) async fn run(mut self, transcript: &Transcript) -> Result<(), String> {
        for step in &transcript.steps {
            let place = |wrong| format!("{}:{}: {wrong}", transcript.name, step.line);
            self.step(&step.kind).await.map_err(place)?;
        }
        self.nothing_more().await.map_err(|wrong| format!("{}: at the end: {wrong}", transcript.name))
    }

    async fn step(&mut self, step: &StepKind) -> Result<(), String> {
        if self.to_be_opened && needs_connection(step) {
            self.open().await?;
        }
        match step {
            StepKind::Open => {
                self.to_be_opened = true;
                if !self.on_demand {
                    self.open().await?;
                }
                self.settle().await?;
            }
            StepKind::FromService(text) => {
                self.voice.say(self.connection()?, &self.names.fill(text)?)?;
                self.settle().await?;
            }
            StepKind::ToService(text) => self.frame(text).await?,
            StepKind::Closed { code, reason } => {
                let connection = self.connection()?;
                match code {
                    // These are never written: they tell of an end without a word (RFC 6455 §7.4.1).
                    None | Some(1005 | 1006 | 1015) => connection.hang_up(),
                    Some(code) => connection.close(*code, reason),
                }
                self.gone().await?;
            }
            StepKind::Close(_) => self.gone().await?,
            StepKind::Command(command) => {
                if !self.on_demand {
                    self.commands_flow().await?;
                }
                self.command(command).await?;
                self.settle().await?;
            }
            StepKind::Event(event) => self.event(event).await?,
            StepKind::Reply(reply) => self.reply(reply).await?,
            StepKind::Wait(time) => sleep(*time).await,
            StepKind::Ready => self.commands_flow().await?,
            // What else the session tells the daemon is not seen from outside.
            StepKind::Ends(_)
            | StepKind::Join { .. }
            | StepKind::Forget(_)
            | StepKind::Sent(_)
            | StepKind::Timeout(_) => {}
        }
        Ok(())
    }

    // --- The connection ---

    /// Waits for a connection of this link that is later than the last one. The daemon may have made it long ago.
    async fn open(&mut self) -> Result<(), String> {
        self.all_compared()?;
        self.to_be_opened = false;
        let last = self.here.as_ref().map(|connection| connection.id());
        let end = Instant::now() + LINE;
        loop {
            for connection in self.voice.server().connections() {
                if last.is_none_or(|last| connection.id() > last) && self.is_here(&connection).await? {
                    (self.here, self.heard) = (Some(connection), 0);
                    return Ok(());
                }
            }
            if Instant::now() > end {
                let link = self.link.map(|link| format!(" for the link {link}")).unwrap_or_default();
                let open = self.voice.server().connections().len();
                return Err(format!("nobody connects{link}; {open} connections are open"));
            }
            sleep(POLL).await;
        }
    }

    /// Whether this is a connection of our link.
    async fn is_here(&mut self, connection: &Connection) -> Result<bool, String> {
        let id = connection.id();
        if !self.voice.is_made(id) || self.others.contains(&id) {
            return Ok(false);
        }
        let Some(ours) = self.link.filter(|_| self.voice.knows_links()) else { return Ok(true) };
        if self.voice.heard(id).is_empty() {
            // A session need not say anything. Whose it is can be told nevertheless if there is no other link.
            let links = self.ask_state().await?["data"]["links"].take();
            return Ok(links.as_array().is_some_and(|links| links.len() == 1 && links[0]["key"] == ours));
        }
        // What the session says at once is said together: with the first frame here, the answer comes after the last.
        self.ping(connection).await?;
        let link = self.voice.link_of(id);
        if link.as_ref().is_some_and(|link| link != ours) {
            self.others.insert(id);
        }
        Ok(link.as_deref() == Some(ours))
    }

    /// The connection, if it is open.
    fn connection(&self) -> Result<&Connection, String> {
        self.here.as_deref().filter(|_| self.is_open()).ok_or_else(|| "the link has ended".to_owned())
    }

    fn is_open(&self) -> bool {
        self.here.as_ref().is_some_and(|here| self.is_among_open(here))
    }

    fn is_among_open(&self, connection: &Connection) -> bool {
        self.voice.server().connections().iter().any(|open| open.id() == connection.id())
    }

    /// The connection that this conversation was held over ends. The daemon may be back at once, over another.
    async fn gone(&mut self) -> Result<(), String> {
        let end = Instant::now() + LINE;
        while self.is_open() {
            if Instant::now() > end {
                return Err("the link stays open".to_owned());
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    fn frames(&self) -> Vec<V::Frame> {
        self.here.as_ref().map(|connection| self.voice.heard(connection.id())).unwrap_or_default()
    }

    async fn frame(&mut self, text: &str) -> Result<(), String> {
        let end = Instant::now() + LINE;
        let got = loop {
            if let Some(frame) = self.frames().into_iter().nth(self.heard) {
                break frame;
            }
            if Instant::now() > end {
                return Err("no frame comes".to_owned());
            }
            sleep(POLL).await;
        };
        self.heard += 1;
        let expected = V::Frame::from_text(text)?;
        if got.is(&expected, &mut self.names) {
            Ok(())
        } else {
            Err(format!("the service got {}", got.to_text()))
        }
    }

    fn all_compared(&self) -> Result<(), String> {
        match self.frames().get(self.heard) {
            Some(frame) => Err(format!("the service got {} too", frame.to_text())),
            None => Ok(()),
        }
    }

    // --- The bus ---

    async fn event(&mut self, expected: &EventStep) -> Result<(), String> {
        let message = loop {
            let message = timeout(LINE, self.events.next()).await.map_err(|_| "no event comes")?;
            let message = message.ok_or("the connection to NATS ended")?;
            if self.is_ours(&message) {
                break message;
            }
        };
        let got = String::from_utf8_lossy(&message.payload).into_owned();
        let wrong = |what: &str| Err(format!("{what}: {} {got}", message.subject));
        if header(&message, "ce-type") != Some(format!("pontoon.{}.v1", expected.kind.as_str())) {
            return wrong("another event was published");
        }
        let body: Value = json::from_str(&got).map_err(|error| error.to_string())?;
        if !self.names.matches_fields(&expected.fields, &body) {
            return wrong("its fields are others");
        }
        if let Some(upstream) = &expected.upstream
            && !header(&message, "ce-upstreamevent")
                .is_some_and(|got| self.names.matches_text(upstream, &got))
        {
            return wrong("the service's name for it is another");
        }
        match (&expected.scope, header(&message, "ce-subject")) {
            (Some(None), Some(_)) => wrong("it has a scope"),
            (Some(Some(_)), None) => wrong("it has no scope"),
            (Some(Some(scope)), Some(got)) if !self.names.matches_text(scope, &got) => {
                wrong("its scope is another")
            }
            _ => Ok(()),
        }
    }

    /// Whether an event belongs to this conversation: to its link, and not the daemon's own, of which a session knows
    /// nothing.
    fn is_ours(&self, message: &Message) -> bool {
        let link = header(message, "ce-link");
        header(message, "ce-type").as_deref() != Some("pontoon.gap.detected.v1")
            && self.link.is_none_or(|ours| link.is_none_or(|link| link == ours))
    }

    async fn command(&mut self, step: &CommandStep) -> Result<(), String> {
        let (operation, argument) = split_operation(&step.operation, self.arguments);
        let argument = argument.map(|argument| format!(".{}", token(argument))).unwrap_or_default();
        let subject = format!("pontoon.command.{}.{}.{operation}{argument}", self.kind, self.instance);
        let mut headers = HeaderMap::new();
        for (name, value) in &step.headers {
            headers.insert(name.as_str(), self.names.fill(value)?.as_str());
        }
        let body = self.names.fill(&step.body)?;
        let replies = self.ask(subject, headers, body).await?;
        self.asked.insert(step.label.clone(), replies);
        Ok(())
    }

    async fn reply(&mut self, expected: &ReplyStep) -> Result<(), String> {
        let replies = self.asked.get_mut(&expected.label).ok_or("there is no such command")?;
        let message = timeout(LINE, replies.next()).await.map_err(|_| "no reply comes")?;
        let message = message.ok_or("the connection to NATS ended")?;
        let got = String::from_utf8_lossy(&message.payload).into_owned();
        let body: Value = json::from_str(&got).unwrap_or_default();
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

    async fn ask(&self, subject: String, headers: HeaderMap, body: String) -> Result<Subscriber, String> {
        let inbox = self.client.new_inbox();
        let replies = self.client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        let sent = self.client.publish_with_reply_and_headers(subject, inbox, headers, body.into()).await;
        sent.map_err(|error| error.to_string())?;
        Ok(replies)
    }

    // --- What the daemon has done by now ---

    /// All that was caused has come, and nothing else.
    async fn nothing_more(&mut self) -> Result<(), String> {
        self.settle().await?;
        self.all_compared()?;
        // An event reaches us before the daemon hears that it is kept.
        self.state(|state| state["unconfirmed_events"] == 0).await?;
        while let Some(Some(message)) = self.events.next().now_or_never() {
            if self.is_ours(&message) {
                let body = String::from_utf8_lossy(&message.payload);
                return Err(format!("this was published too: {} {body}", message.subject));
            }
        }
        Ok(())
    }

    /// What was said before, by the service or by a caller, has been taken in: the daemon has answered a ping, and then
    /// a question, which it takes in turn.
    async fn settle(&mut self) -> Result<(), String> {
        if self.is_open()
            && let Some(connection) = self.here.clone()
        {
            self.ping(&connection).await?;
        }
        self.state(|state| state["bus"]["publishing"] == true).await
    }

    /// Waits for the answer to a ping, or for the end of the connection.
    async fn ping(&mut self, connection: &Connection) -> Result<(), String> {
        let data = format!("ping {}", self.pings);
        connection.send_ping(data.as_bytes());
        self.pings += 1;
        let is_answer = |message: &tungstenite::Message| matches!(message, tungstenite::Message::Pong(got) if got == data.as_bytes());
        let answered = || self.voice.server().received().iter().any(|received| is_answer(&received.message));
        let end = Instant::now() + LINE;
        while self.is_among_open(connection) && !answered() {
            if Instant::now() > end {
                return Err("no pong comes".to_owned());
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// The session has said that it is ready.
    async fn commands_flow(&self) -> Result<(), String> {
        self.state(|state| {
            let links = state["links"].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut ours = links.iter().filter(|link| self.link.is_none_or(|ours| link["key"] == ours));
            ours.next().is_some_and(|link| link["phase"] == "ready")
        })
        .await
    }

    /// Waits for a state of the instance that is so.
    async fn state(&self, wanted: impl Fn(&Value) -> bool) -> Result<(), String> {
        let end = Instant::now() + LINE;
        loop {
            let state = self.ask_state().await?;
            if wanted(&state["data"]) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("the instance does not get so far: {state}"));
            }
            sleep(POLL).await;
        }
    }

    async fn ask_state(&self) -> Result<Value, String> {
        let subject = format!("pontoon.command.{}.{}.status", self.kind, self.instance);
        let mut replies = self.ask(subject, HeaderMap::new(), String::new()).await?;
        let reply = timeout(LINE, replies.next()).await.map_err(|_| "the daemon does not answer")?;
        let body = reply.map(|reply| reply.payload).unwrap_or_default();
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }
}
