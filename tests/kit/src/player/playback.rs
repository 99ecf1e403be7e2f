//! One transcript that is played, line by line.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use pontoon_sdk::Raw;
use pontoon_transcript::{CommandStep, EventStep, FrameText as _, Names, ReplyStep, StepKind, Transcript};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite;

use super::service::ScriptedService;
use super::subjects::{header, split_operation, token};
use super::{Profile, needs_connection};
use crate::websocket::Connection;

/// How long a line may take to come true.
const LINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);

pub(super) struct Playback<'a, S> {
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
    service: &'a S,
    client: Client,
    events: Subscriber,
    names: Names,
    /// The connection that is played on, or the last one.
    connection: Option<Arc<Connection>>,
    /// How many of its frames were compared.
    compared: usize,
    pings: usize,
    /// Where replies come, by the command's label.
    replies: HashMap<String, Subscriber>,
}

impl<'a, S: ScriptedService> Playback<'a, S> {
    /// Listens for events. The daemon is started after this.
    pub(super) async fn new(
        kind: &'a str,
        instance: &'a str,
        profile: &Profile<'a>,
        transcript: &'a Transcript,
        service: &'a S,
        client: Client,
    ) -> Result<Self, String> {
        let link = match (service.knows_links(), &transcript.link) {
            (true, link) => Some(link.as_deref().unwrap_or_else(|| (profile.first_link)(&transcript.config))),
            (false, None) => None,
            (false, Some(link)) if profile.on_demand => Some(link.as_str()),
            (false, Some(link)) => {
                let name = &transcript.name;
                return Err(format!("{name}: it is of the link {link}, and nothing here tells links apart"));
            }
        };
        let events = client.subscribe(format!("pontoon.event.{kind}.{instance}.>")).await;
        Ok(Self {
            kind,
            instance,
            arguments: profile.arguments,
            on_demand: profile.on_demand,
            to_be_opened: false,
            link,
            others: HashSet::new(),
            service,
            client,
            events: events.map_err(|error| error.to_string())?,
            names: Names::default(),
            connection: None,
            compared: 0,
            pings: 0,
            replies: HashMap::new(),
        })
    }

    pub(super) async fn run(mut self, transcript: &Transcript) -> Result<(), String> {
        for step in &transcript.steps {
            let place = |wrong| format!("{}:{}: {wrong}", transcript.name, step.line);
            self.step(&step.kind).await.map_err(place)?;
        }
        self.all_seen().await.map_err(|wrong| format!("{}: at the end: {wrong}", transcript.name))
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
                self.catch_up().await?;
            }
            StepKind::FromService(text) => {
                self.service.send(self.open_connection()?, &self.names.fill(text)?)?;
                self.catch_up().await?;
            }
            StepKind::ToService(text) => self.frame(text).await?,
            StepKind::Closed { code, reason } => {
                let connection = self.open_connection()?;
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
                    self.link_ready().await?;
                }
                self.command(command).await?;
                self.catch_up().await?;
            }
            StepKind::Event(event) => self.event(event).await?,
            StepKind::Reply(reply) => self.reply(reply).await?,
            StepKind::Wait(time) => sleep(*time).await,
            StepKind::Ready => self.link_ready().await?,
            // What else the session tells the daemon is not seen from outside.
            StepKind::Ends(_)
            | StepKind::Ask { .. }
            | StepKind::Answer(_)
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
        let last = self.connection.as_ref().map(|connection| connection.id());
        let end = Instant::now() + LINE;
        loop {
            for connection in self.service.server().connections() {
                if last.is_none_or(|last| connection.id() > last)
                    && self.is_ours_connection(&connection).await?
                {
                    (self.connection, self.compared) = (Some(connection), 0);
                    return Ok(());
                }
            }
            if Instant::now() > end {
                let link = self.link.map(|link| format!(" for the link {link}")).unwrap_or_default();
                let open = self.service.server().connections().len();
                return Err(format!("no connection{link}; {open} connections are open"));
            }
            sleep(POLL).await;
        }
    }

    /// Whether this is a connection of our link.
    async fn is_ours_connection(&mut self, connection: &Connection) -> Result<bool, String> {
        let id = connection.id();
        if !self.service.is_made(id) || self.others.contains(&id) {
            return Ok(false);
        }
        let Some(ours) = self.link.filter(|_| self.service.knows_links()) else { return Ok(true) };
        if self.service.received(id).is_empty() {
            // A session need not say anything. Whose it is can be told nevertheless if there is no other link.
            let links = self.request_status().await?["data"]["links"].take();
            return Ok(links.as_array().is_some_and(|links| links.len() == 1 && links[0]["key"] == ours));
        }
        // What the session sends at once is sent together: with the first frame here, the answer comes after the last.
        self.ping(connection).await?;
        let link = self.service.link_of(id);
        if link.as_ref().is_some_and(|link| link != ours) {
            self.others.insert(id);
        }
        Ok(link.as_deref() == Some(ours))
    }

    /// The connection, if it is open.
    fn open_connection(&self) -> Result<&Connection, String> {
        self.connection.as_deref().filter(|_| self.is_open()).ok_or_else(|| "the link has ended".to_owned())
    }

    fn is_open(&self) -> bool {
        self.connection.as_ref().is_some_and(|here| self.is_among_open(here))
    }

    fn is_among_open(&self, connection: &Connection) -> bool {
        self.service.server().connections().iter().any(|open| open.id() == connection.id())
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

    fn frames(&self) -> Vec<S::Frame> {
        self.connection.as_ref().map(|connection| self.service.received(connection.id())).unwrap_or_default()
    }

    async fn frame(&mut self, text: &str) -> Result<(), String> {
        let end = Instant::now() + LINE;
        let got = loop {
            if let Some(frame) = self.frames().into_iter().nth(self.compared) {
                break frame;
            }
            if Instant::now() > end {
                return Err("no frame comes".to_owned());
            }
            sleep(POLL).await;
        };
        self.compared += 1;
        let expected = S::Frame::from_text(text)?;
        if got.is(&expected, &mut self.names) {
            Ok(())
        } else {
            Err(format!("the service got {}", got.to_text()))
        }
    }

    fn all_compared(&self) -> Result<(), String> {
        match self.frames().get(self.compared) {
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
        let body: Value = Raw::checked(got.clone()).parse().map_err(|error| error.to_string())?;
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
        let replies = self.request(subject, headers, body).await?;
        self.replies.insert(step.label.clone(), replies);
        Ok(())
    }

    async fn reply(&mut self, expected: &ReplyStep) -> Result<(), String> {
        let replies = self.replies.get_mut(&expected.label).ok_or("there is no such command")?;
        let message = timeout(LINE, replies.next()).await.map_err(|_| "no reply comes")?;
        let message = message.ok_or("the connection to NATS ended")?;
        let got = String::from_utf8_lossy(&message.payload).into_owned();
        let body: Value = Raw::checked(got.clone()).parse().unwrap_or_default();
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
        if right { Ok(()) } else { Err(format!("the reply was {got}")) }
    }

    async fn request(&self, subject: String, headers: HeaderMap, body: String) -> Result<Subscriber, String> {
        let inbox = self.client.new_inbox();
        let replies = self.client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        let sent = self.client.publish_with_reply_and_headers(subject, inbox, headers, body.into()).await;
        sent.map_err(|error| error.to_string())?;
        Ok(replies)
    }

    // --- What the daemon has done by now ---

    /// All that was caused has come, and nothing else.
    async fn all_seen(&mut self) -> Result<(), String> {
        self.catch_up().await?;
        self.all_compared()?;
        // An event reaches us before its acknowledgement reaches the daemon.
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
    async fn catch_up(&mut self) -> Result<(), String> {
        if self.is_open()
            && let Some(connection) = self.connection.clone()
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
        let answered =
            || self.service.server().received().iter().any(|received| is_answer(&received.message));
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
    async fn link_ready(&self) -> Result<(), String> {
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
            let state = self.request_status().await?;
            if wanted(&state["data"]) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("the instance does not get so far: {state}"));
            }
            sleep(POLL).await;
        }
    }

    async fn request_status(&self) -> Result<Value, String> {
        let subject = format!("pontoon.command.{}.{}.status", self.kind, self.instance);
        let mut replies = self.request(subject, HeaderMap::new(), String::new()).await?;
        let reply = timeout(LINE, replies.next()).await.map_err(|_| "the daemon does not answer")?;
        let body = reply.map(|reply| reply.payload).unwrap_or_default();
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }
}
