//! One connection to a Sub0 backend: calls go out, answers and broadcasts come in.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use pontoon_sdk::pending::{Answered, Order, Pending};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Command, CommandId, Event, EventType, Join, Outbox, Raw, Reply, Result, Session};
use serde_json::value::RawValue;

use crate::config::{Config, Correlation};
use crate::decode::{CallError, Received, decode};
use crate::operations::Request;

/// One connection.
pub struct Sub0Session {
    config: Arc<Config>,
    /// Calls by the action that was sent, each with its resource.
    pending: Pending<String, String, Frame>,
    /// Ends every action that is sent with `unique_action`. Other clients of the service may be Pontoons too, and their
    /// actions must not look like ours.
    salt: String,
    /// How many actions were made unique.
    unique: u64,
}

impl Sub0Session {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let order = match config.correlation {
            Correlation::Serial => Order::Serial,
            Correlation::UniqueAction => Order::ById,
            Correlation::Fifo => Order::InOrder,
        };
        let pending = Pending::new(order)
            .late_window(config.late_answer_window.0)
            .max_requests(config.max_calls, "max_calls")
            .max_waiting_bytes(config.max_queue_bytes.0, "max_queue_bytes");
        let salt = format!("{:016x}", RandomState::new().build_hasher().finish());
        Self { config, pending, salt, unique: 0 }
    }

    /// The action to send for a caller's.
    fn wire_action(&mut self, action: String) -> String {
        if self.config.correlation != Correlation::UniqueAction {
            return action;
        }
        self.unique += 1;
        format!("{action}#{}-{}", self.unique, self.salt)
    }

    /// The caller's action for one that was received, and whether it is one that was made unique.
    fn caller_action<'a>(&self, action: &'a str) -> (&'a str, bool) {
        let unique = || {
            let (name, suffix) = action.rsplit_once('#')?;
            let number = suffix.strip_suffix(self.salt.as_str())?.strip_suffix('-')?;
            number.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
        };
        match unique().filter(|_| self.config.correlation == Correlation::UniqueAction) {
            Some(name) => (name, true),
            None => (action, false),
        }
    }

    fn data(
        &mut self,
        action: &str,
        uid: Option<String>,
        data: &RawValue,
        raw: Raw,
        out: &mut Outbox<Frame>,
    ) {
        let answered = self.pending.answered(action, out);
        let caller = answered.as_ref().and_then(|answered| answered.command);
        let (name, unique) = self.caller_action(action);
        let kind = match (&answered, unique) {
            (None, false) => EventType::ResourceBroadcast,
            _ => EventType::ResourceResponded,
        };
        // An answer whose caller was abandoned is published: it may be what that caller must know.
        if self.config.publish_responses || caller.is_none() {
            let mut event = Event::new(kind, raw).scope(name).upstream(name.to_owned());
            event.fields.action = Some(name.to_owned());
            event.fields.resource = answered.map(|answered| answered.context);
            event.fields.uid = uid;
            event.fields.data = Some(data.to_owned());
            event.caused_by = caller;
            out.publish(event);
        }
        if let Some(caller) = caller {
            out.reply(caller, Reply::Response(data.to_owned()));
        }
    }

    fn error(&mut self, error: CallError, raw: Raw, out: &mut Outbox<Frame>) {
        let refusal = error.refusal();
        let (command, resource) = match &error.action {
            Some(action) => {
                let answered = self.pending.answered(action, out);
                answered.map_or((None, None), |Answered { command, context }| (command, Some(context)))
            }
            // Where it is not known which call it is about, the event names none.
            None => self.pending.oldest(out).map_or((None, None), |oldest| (oldest.command, oldest.context)),
        };
        let certain = error.certain && resource.is_some();
        let reply = if certain { Reply::Failed(refusal) } else { Reply::Unknown(refusal) };
        let mut event = Event::error(error.error, raw);
        if let Some(action) = &error.action {
            let (name, _) = self.caller_action(action);
            event = event.scope(name).upstream(name.to_owned());
            event.fields.action = Some(name.to_owned());
        }
        event.fields.resource = resource;
        event.fields.uid = error.uid;
        out.publish(event);
        if let Some(command) = command {
            out.reply(command, reply);
        }
    }
}

impl Session for Sub0Session {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, _joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        out.ready();
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        match decode(frame)? {
            (Received::Keepalive, _) => {}
            (Received::Data { action, uid, data }, raw) => self.data(&action, uid, data, raw, out),
            (Received::Error(error), raw) => self.error(error, raw, out),
        }
        Ok(())
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        let Request::Call(call) = request;
        let default = || self.config.default_action.clone().unwrap_or_else(|| call.resource.clone());
        let action = call.action.clone().unwrap_or_else(default);
        let action = self.wire_action(action);
        let frame = call.frame(&action, &command.body)?;
        self.pending.send(&command, action, call.resource, frame, out)
    }

    fn tick(&mut self, out: &mut Outbox<Frame>) -> Result<()> {
        self.pending.expire(out);
        Ok(())
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        self.pending.abandoned(command, sent, out);
    }
}
