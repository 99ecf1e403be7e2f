//! Plays a transcript against a session, as the daemon would: same calls, same rules, a simulated clock.

mod callers;
mod outputs;
mod waiting;

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::time::Instant;

use pontoon_sdk::Join;
use pontoon_sdk::command::{CommandId, Reply};
use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::error::{Code, End, Error, Kind};
use pontoon_sdk::event::{Event, EventType, Raw};
use pontoon_sdk::operations::Request as _;
use pontoon_sdk::rate::RateLimiter;
use pontoon_sdk::session::{Action, Outbox, Session};
use pontoon_sdk::{Connector, LinkKey, LinkState, Route, Transport};

use self::callers::{Callers, find};
use self::outputs::Outputs;
use self::waiting::{Waiting, WaitingCommands};
use crate::frame_text::FrameText;
use crate::parse::kind_word;
use crate::steps::{CommandStep, Status, Step, StepKind, Transcript};

type FrameOf<C> = <<C as Connector>::Transport as Transport>::Frame;

/// How often a session may be woken within one line; more is a loop.
const MAX_TICKS: usize = 10_000;

/// Plays a transcript; `name` stands in messages.
///
/// # Errors
/// The name, the number of the line, what the line expects and what came.
pub fn play<C: Connector>(name: &str, text: &str) -> Result<(), String>
where
    FrameOf<C>: FrameText,
{
    let transcript = Transcript::parse(name, text)?;
    let mut player = Player::<C>::new(&transcript).map_err(|wrong| format!("{name}: {wrong}"))?;
    for step in &transcript.steps {
        player.step(step).map_err(|wrong| format!("{name}:{}: {wrong}", step.line))?;
    }
    player.outputs.settled().map_err(|wrong| format!("{name}: at the end: {wrong}"))
}

/// Plays every `.txt` file of a folder, and returns how many there are.
///
/// # Errors
/// The error of [`play`] for each file that fails, one a line; or that there is no file.
pub fn play_folder<C: Connector>(folder: impl AsRef<Path>) -> Result<usize, String>
where
    FrameOf<C>: FrameText,
{
    let folder = folder.as_ref();
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        if let Err(message) = play::<C>(&path.display().to_string(), &text) {
            wrong.push(message);
        }
    }
    match (paths.len(), wrong.is_empty()) {
        (0, _) => Err(format!("{}: there is no transcript here", folder.display())),
        (count, true) => Ok(count),
        (_, false) => Err(wrong.join("\n")),
    }
}

struct Player<C: Connector> {
    connector: C,
    link: LinkKey,
    now: Instant,
    outbox: Outbox<FrameOf<C>>,
    /// `None` while there is no connection.
    session: Option<C::Session>,
    /// Limits the commands of a connection.
    limiter: Option<RateLimiter>,
    joins: Vec<Join>,
    commands_flow: bool,
    /// Whether the session has finished the link.
    finished: bool,
    /// Commands that the session has not taken yet.
    waiting: WaitingCommands<C::Request>,
    callers: Callers,
    /// The numbers of the requests over NATS that wait for an answer.
    asked: VecDeque<u64>,
    /// What was published, by identity.
    published: HashSet<(EventType, String)>,
    outputs: Outputs<FrameOf<C>>,
}

impl<C: Connector> Player<C>
where
    FrameOf<C>: FrameText,
{
    fn new(transcript: &Transcript) -> Result<Self, String> {
        let config = serde_path_to_error::deserialize(&transcript.config)
            .map_err(|error| format!("the config line is refused: {error}"))?;
        let connector = C::new(config).map_err(|error| format!("the config line is refused: {error}"))?;
        let link = match &transcript.link {
            Some(name) => LinkKey::new(name),
            None => {
                connector.links().into_iter().next().map_or_else(|| LinkKey::new("main"), |spec| spec.key)
            }
        };
        let now = Instant::now();
        Ok(Self {
            connector,
            link,
            now,
            outbox: Outbox::new(now),
            session: None,
            limiter: None,
            joins: Vec::new(),
            commands_flow: false,
            finished: false,
            waiting: WaitingCommands::default(),
            callers: Callers::default(),
            asked: VecDeque::new(),
            published: HashSet::new(),
            outputs: Outputs::default(),
        })
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.kind {
            StepKind::ToService(frame) => return self.outputs.expect_frame(frame),
            StepKind::Event(event) => return self.outputs.expect_event(event),
            StepKind::Reply(reply) => return self.outputs.expect_reply(reply),
            StepKind::Close(words) => return self.outputs.expect_close(words),
            StepKind::Ends(kind) => return self.outputs.expect_end(*kind),
            StepKind::Ready => return self.outputs.expect_ready(),
            StepKind::Join { key, data } => return self.outputs.expect_join(key, data.as_ref()),
            StepKind::Ask { subject, body } => return self.outputs.expect_ask(subject, body),
            StepKind::Forget(key) => return self.outputs.expect_forget(key),
            StepKind::Sent(label) => return self.callers.expect_sent(label),
            _ => self.outputs.settled()?,
        }
        self.outputs.begin(step.line);
        match &step.kind {
            StepKind::Open => self.open()?,
            StepKind::FromService(frame) => self.decode(frame)?,
            StepKind::Closed { code, reason } => {
                // This code is never written: it tells of a connection that broke (RFC 6455 §7.4.1).
                self.end(End { orderly: *code != Some(1006), ..End::closed(*code, reason.clone()) })?;
            }
            StepKind::Command(command) => self.encode(command)?,
            StepKind::Answer(answer) => self.answer(answer.clone())?,
            StepKind::Wait(span) => self.pass(self.now + *span)?,
            StepKind::Timeout(label) => {
                let deadline = self.callers.deadline(label)?;
                self.pass(deadline.max(self.now))?;
            }
            _ => {}
        }
        self.pass(self.now)
    }

    fn open(&mut self) -> Result<(), String> {
        if self.session.is_some() {
            return Err("the connection is open already".to_owned());
        }
        self.outbox = Outbox::with_joins(self.now, self.joins.clone());
        self.finished = false;
        self.asked.clear();
        self.limiter = self.connector.rate_limiter(&self.link);
        let session = self.session.insert(self.connector.session(&self.link));
        let opened = session.open(&self.joins, &mut self.outbox);
        self.done(opened)
    }

    fn decode(&mut self, text: &str) -> Result<(), String> {
        let frame = FrameOf::<C>::from_text(&self.outputs.names.fill(text)?)?;
        let (session, outbox) = self.connected()?;
        let decoded = match session.decode(&frame, outbox) {
            Err(error) if error.kind() == Kind::Protocol => {
                let mut event = Event::new(EventType::FrameUnrecognised, frame.raw());
                event.fields.reason = Some(error.message().to_owned());
                self.outbox.publish(event);
                Ok(())
            }
            decoded => decoded,
        };
        self.done(decoded)
    }

    /// The answer to a request over NATS.
    fn answer(&mut self, answer: Result<String, String>) -> Result<(), String> {
        let number = self.asked.pop_front().ok_or("no request over NATS waits for an answer")?;
        let answer = match answer {
            Ok(body) => Ok(Raw::of_bytes(&self.outputs.names.fill(&body)?.into())),
            Err(words) => Err(Error::rejected(Code::NoAnswer, words)),
        };
        let (session, outbox) = self.connected()?;
        let handled = session.asked(number, answer, outbox);
        self.done(handled)
    }

    fn encode(&mut self, step: &CommandStep) -> Result<(), String> {
        let text = self.outputs.names.fill(&step.body)?;
        let Some((operation, argument)) = find(self.connector.operations(), &step.operation) else {
            let label = self.callers.add_refused(&step.label);
            let reason = format!("there is no operation {}", step.operation);
            self.outputs.reply_error(label, Status::Rejected, &Error::rejected(Code::NotFound, reason));
            return Ok(());
        };
        let timeout = self.connector.timeout(operation.name);
        let command = self.callers.add(step, &operation, argument, &text, self.now, timeout)?;
        let id = command.id;
        let offered = self.connector.offers(&operation).and_then(|_| C::Request::parse(&command));
        let request = match offered {
            Ok(request) => request,
            Err(error) => return self.encoded(id, Err(error)),
        };
        let on_demand = match self.connector.route(&command, &request) {
            Err(error) => return self.encoded(id, Err(error)),
            Ok(Route::To(key)) if key != self.link => return Err(self.elsewhere(&key)),
            Ok(Route::Close(key)) if key == self.link => {
                self.callers.answered(id);
                return self.end(End::closed(None, "closed by a command"));
            }
            Ok(Route::Open(_) | Route::Close(_)) => {
                self.callers.answered(id);
                return Ok(());
            }
            Ok(Route::OnDemand(spec) | Route::Create { spec, .. }) if spec.key != self.link => {
                return Err(self.elsewhere(&spec.key));
            }
            Ok(Route::OnDemand(_) | Route::Create { .. }) => true,
            Ok(Route::Local(inquiry)) => {
                let state = LinkState {
                    key: self.link.clone(),
                    phase: if self.commands_flow { "ready" } else { "waiting" },
                    detail: None,
                };
                let answer = inquiry(&[state]);
                return match answer {
                    Ok(data) => {
                        let reply = Reply::Response(data);
                        let label = self.callers.reply(id, &reply)?;
                        self.outputs.reply(label, &reply);
                        Ok(())
                    }
                    Err(error) => self.encoded(id, Err(error)),
                };
            }
            Ok(Route::To(_)) => {
                self.connected()?;
                if !self.commands_flow {
                    return Err("the session is not ready: the daemon would refuse this command".to_owned());
                }
                false
            }
        };
        if let Err(refused) =
            self.waiting.add(Waiting { command, request, on_demand }, &self.connector.on_demand_limits())
        {
            return self.encoded(id, Err(refused));
        }
        self.flow()
    }

    /// Gives the session the commands that wait, as far as it takes them.
    fn flow(&mut self) -> Result<(), String> {
        while self.commands_flow && !self.waiting.is_empty() {
            let (session, outbox) = self.connected()?;
            if !session.takes(outbox) {
                break;
            }
            let token = self.limiter.as_ref().map_or(Ok(()), |limiter| limiter.take(self.now));
            if let Err(at) = token {
                self.outbox.wake_at(at);
                break;
            }
            let Some((request, command)) = self.waiting.take() else { break };
            let id = command.id;
            let (session, outbox) = self.connected()?;
            outbox.busy();
            let encoded = session.encode(request, command, outbox);
            self.encoded(id, encoded)?;
        }
        Ok(())
    }

    fn encoded(&mut self, id: CommandId, encoded: pontoon_sdk::Result<()>) -> Result<(), String> {
        let Err(error) = encoded else { return self.done(Ok(())) };
        self.outbox.undo(id);
        let status = if error.kind() == Kind::Rejected { Status::Rejected } else { Status::Failed };
        if let Some(label) = self.callers.answered(id) {
            self.outputs.reply_error(label, status, &error);
        }
        // What the caller or the service did wrong ends nothing; the rest is the daemon's to act on.
        self.done(if matches!(error.kind(), Kind::Rejected | Kind::Protocol) { Ok(()) } else { Err(error) })
    }

    fn elsewhere(&self, key: &LinkKey) -> String {
        format!(
            "this command goes to the link {key:?}, and this is the conversation of the link {:?}; write `link {key}` \
             at the top of another transcript",
            self.link
        )
    }

    /// Lets time pass up to an instant, waking the session and giving up on commands as they come due.
    fn pass(&mut self, until: Instant) -> Result<(), String> {
        for _ in 0..MAX_TICKS {
            self.flow()?;
            let wake = if self.session.is_some() { self.outbox.wake() } else { None };
            let next = wake.into_iter().chain(self.callers.next_deadline()).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                self.outbox.advance(until);
                return Ok(());
            };
            self.now = self.now.max(next);
            self.outbox.advance(self.now);
            if self.outbox.take_due()
                && let Some(session) = &mut self.session
            {
                let ticked = session.tick(&mut self.outbox);
                self.done(ticked)?;
            }
            while let Some((id, label, sent)) = self.callers.overdue(self.now) {
                let status = if sent { Status::Unknown } else { Status::Expired };
                self.outputs.daemon_replies(label, status);
                // A session does not know a command that it was never given.
                if !self.waiting.remove(id)
                    && let Some(session) = &mut self.session
                {
                    if !sent {
                        self.outbox.undo(id);
                    }
                    session.abandoned(id, sent, &mut self.outbox);
                }
                self.done(Ok(()))?;
            }
        }
        Err(format!("the session asks to be woken without end ({MAX_TICKS} times at this line)"))
    }

    /// Takes what a call to the session left in the outbox, and acts on its error as the daemon does.
    fn done(&mut self, result: pontoon_sdk::Result<()>) -> Result<(), String> {
        let (mut close, mut stored) = (None, Vec::new());
        for action in self.outbox.drain() {
            match action {
                Action::Send(frame, command) => {
                    if let Some(id) = command {
                        self.callers.sent(id).map_err(|wrong| format!("{wrong}: {}", frame.to_text()))?;
                    }
                    self.outputs.frame(frame);
                }
                Action::Publish(event) => {
                    let published = event
                        .identity
                        .clone()
                        .is_some_and(|identity| !self.published.insert((event.kind, identity)));
                    // NATS confirms everything at once here.
                    stored.extend(event.stored);
                    if !published {
                        self.outputs.event(*event);
                    }
                }
                Action::Ask { number, subject, body } => {
                    self.asked.push_back(number);
                    self.outputs.ask(subject, body.parse().unwrap_or_default());
                }
                Action::Duplicate => {}
                // Shown to the author of the connector.
                Action::Log(text) => eprintln!("{text}"),
                Action::DeliveryLevel(id, delivery) => self.callers.delivery(id, delivery)?,
                Action::Reply(id, reply) => {
                    let label = self.callers.reply(id, &reply)?;
                    self.outputs.reply(label, &reply);
                }
                Action::Remember(join) => {
                    self.joins.retain(|known| known.key != join.key);
                    self.outputs.join(&join);
                    self.joins.push(join);
                }
                Action::Forget(key) => {
                    self.joins.retain(|known| known.key != key);
                    self.outputs.forget(key);
                }
                Action::Ready => {
                    self.commands_flow = true;
                    self.outputs.ready = true;
                }
                Action::Finish => {
                    if self.waiting.is_empty() && !std::mem::replace(&mut self.finished, true) {
                        self.joins.clear();
                        close = close.or(Some(End::disconnected("finished")));
                    }
                }
                Action::Close(reason) | Action::Move(reason) => {
                    close = close.or(Some(End::disconnected(reason)))
                }
            }
        }
        for number in stored {
            if let Some(session) = &mut self.session {
                let handled = session.stored(number, &mut self.outbox);
                self.done(handled)?;
            }
        }
        self.callers.settle_sent();
        let Some(end) = result.err().map(End::from).or(close) else { return Ok(()) };
        self.outputs.close(format!("{}: {}", kind_word(end.kind), end.reason));
        // A session may still finish the link after its end.
        if self.session.is_some() { self.end(end) } else { Ok(()) }
    }

    fn end(&mut self, end: End) -> Result<(), String> {
        self.connected()?;
        let Some(mut session) = self.session.take() else { return Ok(()) };
        self.commands_flow = false;
        let kind = session.ended(&end, &mut self.outbox);
        self.outputs.ended = Some(kind);
        self.done(Ok(()))?;
        self.waiting.keep_on_demand();
        for (id, label, sent) in self.callers.cut_off(|id| self.waiting.has(id)) {
            if !sent {
                self.outbox.undo(id);
            }
            let status = if sent { Status::Unknown } else { Status::Failed };
            self.outputs.daemon_replies(label, status);
        }
        self.done(Ok(()))
    }

    fn connected(&mut self) -> Result<(&mut C::Session, &mut Outbox<FrameOf<C>>), String> {
        match &mut self.session {
            Some(session) => Ok((session, &mut self.outbox)),
            None => Err("the connection is closed; write `up open` first".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
