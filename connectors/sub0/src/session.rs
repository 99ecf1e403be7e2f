//! One conversation with a Sub0 backend: calls go out, answers and broadcasts come in.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{
    Code, Command, CommandId, Error, Event, EventType, Join, Outbox, Raw, Reply, Result, Session,
};
use serde_json::value::RawValue;

use crate::calls::{Call, Calls, Owner};
use crate::config::{Config, Correlation, MAX_NAME};
use crate::decode::{self, Fault, Said};
use crate::operations::Request;
use crate::resource;

/// The header that names the action.
const ACTION: &str = "Pontoon-Action";

/// One conversation.
pub struct Sub0Session {
    config: Arc<Config>,
    calls: Calls,
    /// Ends every action of ours in the mode `unique_action`. Other clients of the service may be Pontoons too, and
    /// what is meant for them must not look like ours.
    salt: String,
    number: u64,
}

impl Sub0Session {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let salt = format!("{:016x}", RandomState::new().build_hasher().finish());
        Self { calls: Calls::new(Arc::clone(&config)), config, salt, number: 0 }
    }

    /// The name to send an action under.
    fn sent_as(&mut self, action: &str) -> String {
        match self.config.correlation {
            Correlation::Serial | Correlation::Fifo => action.to_owned(),
            Correlation::UniqueAction => {
                self.number += 1;
                format!("{action}#{}-{}", self.number, self.salt)
            }
        }
    }

    /// The action as its caller named it, and whether the name was one of our own making.
    fn named<'a>(&self, action: &'a str) -> (&'a str, bool) {
        let own = || {
            let (name, suffix) = action.rsplit_once('#')?;
            let number = suffix.strip_suffix(self.salt.as_str())?.strip_suffix('-')?;
            number.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
        };
        match own().filter(|_| self.config.correlation == Correlation::UniqueAction) {
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
        let owner = self.calls.answered(action, out);
        let (name, own) = self.named(action);
        let kind = match (&owner, own) {
            (None, false) => EventType::ResourceBroadcast,
            _ => EventType::ResourceResponded,
        };
        // An answer that nobody waits for any more is told to everybody: it may say what the caller must know.
        if self.config.publish_responses || !matches!(owner, Some(Owner::Caller { .. })) {
            let mut event = Event::new(kind, raw).scope(name).upstream(name.to_owned());
            event.fields.action = Some(name.to_owned());
            event.fields.resource = owner.as_ref().map(|owner| owner.resource().to_owned());
            event.fields.uid = uid;
            event.fields.data = Some(data.to_owned());
            if let Some(Owner::Caller { id, .. }) = &owner {
                event.caused_by = Some(*id);
            }
            out.publish(event);
        }
        if let Some(Owner::Caller { id, .. }) = owner {
            out.reply(id, Reply::Response(data.to_owned()));
        }
    }

    fn fault(&mut self, fault: Fault, raw: Raw, out: &mut Outbox<Frame>) {
        let owner = match &fault.action {
            Some(action) => self.calls.answered(action, out).map(|owner| (owner, true)),
            None => self.calls.oldest(out),
        };
        let refusal = fault.refusal();
        let mut event = Event::new(EventType::ErrorRaised, raw);
        if let Some(action) = &fault.action {
            let (name, _) = self.named(action);
            event = event.scope(name).upstream(name.to_owned());
            event.fields.action = Some(name.to_owned());
        }
        // Where it is not known which call is meant, the event must not say that it is.
        if let Some((owner, true)) = &owner {
            event.fields.resource = Some(owner.resource().to_owned());
        }
        event.fields.uid = fault.uid;
        event.fields.error = Some(fault.error);
        out.publish(event);
        match owner {
            Some((Owner::Caller { id, .. }, true)) if fault.certain => {
                out.reply(id, Reply::Failed(refusal));
            }
            Some((Owner::Caller { id, .. }, _)) => out.reply(id, Reply::Unknown(refusal)),
            Some((Owner::Gone { .. }, _)) | None => {}
        }
    }
}

impl Owner {
    fn resource(&self) -> &str {
        match self {
            Self::Caller { resource, .. } | Self::Gone { resource } => resource,
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
        let (said, raw) = decode::read(frame)?;
        match said {
            Said::Keepalive => {}
            Said::Data { action, uid, data } => self.data(&action, uid, data, raw, out),
            Said::Fault(fault) => self.fault(fault, raw, out),
        }
        Ok(())
    }

    fn encode(&mut self, _: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        let resource = resource(&command)?.to_owned();
        let name = match (command.header(ACTION), &self.config.default_action) {
            (Some(name), _) => Cow::Borrowed(name),
            (None, Some(name)) => Cow::Owned(name.clone()),
            (None, None) => Cow::Borrowed(resource.as_str()),
        };
        if name.is_empty() || name.len() > MAX_NAME || resource.len() > MAX_NAME {
            return Err(Error::rejected(
                Code::BadBody,
                format!("the resource and the action ({ACTION}) have 1 to {MAX_NAME} bytes each"),
            ));
        }
        let action = self.sent_as(&name);
        let frame = decode::call(&resource, &action, &command.body)?;
        let call = Call { id: command.id, resource, frame, deadline: command.deadline };
        self.calls.add(action, call, out)
    }

    fn tick(&mut self, out: &mut Outbox<Frame>) -> Result<()> {
        self.calls.expire(out);
        Ok(())
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        self.calls.abandoned(command, sent, out);
    }
}
