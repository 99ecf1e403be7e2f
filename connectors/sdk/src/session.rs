//! One conversation over one connection, and the outbox that it writes to.

use std::time::Instant;

use crate::command::{Command, CommandId, DeliveryLevel, Reply};
use crate::error::{End, Kind, Result};
use crate::event::{Event, Raw};
use crate::joins::{Change, Join, Joined, Joins};

/// One conversation over one connection. State that must die with the socket lives here. No I/O. It stays on the thread
/// of its instance.
///
/// An error of any method is handled by its kind: see [`Kind`].
pub trait Session: 'static {
    /// The transport's message.
    type Frame;
    /// What callers can ask for, as [`crate::Connector::Request`].
    type Request;

    /// The connection is up: authenticate, join again what `joins` lists, call [`Outbox::ready`].
    ///
    /// # Errors
    /// `Auth` or `Disconnected` end the link.
    fn open(&mut self, joins: &[Join], out: &mut Outbox<Self::Frame>) -> Result<()>;

    /// A frame was received.
    ///
    /// # Errors
    /// `Protocol`: the frame is published as `frame.unrecognised`. Others end the link.
    fn decode(&mut self, frame: &Self::Frame, out: &mut Outbox<Self::Frame>) -> Result<()>;

    /// Whether one more command is taken now. Asked once a command is there, and again after whatever happens to the
    /// session; a command that is not taken waits with the daemon, in order, until its time runs out. It goes on waiting
    /// when the connection is lost, if its route is [`crate::Route::OnDemand`]. Nothing but [`Outbox::wake_at`] belongs here.
    fn takes(&mut self, _out: &mut Outbox<Self::Frame>) -> bool {
        true
    }

    /// A command for the service; `request` is its body. Either sends, or queues, or fails.
    ///
    /// # Errors
    /// `Rejected`: the caller gets it as the reply, nothing was sent.
    fn encode(
        &mut self,
        request: Self::Request,
        command: Command,
        out: &mut Outbox<Self::Frame>,
    ) -> Result<()>;

    /// A time asked for with [`Outbox::wake_at`] has come.
    ///
    /// # Errors
    /// `Disconnected` ends the link.
    fn tick(&mut self, _out: &mut Outbox<Self::Frame>) -> Result<()> {
        Ok(())
    }

    /// What [`Connector::restore`](crate::Connector::restore) gets if the daemon is restarted, besides joins: asked for after
    /// frames were handled. `None` if that has not changed since. Kept where the daemon keeps events on disk, once the events
    /// of these frames are, so that it may say from where the service is to go on.
    fn memory(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// What the session waits for before it is ready, for people; `None` if it waits for nothing that the service sends.
    fn awaits(&self) -> Option<&'static str> {
        None
    }

    /// NATS has confirmed the event that has this number ([`Event::stored`]), or had confirmed it before where it is a
    /// duplicate. Never called for an event that was dropped, or read over another connection.
    ///
    /// # Errors
    /// `Disconnected` ends the link.
    fn stored(&mut self, _number: u64, _out: &mut Outbox<Self::Frame>) -> Result<()> {
        Ok(())
    }

    /// The answer to a request over NATS that has this number ([`Outbox::ask`]), once: its body, or why there is none. Not
    /// called for a request of another connection.
    ///
    /// # Errors
    /// `Disconnected` ends the link.
    fn asked(&mut self, _number: u64, _answer: Result<Raw>, _out: &mut Outbox<Self::Frame>) -> Result<()> {
        Ok(())
    }

    /// The daemon has answered this command without the session, because its time ran out, its frame found no room, or
    /// its caller no longer receives the parts of its answer.
    /// `sent` is whether its frame was, or may have been, written; a command that was not must not be sent any more.
    fn abandoned(&mut self, _command: CommandId, _sent: bool, _out: &mut Outbox<Self::Frame>) {}

    /// The connection is gone. Returns what to do about it; events and replies may still be written.
    fn ended(&mut self, end: &End, _out: &mut Outbox<Self::Frame>) -> Kind {
        end.kind
    }
}

/// What a session wants done, in order.
#[derive(Debug)]
pub enum Action<F> {
    /// Write a frame; if it carries a command, that command counts as sent once it is written.
    Send(F, Option<CommandId>),
    /// Publish an event.
    Publish(Box<Event>),
    /// Answer a caller.
    Reply(CommandId, Reply),
    /// The reply to a command can promise no more than this.
    DeliveryLevel(CommandId, DeliveryLevel),
    /// What was read has been published already, from another frame.
    Duplicate,
    /// Send a request over NATS.
    Ask {
        /// Its number, by which [`Session::asked`] gets the answer.
        number: u64,
        /// Where it goes.
        subject: String,
        /// What is asked.
        body: Raw,
    },
    /// Keep a join.
    Remember(Join),
    /// Drop the join with this key.
    Forget(String),
    /// Commands may flow.
    Ready,
    /// Show this to the author of the connector, in the log at `debug`.
    Log(String),
    /// Close the connection; it is dialled again.
    Close(String),
    /// Make the next connection, and close this one then.
    Move(String),
    /// Close the link for good, unless a command is on its way to it.
    Finish,
}

/// Where a session writes. The daemon empties it after every call.
#[derive(Debug)]
pub struct Outbox<F> {
    now: Instant,
    actions: Vec<Action<F>>,
    wake: Option<Instant>,
    idle: bool,
    joins: Joins,
    /// What this connection has asked the service for again.
    rejoins: Joined,
}

impl<F> Outbox<F> {
    /// An empty outbox; the daemon makes one for each connection.
    pub fn new(now: Instant) -> Self {
        Self::with_joins(now, Vec::new())
    }

    /// An empty outbox of a link that keeps these joins.
    pub fn with_joins(now: Instant, joins: Vec<Join>) -> Self {
        let (joins, rejoins) = (Joins::new(joins), Joined::default());
        Self { now, actions: Vec::new(), wake: None, idle: false, joins, rejoins }
    }

    /// The time of this call.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Writes a frame that no caller waits for.
    pub fn send(&mut self, frame: F) {
        self.actions.push(Action::Send(frame, None));
    }

    /// Writes a frame that carries out a command.
    pub fn send_for(&mut self, command: CommandId, frame: F) {
        self.actions.push(Action::Send(frame, Some(command)));
    }

    /// Publishes an event.
    pub fn publish(&mut self, event: Event) {
        self.actions.push(Action::Publish(Box::new(event)));
    }

    /// Answers a caller. A second last word to one caller is ignored.
    pub fn reply(&mut self, command: CommandId, reply: Reply) {
        self.actions.push(Action::Reply(command, reply));
    }

    /// Lowers what is promised of a command, because of how the service is connected; its caller waits for no more than
    /// this. Call it before its frame is sent.
    pub fn delivery(&mut self, command: CommandId, delivery: DeliveryLevel) {
        self.actions.push(Action::DeliveryLevel(command, delivery));
    }

    /// Sends a request over NATS, to a subject that [`crate::Connector::asks`] lists. [`Session::asked`] gets the answer, or why
    /// there is none: no answer within ten seconds, more than 64 requests under way.
    pub fn ask(&mut self, number: u64, subject: impl Into<String>, body: Raw) {
        self.actions.push(Action::Ask { number, subject: subject.into(), body });
    }

    /// Counts the frame as a duplicate: the service sends the same thing in two frames, and the first is published.
    pub fn duplicate(&mut self) {
        self.actions.push(Action::Duplicate);
    }

    /// Keeps a join for the next connections.
    ///
    /// # Errors
    /// `Rejected` with 429 if the link keeps too many.
    pub fn remember(&mut self, join: Join) -> Result<()> {
        self.change(Change::Remember(join), None)
    }

    /// Keeps a join that a command asks for. It is taken back if the frame of the command is never written.
    ///
    /// # Errors
    /// As [`Outbox::remember`]: nothing should be sent then, as the next connection would lack the join.
    pub fn remember_for(&mut self, command: CommandId, join: Join) -> Result<()> {
        self.change(Change::Remember(join), Some(command))
    }

    /// Forgets a join.
    pub fn forget(&mut self, key: impl Into<String>) {
        // Only what is kept can be too much.
        let _ = self.change(Change::Forget(key.into()), None);
    }

    /// Forgets a join because a command asks for it. It is kept after all if the frame of the command is never written.
    pub fn forget_for(&mut self, command: CommandId, key: impl Into<String>) {
        let _ = self.change(Change::Forget(key.into()), Some(command));
    }

    /// Takes back what [`Outbox::remember_for`] and [`Outbox::forget_for`] did for a command, which was not carried out:
    /// the service has refused it. Where its frame was never written, the daemon does this by itself.
    pub fn undo(&mut self, command: CommandId) {
        let changes = self.joins.undo(command);
        self.actions.extend(changes.into_iter().map(action));
    }

    /// The joins that are kept, in the order in which they were remembered.
    pub fn joins(&self) -> &[Join] {
        self.joins.kept()
    }

    /// A frame is sent that asks the service for this join again. The gap of a link that comes back lists those of which this
    /// is called before [`Outbox::ready`], or in the same call of the session.
    pub fn rejoin(&mut self, key: &str) {
        self.rejoins.add(key);
    }

    /// What this connection has asked the service for again. For the daemon.
    pub fn rejoins(&self) -> &Joined {
        &self.rejoins
    }

    fn change(&mut self, change: Change, command: Option<CommandId>) -> Result<()> {
        self.joins.change(change.clone(), command)?;
        self.actions.push(action(change));
        Ok(())
    }

    /// Commands may flow from now on.
    pub fn ready(&mut self) {
        self.actions.push(Action::Ready);
    }

    /// Logs a text at `debug`, for the author of the connector. The daemon takes our secrets out of it.
    pub fn log(&mut self, text: impl Into<String>) {
        self.actions.push(Action::Log(text.into()));
    }

    /// Closes this connection; the link is dialled again.
    pub fn close(&mut self, reason: impl Into<String>) {
        self.actions.push(Action::Close(reason.into()));
    }

    /// Has the link go on over a new connection, as the service asks for: this one is read until that is made. There is a gap
    /// unless all was read that the service sent over this one, and the session of the next one is ready without sending
    /// anything. Where that cannot be made, this is [`Outbox::close`].
    pub fn move_on(&mut self, reason: impl Into<String>) {
        self.actions.push(Action::Move(reason.into()));
    }

    /// Closes this link for good, as one that is not needed any more, unless a command is on its way to it already.
    /// Nothing may be under way. [`crate::Route::OnDemand`] opens it again. Called in [`Session::ended`], it has the link not
    /// dialled again.
    pub fn finish(&mut self) {
        self.actions.push(Action::Finish);
    }

    /// Allows that this link is closed for good, as by [`Outbox::finish`], as soon as another waits for its place
    /// ([`crate::OnDemandLimits::links`]). Holds until the session takes a command.
    pub fn idle(&mut self) {
        self.idle = true;
    }

    /// Calls [`Session::tick`] at this time, or earlier if an earlier time was asked for.
    pub fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Whether [`Outbox::idle`] was called since the session took a command. For the daemon.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// The session is about to take a command. For the daemon.
    pub fn busy(&mut self) {
        self.idle = false;
    }

    /// When the session wants to be woken. For the daemon.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Sets the time of the next call. For the daemon.
    pub fn advance(&mut self, now: Instant) {
        self.now = now;
    }

    /// Whether a tick is due; forgets the wake-up if it is. For the daemon, which then calls [`Session::tick`].
    pub fn take_due(&mut self) -> bool {
        self.wake.take_if(|wake| *wake <= self.now).is_some()
    }

    /// Whether the session wants something sent. For the daemon.
    pub fn has_sends(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Send(..)))
    }

    /// Takes what the session wants done, leaving the outbox empty. For the daemon.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Action<F>> {
        self.actions.drain(..)
    }
}

fn action<F>(change: Change) -> Action<F> {
    match change {
        Change::Remember(join) => Action::Remember(join),
        Change::Forget(key) => Action::Forget(key),
    }
}
