//! One connection for one task: requests go out one at a time, their answers come in parts and then whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::event::{Sender, SenderKind, ServiceError};
use pontoon_sdk::pending::{Answered, Order, Pending};
use pontoon_sdk::streams::Streams;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{
    Code, Command, CommandId, End, Error, Event, EventType, Join, Kind, Outbox, Raw, Redactor, Reply, Result,
    Session,
};
use serde_json::value::RawValue;

use crate::config::Config;
use crate::decode::{Received, RequestError, Update, decode};
use crate::operations::Request;

/// How long the service may take to close the connection after an error, as it says it does.
const CLOSING: Duration = Duration::from_secs(3);

/// Close codes that the service sends after an error.
const POLICY: u16 = 1008;
const INTERNAL: u16 = 1011;

/// What the sessions of an instance share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Whether the service has accepted our key, and nothing has contradicted that since.
    pub(crate) key_accepted: AtomicBool,
}

/// One connection.
pub struct AuiSession {
    shared: Arc<Shared>,
    /// The task. An answer does not name it, so no request of another task may be sent here.
    task: String,
    redactor: Redactor,
    /// The request in flight, and whether its caller wants parts.
    pending: Pending<(), bool, Frame>,
    /// Whether the connection is about to be closed: a request could get lost with it.
    closing: bool,
    /// When the connection has been idle, or closing, for too long.
    until: Option<Instant>,
    /// The answer so far.
    text: Streams,
    /// The message that its updates name, where they do.
    message: Option<String>,
    /// Whether a request was sent over this connection.
    has_sent: bool,
    /// Whether anything but an error was received.
    has_received: bool,
    /// Status of the last error that the service reported, or 0 if it has none.
    refused: Option<u16>,
}

impl AuiSession {
    pub(crate) fn new(shared: Arc<Shared>, task: &str) -> Self {
        Self {
            redactor: Redactor::new(shared.config.network_api_key.reveal().ok()),
            pending: Pending::new(Order::Serial).late_window(shared.config.late_answer_window.0),
            text: Streams::default(),
            shared,
            task: task.to_owned(),
            closing: false,
            until: None,
            message: None,
            has_sent: false,
            has_received: false,
            refused: None,
        }
    }

    fn is_free(&self) -> bool {
        !self.closing && self.pending.is_free(&())
    }

    fn wait(&mut self, time: Duration, out: &mut Outbox<Frame>) {
        let until = out.now() + time;
        self.until = Some(until);
        out.wake_at(until);
    }

    fn idle(&mut self, out: &mut Outbox<Frame>) {
        self.wait(self.shared.config.idle_timeout.0, out);
        out.idle();
    }

    /// Publishes an event about a request, and replies to its caller if it waits.
    fn publish(&self, event: Event, caller: Option<(CommandId, Reply)>, out: &mut Outbox<Frame>) {
        let mut event = event.channel(self.task.clone());
        event.caused_by = caller.as_ref().map(|(command, _)| *command);
        out.publish(event);
        if let Some((command, reply)) = caller {
            out.reply(command, reply);
        }
    }

    /// Takes the request in flight, and the command of its caller if it waits.
    fn answered(&mut self, out: &mut Outbox<Frame>) -> Option<CommandId> {
        self.pending.answered(&(), out).and_then(|answered| answered.command)
    }

    /// Another answer begins.
    fn begin(&mut self) {
        self.text.end(&self.task);
        self.message = None;
    }

    fn update(&mut self, update: Update, out: &mut Outbox<Frame>) -> Result<()> {
        self.accepted();
        // An agent may write more than one message before it is done.
        if let Some(message) = &update.message
            && self.message.as_ref() != Some(message)
            && self.message.replace(message.clone()).is_some()
        {
            self.text.replace(&self.task);
        }
        let part = self.text.push(&self.task, self.shared.config.text, update.text);
        let caller = match self.pending.part(&(), out) {
            Some(Answered { command: Some(command), context: true }) => Some((command, Reply::part(&part)?)),
            _ => None,
        };
        let mut event = Event { fields: part, ..Event::new(EventType::MessageDelta, None) };
        event = event.channel(self.task.clone()).upstream(update.name);
        event.time = update.time.and_then(|time| time.time);
        event = event.message_id(update.message);
        event.fields.sender = Some(Sender { kind: Some(SenderKind::Agent), ..Sender::default() });
        out.publish(event);
        if let Some((command, reply)) = caller {
            out.reply(command, reply);
        }
        Ok(())
    }

    fn answer(&mut self, event: Event, data: Box<RawValue>, out: &mut Outbox<Frame>) {
        self.accepted();
        let caller = self.answered(out).map(|command| (command, Reply::Response(data)));
        self.publish(event, caller, out);
        self.begin();
        if !self.closing {
            self.idle(out);
        }
    }

    fn error(&mut self, error: RequestError, out: &mut Outbox<Frame>) {
        self.refused = Some(error.status.unwrap_or(0));
        let caller = self.answered(out).map(|command| (command, Reply::Failed(error.refusal)));
        self.publish(error.event, caller, out);
        if !self.closing {
            self.closing = true;
            self.wait(CLOSING, out);
        }
    }

    fn unrecognised(name: Option<String>, reason: &str, frame: &Frame, out: &mut Outbox<Frame>) {
        let mut event = Event::new(EventType::FrameUnrecognised, frame.raw());
        event.upstream = name.clone().map(Into::into);
        (event.fields.name, event.fields.reason) = (name, Some(reason.to_owned()));
        out.publish(event);
    }

    /// The service has accepted our key.
    fn accepted(&mut self) {
        self.has_received = true;
        self.shared.key_accepted.store(true, Ordering::Relaxed);
    }

    /// Whether it was the credentials. The service closes with one code for those and for errors of requests, and the
    /// daemon goes by how soon that was; but a link that is opened for a request sends it at once.
    fn end_kind(&self, end: &End) -> Kind {
        match (end.kind, self.refused) {
            (Kind::Auth | Kind::Disconnected, Some(401)) => Kind::Auth,
            (Kind::Auth | Kind::Disconnected, Some(403)) if !self.has_sent => Kind::Auth,
            (Kind::Auth, Some(_)) => Kind::Disconnected,
            (Kind::Auth, None) if self.has_received => Kind::Disconnected,
            // Where the key was accepted before, it counts as an error of the request, once.
            (Kind::Auth, None)
                if self.has_sent && self.shared.key_accepted.swap(false, Ordering::Relaxed) =>
            {
                Kind::Disconnected
            }
            (kind, _) => kind,
        }
    }

    /// Reports a close code that stands for an error of the request in flight. Whether the request was carried out is not
    /// known.
    fn closed(&self, end: &End, caller: Option<CommandId>, out: &mut Outbox<Frame>) {
        let meaning = match end.code {
            Some(POLICY) => "authentication failure or application error",
            Some(INTERNAL) => "internal server error",
            _ => return,
        };
        let message = if end.reason.is_empty() { meaning } else { &end.reason };
        let code = end.code.map(|code| code.to_string());
        let error = ServiceError { code, message: Some(message.to_owned()), details: None };
        let caller = caller.map(|command| (command, Reply::Unknown(Error::refused(end.to_string()))));
        self.publish(Event::error(error, Raw::null()), caller, out);
    }
}

impl Session for AuiSession {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, _joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        out.ready();
        self.idle(out);
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        let redacted = frame.redacted(&self.redactor);
        let frame = redacted.as_ref().unwrap_or(frame);
        match decode(frame) {
            Ok(Received::Update(update)) if update.task.as_ref().is_some_and(|task| *task != self.task) => {
                Self::unrecognised(Some(update.name), "it is of another task than this link", frame, out);
            }
            Ok(Received::Update(update)) => return self.update(update, out),
            Ok(Received::Answer(event, data)) => self.answer(event, data, out),
            Ok(Received::UserMessage(event)) => {
                self.accepted();
                self.publish(event, None, out);
            }
            Ok(Received::Error(error)) => self.error(error, out),
            Ok(Received::Other(name)) => {
                Self::unrecognised(Some(name), "there is no such event", frame, out);
            }
            // Published here and not by the daemon, whose frame still has the key.
            Err(error) => Self::unrecognised(None, error.message(), frame, out),
        }
        Ok(())
    }

    fn takes(&mut self, _out: &mut Outbox<Frame>) -> bool {
        self.is_free()
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        if !self.is_free() {
            return Err(Error::rejected(Code::TooMany, "another request of this task is in flight"));
        }
        self.has_sent = true;
        self.until = None;
        self.begin();
        self.pending.send(&command, (), command.stream, request.frame(&command.body), out)
    }

    fn tick(&mut self, out: &mut Outbox<Frame>) -> Result<()> {
        if self.pending.expire(out) {
            self.closing = true;
            // Finishes the link unless a command waits for it; then the connection is made again.
            out.finish();
            out.close("a request was given up, and its answer could be taken for the next one's");
            return Ok(());
        }
        let Some(until) = self.until else { return Ok(()) };
        if until > out.now() {
            out.wake_at(until);
            return Ok(());
        }
        out.finish();
        if self.closing {
            out.close("the service reported an error and did not close the connection");
        } else {
            self.idle(out);
        }
        Ok(())
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        self.pending.abandoned(command, sent, out);
        if self.is_free() {
            self.idle(out);
        }
    }

    fn ended(&mut self, end: &End, out: &mut Outbox<Frame>) -> Kind {
        let kind = self.end_kind(end);
        if kind == Kind::Auth {
            self.shared.key_accepted.store(false, Ordering::Relaxed);
        }
        match self.pending.answered(&(), out) {
            Some(answered) => self.closed(end, answered.command, out),
            // A link that is lost while it is not needed is not dialled again.
            None if kind == Kind::Disconnected => out.finish(),
            None => {}
        }
        kind
    }
}
