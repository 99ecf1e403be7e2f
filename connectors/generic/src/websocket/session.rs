//! One connection to a WebSocket service: its frames become events and replies, commands become frames.

use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::pending::{Answered, Order, Pending};
use pontoon_sdk::streams::Streams;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Command, CommandId, DeliveryLevel, Error, Event, Join, Outbox, Reply, Result, Session};
use serde_json::value::RawValue;

use crate::answer::reply;
use crate::mapping::{Json, Secrets, unmapped};
use crate::websocket::config::{Config, ID};
use crate::websocket::content::{Content, Pointer};
use crate::websocket::decode::{Received, error_of, sentence};
use crate::websocket::ids::RequestIds;
use crate::websocket::operations::{self, Outgoing, Request};

/// One connection.
pub struct WebsocketSession {
    config: Arc<Config>,
    ids: Arc<RequestIds>,
    /// The calls that were not answered, each with what its caller is promised.
    calls: Pending<u64, DeliveryLevel, Frame>,
    secrets: Secrets,
    ready: bool,
    next_heartbeat: Option<Instant>,
    /// The messages that come in parts.
    streams: Streams,
}

impl WebsocketSession {
    pub(crate) fn new(config: Arc<Config>, ids: Arc<RequestIds>) -> Self {
        Self {
            config,
            ids,
            calls: Pending::new(Order::ById),
            secrets: Secrets::default(),
            ready: false,
            next_heartbeat: None,
            streams: Streams::default(),
        }
    }

    /// What a name in a template stands for, as JSON.
    fn named(&self, name: &str) -> Option<String> {
        match name {
            ID => Some(self.ids.json(self.ids.next())),
            name => self.secrets.json(name),
        }
    }

    /// Sends the heartbeat if it is time to, and asks to be woken for the next.
    fn beat(&mut self, out: &mut Outbox<Frame>) {
        let heartbeat = &self.config.heartbeat;
        let (Some(every), Some(frame)) = (heartbeat.every, &heartbeat.send) else { return };
        let due = self.next_heartbeat.is_some_and(|next| next <= out.now());
        if due {
            out.send(Frame::text(frame.text(&|name| self.named(name))));
        }
        let next = match self.next_heartbeat {
            Some(next) if !due => next,
            _ => out.now() + every.0,
        };
        self.next_heartbeat = Some(next);
        out.wake_at(next);
    }

    fn listed(&mut self, frame: &Received<'_>) -> Option<Event> {
        frame.listed(&self.config, &mut self.streams)
    }

    /// The call that a frame answers, if it answers one.
    fn answered(&mut self, frame: &Received<'_>, out: &mut Outbox<Frame>) -> Option<Answered<DeliveryLevel>> {
        let (Some(call), Content::Json(json)) = (&self.config.call, &frame.content) else { return None };
        let may_be = match &call.when {
            Some(when) => frame.is(when),
            // Frames that the service sends by itself may have numbers of another meaning.
            None => frame.kind.as_ref().is_none_or(|kind| !self.config.events.contains_key(kind)),
        };
        let found = if may_be { call.answer().find(json) } else { None };
        found.and_then(|found| self.ids.read(found)).and_then(|id| self.calls.answered(&id, out))
    }

    fn answer(
        &mut self,
        answered: Answered<DeliveryLevel>,
        frame: Received<'_>,
        out: &mut Outbox<Frame>,
    ) -> Result<()> {
        let (Some(call), Content::Json(json), Some(command)) =
            (&self.config.call, &frame.content, answered.command)
        else {
            // It may say what the caller, who has given up, must know.
            let event = self.listed(&frame);
            out.publish(event.unwrap_or_else(|| {
                let mut event = unmapped(frame.kind, frame.raw);
                event.fields.reason = Some("the answer to a call whose caller had given up".to_owned());
                event
            }));
            return Ok(());
        };
        if let Some(error) = frame.failure(call, json) {
            out.reply(command, Reply::Failed(Error::refused(self.secrets.masked(&sentence(&error)))));
            return Ok(());
        }
        let data = call.data.as_ref().and_then(|data| data.find(json)).unwrap_or(json.text);
        let data = RawValue::from_string(data.trim_ascii().to_owned());
        let data = data.map_err(|error| Error::internal(error.to_string()))?;
        out.reply(command, reply(answered.context, data));
        Ok(())
    }

    /// Ends the link if the frame is the service's refusal of our credentials, or says that there were too many requests.
    fn refused(&mut self, frame: &Received<'_>, out: &mut Outbox<Frame>) -> Result<()> {
        let error: fn(String) -> Error = if self.config.refused_when.as_ref().is_some_and(|by| frame.is(by)) {
            Error::auth
        } else if self.config.slow_when.as_ref().is_some_and(|by| frame.is(by)) {
            Error::throttled
        } else {
            return Ok(());
        };
        let refusal = error_of(&frame.content.document());
        let text = self.secrets.masked(&sentence(&refusal));
        let mut event = self.listed(frame).unwrap_or_else(|| Event::error(refusal, frame.raw.clone()));
        self.secrets.redactor().event(&mut event);
        out.publish(event);
        Err(error(format!("the service refused us: {text}")))
    }

    /// Whether a frame is only for the link: what it waits for, or one that asks for a sign of life, which is answered.
    fn is_internal(&mut self, frame: &Received<'_>, out: &mut Outbox<Frame>) -> bool {
        let mut known = false;
        if !self.ready && self.config.ready_when.as_ref().is_some_and(|ready| frame.is(ready)) {
            self.ready = true;
            out.ready();
            known = true;
        }
        for answer in self.config.heartbeat.answer.iter().filter(|answer| frame.is(&answer.when)) {
            let document = frame.content.document();
            let json = Json::new(&document);
            let part = |name: &str| name.parse::<Pointer>().ok()?.find(&json).map(str::to_owned);
            let value_of = |name: &str| if name.starts_with('/') { part(name) } else { self.named(name) };
            out.send(Frame::text(answer.send.text(&value_of)));
            known = true;
        }
        known
    }
}

impl Session for WebsocketSession {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, _joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        self.secrets = Secrets::reveal(&self.config.secrets)?;
        for frame in &self.config.send_on_connect {
            out.send(Frame::text(frame.text(&|name| self.named(name))));
        }
        self.beat(out);
        if self.config.ready_when.is_none() {
            self.ready = true;
            out.ready();
        }
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        let frame = Received::read(frame, &self.config.kind);
        self.refused(&frame, out)?;
        if let Some(answered) = self.answered(&frame, out) {
            return self.answer(answered, frame, out);
        }
        let internal = self.is_internal(&frame, out);
        if self.config.heartbeat.ignore.iter().any(|ignored| frame.is(ignored)) {
            return Ok(());
        }
        let mut event = self.listed(&frame);
        // `text` and `binary` are for all frames without a kind, and so for none that is only for the link.
        if event.is_none() && !internal {
            event = match frame.unlisted(&self.config, &mut self.streams) {
                Some(event) => Some(event),
                None => frame.unmapped(&self.config)?,
            };
        }
        event.into_iter().for_each(|event| out.publish(event));
        Ok(())
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        let Outgoing { frame, delivery, id } =
            operations::outgoing(request, &command, &self.config, &self.ids, &|name| self.named(name))?;
        if let Some(id) = id {
            return self.calls.send(&command, id, delivery, frame, out);
        }
        out.delivery(command.id, delivery);
        out.send_for(command.id, frame);
        Ok(())
    }

    fn tick(&mut self, out: &mut Outbox<Frame>) -> Result<()> {
        self.beat(out);
        Ok(())
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        self.calls.abandoned(command, sent, out);
    }
}
