//! One conversation about one task: requests go out one at a time, their answers come in parts and then whole.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::event::{Message, MessageObject, Sender, SenderKind, ServiceError};
use pontoon_sdk::mask::Mask;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{
    Accumulator, Code, Command, CommandId, End, Error, Event, EventType, Join, Kind, Outbox, Raw, Reply,
    Result, Session,
};

use crate::Shared;
use crate::decode::{self, Fault, Said, Update, Whole};
use crate::operations::Request;

/// How long the service may take to close the connection after an error, as it says it does.
const CLOSING: Duration = Duration::from_secs(3);

/// Close codes by which the service tells of an error.
const POLICY: u16 = 1008;
const INTERNAL: u16 = 1011;

/// One conversation.
pub struct AuiSession {
    shared: Arc<Shared>,
    /// The task. What answers a request does not name it, so nothing of another task may travel here.
    task: String,
    mask: Mask,
    state: State,
    /// When the state ends by itself, if it does.
    until: Option<Instant>,
    /// Whether a token was taken for the next request.
    token: bool,
    /// The answer as far as it came.
    text: Accumulator,
    /// The message that its updates name, where they do.
    message: Option<String>,
    /// Whether a request was sent over this connection.
    asked: bool,
    /// Whether anything but an error came.
    heard: bool,
    /// Status of the error that the service told last, or 0 if it gave none.
    refused: Option<u16>,
}

/// What the connection is used for.
#[derive(Clone, Copy)]
enum State {
    /// Nothing.
    Free,
    /// A request is in flight.
    Asked { command: CommandId, stream: bool },
    /// The caller has given up on a request, and its answer may still come.
    Late,
    /// The service told of an error, and is about to close the connection.
    Closing,
}

impl AuiSession {
    pub(crate) fn new(shared: Arc<Shared>, task: &str) -> Self {
        let text = Accumulator::new(shared.config.text.into());
        let mask = Mask::new(&shared.config.network_api_key);
        Self {
            shared,
            mask,
            task: task.to_owned(),
            state: State::Free,
            until: None,
            token: false,
            text,
            message: None,
            asked: false,
            heard: false,
            refused: None,
        }
    }

    fn enter(&mut self, state: State, span: Duration, out: &mut Outbox<Frame>) {
        let until = out.now() + span;
        (self.state, self.until) = (state, Some(until));
        out.wake_at(until);
    }

    /// Nothing is under way any more.
    fn free(&mut self, out: &mut Outbox<Frame>) {
        self.enter(State::Free, self.shared.config.idle_timeout.0, out);
        out.idle();
    }

    /// The answer to a request that was given up is expected for a while from now on.
    fn late(&mut self, out: &mut Outbox<Frame>) {
        self.enter(State::Late, self.shared.config.late_answer_window.0, out);
    }

    fn event(&self, kind: EventType, raw: Raw) -> Event {
        let mut event = Event::new(kind, raw).scope(self.task.as_str());
        event.fields.channel = Some(self.task.clone());
        if let State::Asked { command, .. } = self.state {
            event.caused_by = Some(command);
        }
        event
    }

    /// Another answer begins.
    fn begin(&mut self) {
        (self.text, self.message) = (Accumulator::new(self.shared.config.text.into()), None);
    }

    /// Whether an update is of this task, or names none.
    fn is_ours(&self, update: &Update) -> bool {
        update.task.as_ref().is_none_or(|task| *task == self.task)
    }

    fn update(&mut self, update: Update, out: &mut Outbox<Frame>) -> Result<()> {
        self.proven();
        // An agent may write more than one message before it is done.
        if let Some(message) = &update.message
            && self.message.as_ref() != Some(message)
            && self.message.replace(message.clone()).is_some()
        {
            self.text.replace();
        }
        let part = self.text.push(update.text);
        let mut event = part.event().scope(self.task.as_str()).upstream(update.name);
        event.time = update.time.and_then(|time| time.time);
        event.fields.channel = Some(self.task.clone());
        let message = update.message.map(|id| MessageObject { id: Some(id), ..MessageObject::default() });
        event.fields.message = message.map(Message::Object);
        event.fields.sender = Some(Sender { kind: Some(SenderKind::Agent), ..Sender::default() });
        out.publish(event);
        match self.state {
            State::Asked { command, stream: true } => out.reply(command, part.reply()?),
            State::Late => self.late(out),
            State::Asked { .. } | State::Free | State::Closing => {}
        }
        Ok(())
    }

    fn message(&mut self, whole: Whole, raw: Raw, out: &mut Outbox<Frame>) -> Result<()> {
        self.proven();
        let Whole { message, sender, created_at } = whole;
        // What the user says is no answer, whoever repeats it.
        let by_user = sender.as_ref().is_some_and(|sender| sender.kind == Some(SenderKind::User));
        let kind = if by_user { EventType::MessageCreated } else { EventType::MessageCompleted };
        let mut event = self.event(kind, raw.clone());
        event.time = created_at.and_then(|time| time.time);
        event.fields.message = Some(Message::Object(message));
        event.fields.sender = sender;
        event.caused_by = event.caused_by.filter(|_| !by_user);
        out.publish(event);
        if by_user {
            return Ok(());
        }
        self.begin();
        if let State::Asked { command, .. } = self.state {
            out.reply(command, Reply::Response(raw.parse()?));
        }
        if !matches!(self.state, State::Closing) {
            self.free(out);
        }
        Ok(())
    }

    fn fault(&mut self, fault: Fault, raw: Raw, out: &mut Outbox<Frame>) {
        self.refused = Some(fault.status.unwrap_or(0));
        let refusal = fault.refusal();
        let mut event = self.event(EventType::ErrorRaised, raw);
        event.fields.error = Some(fault.error);
        out.publish(event);
        if let State::Asked { command, .. } = self.state {
            out.reply(command, Reply::Failed(refusal));
        }
        // What is sent now would go down with the connection, and nobody would know what became of it.
        if !matches!(self.state, State::Closing) {
            self.enter(State::Closing, CLOSING, out);
        }
    }

    fn unrecognised(name: Option<String>, reason: &str, frame: &Frame, out: &mut Outbox<Frame>) {
        let mut event = Event::new(EventType::FrameUnrecognised, frame.raw());
        event.upstream = name.clone().map(Into::into);
        (event.fields.name, event.fields.reason) = (name, Some(reason.to_owned()));
        out.publish(event);
    }

    /// The service has taken our key.
    fn proven(&mut self) {
        self.heard = true;
        self.shared.proven.store(true, Ordering::Relaxed);
    }

    /// Whether it was the credentials. The service closes with one code for those and for errors of requests, and the
    /// daemon goes by how soon that was; but a link that is opened for a request sends it at once.
    fn verdict(&self, end: &End) -> Kind {
        match (end.kind, self.refused) {
            (Kind::Auth | Kind::Disconnected, Some(401)) => Kind::Auth,
            (Kind::Auth | Kind::Disconnected, Some(403)) if !self.asked => Kind::Auth,
            (Kind::Auth, Some(_)) => Kind::Disconnected,
            (Kind::Auth, None) if self.heard => Kind::Disconnected,
            // Where the key was good before, a request has the benefit of the doubt, once.
            (Kind::Auth, None) if self.asked && self.shared.proven.swap(false, Ordering::Relaxed) => {
                Kind::Disconnected
            }
            (kind, _) => kind,
        }
    }

    /// A close code that tells of an error of the request in flight. Whether that was carried out, nobody knows.
    fn closed(&self, end: &End, out: &mut Outbox<Frame>) {
        let meaning = match end.code {
            Some(POLICY) => "authentication failure or application error",
            Some(INTERNAL) => "internal server error",
            _ => return,
        };
        let message = if end.reason.is_empty() { meaning } else { &end.reason };
        let code = end.code.map(|code| code.to_string());
        let mut event = self.event(EventType::ErrorRaised, Raw::null());
        event.fields.error = Some(ServiceError { code, message: Some(message.to_owned()), details: None });
        out.publish(event);
        if let State::Asked { command, .. } = self.state {
            out.reply(command, Reply::Unknown(Error::refused(end.to_string())));
        }
    }
}

impl Session for AuiSession {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, _joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        out.ready();
        self.free(out);
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        let hidden = self.mask.hide(frame);
        let frame = hidden.as_ref().unwrap_or(frame);
        match decode::read(frame) {
            Ok((Said::Fault(fault), raw)) => self.fault(fault, raw, out),
            Ok((Said::Update(update), _)) if self.is_ours(&update) => return self.update(update, out),
            Ok((Said::Update(update), _)) => {
                Self::unrecognised(Some(update.name), "it is of another task than this link", frame, out);
            }
            Ok((Said::Message(whole), raw)) => return self.message(whole, raw, out),
            Ok((Said::Other { name }, _)) => {
                Self::unrecognised(Some(name), "there is no such event", frame, out);
            }
            // Said here, as the frame may be another than the daemon has.
            Err(error) => Self::unrecognised(None, error.message(), frame, out),
        }
        Ok(())
    }

    fn takes(&mut self, out: &mut Outbox<Frame>) -> bool {
        if !matches!(self.state, State::Free) {
            return false;
        }
        if !self.token {
            match self.shared.take_token(out.now()) {
                Ok(()) => self.token = true,
                Err(at) => out.wake_at(at),
            }
        }
        self.token
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        if !self.takes(out) {
            return Err(Error::rejected(Code::TooMany, "another request of this task is in flight"));
        }
        (self.token, self.asked) = (false, true);
        self.begin();
        (self.state, self.until) = (State::Asked { command: command.id, stream: command.stream }, None);
        out.send_for(command.id, request.frame);
        Ok(())
    }

    fn tick(&mut self, out: &mut Outbox<Frame>) -> Result<()> {
        let Some(until) = self.until else { return Ok(()) };
        if until > out.now() {
            out.wake_at(until);
            return Ok(());
        }
        // This says nothing where a command waits for the link; then what follows does.
        out.finish();
        match self.state {
            State::Free | State::Asked { .. } => self.free(out),
            State::Late => {
                out.close("a request was given up, and its answer would be taken for the next one's");
            }
            State::Closing => out.close("the service told of an error and does not close the connection"),
        }
        Ok(())
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        match self.state {
            State::Asked { command: asked, .. } if asked == command && sent => self.late(out),
            State::Asked { command: asked, .. } if asked == command => self.free(out),
            _ => {}
        }
    }

    fn ended(&mut self, end: &End, out: &mut Outbox<Frame>) -> Kind {
        if std::mem::take(&mut self.token) {
            self.shared.give_back_token();
        }
        let kind = self.verdict(end);
        if kind == Kind::Auth {
            self.shared.proven.store(false, Ordering::Relaxed);
        }
        match self.state {
            // A link that is lost while nobody needs it need not be dialled again.
            State::Free | State::Closing if kind == Kind::Disconnected => out.finish(),
            State::Free | State::Closing => {}
            State::Asked { .. } | State::Late => self.closed(end, out),
        }
        kind
    }
}
