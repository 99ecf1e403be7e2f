//! One conversation with a WebSocket service: its frames become events and answers, commands become frames.

use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::accumulator::Streams;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{
    Command, CommandId, DeliveryLevel, Error, Event, Join, Outbox, Raw, Reply, Result, Session,
};
use serde_json::value::RawValue;

use crate::mapping::{Payload, Secrets, Unmapped, unmapped};
use crate::websocket::config::{self, Config, ID};
use crate::websocket::decode::{Pointer, Said, Words, is_no_error};
use crate::websocket::ids::{Call, Calls, Numbers};
use crate::websocket::operations::{self, Outgoing, Request};
use crate::websocket::selector::Which;

/// One conversation.
pub struct WebsocketSession {
    config: Arc<Config>,
    numbers: Arc<Numbers>,
    calls: Calls,
    secrets: Secrets,
    ready: bool,
    next_heartbeat: Option<Instant>,
    /// The messages that come in parts.
    streams: Streams,
}

/// One frame, looked at.
struct Heard<'a> {
    frame: &'a Frame,
    said: Said<'a>,
    kind: Option<String>,
    raw: Raw,
}

impl WebsocketSession {
    pub(crate) fn new(config: Arc<Config>, numbers: Arc<Numbers>) -> Self {
        Self {
            config,
            numbers,
            calls: Calls::default(),
            secrets: Secrets::default(),
            ready: false,
            next_heartbeat: None,
            streams: Streams::default(),
        }
    }

    /// What a name in a template stands for, as JSON.
    fn named(&self, name: &str) -> Option<String> {
        match name {
            ID => Some(self.numbers.json(self.numbers.next())),
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

    /// The event that `events` makes of a frame.
    fn listed(&mut self, heard: &Heard<'_>) -> Option<Event> {
        let Heard { said: Said::Json(json), kind: Some(kind), raw, .. } = heard else { return None };
        let mapping = self.config.events.get(kind)?;
        let event = mapping.event(Payload::Json(json), raw.clone(), &mut self.streams);
        Some(event.upstream(kind.clone()))
    }

    /// The event that `text` or `binary` makes of a frame.
    fn unnamed(&mut self, heard: &Heard<'_>) -> Option<Event> {
        let (mapping, document, raw) = match (heard.frame, &heard.said) {
            // `binary` speaks of JSON in a binary frame, too.
            (Frame::Binary(bytes), _) => {
                let raw = Raw::of_binary(bytes);
                (self.config.binary.as_ref(), Said::Binary(bytes).document(), raw)
            }
            (Frame::Text(_), said @ Said::Text(_)) => {
                (self.config.text.as_ref(), said.document(), heard.raw.clone())
            }
            (Frame::Text(_), _) => return None,
        };
        Some(mapping?.event(Payload::Json(&document), raw, &mut self.streams))
    }

    /// The call that a frame answers, if it answers one.
    fn answered(&mut self, heard: &Heard<'_>) -> Option<Call> {
        let (Some(call), Said::Json(json)) = (&self.config.call, &heard.said) else { return None };
        let kind = heard.kind.as_deref();
        let may_be = match &call.when {
            Some(when) => when.matches(&heard.said, kind),
            // What the service says by itself may have numbers of its own.
            None => kind.is_none_or(|kind| !self.config.events.contains_key(kind)),
        };
        let found = if may_be { call.answer().find(json) } else { None };
        found.and_then(|found| self.numbers.read(found)).and_then(|number| self.calls.take(number))
    }

    fn answer(&mut self, call: &Call, heard: Heard<'_>, out: &mut Outbox<Frame>) -> Result<()> {
        let (Some(configured), Said::Json(json), Some(caller)) =
            (&self.config.call, &heard.said, call.caller)
        else {
            // What nobody waits for any more is told to everybody: it may say what the caller must know.
            let event = self.listed(&heard);
            out.publish(event.unwrap_or_else(|| {
                let mut event = unmapped(heard.kind, heard.raw);
                event.fields.reason = Some("the answer to a call whose caller had given up".to_owned());
                event
            }));
            return Ok(());
        };
        if let Some(words) = failure(configured, json, &heard) {
            out.reply(caller, Reply::Failed(Error::refused(self.secrets.masked(&words.sentence()))));
            return Ok(());
        }
        let data = configured.data.as_ref().and_then(|data| data.find(json)).unwrap_or(json);
        let data = RawValue::from_string(data.trim_ascii().to_owned());
        let data = data.map_err(|error| Error::internal(error.to_string()))?;
        out.reply(
            caller,
            match call.delivery {
                DeliveryLevel::Response => Reply::Response(data),
                DeliveryLevel::Accepted | DeliveryLevel::Sent | DeliveryLevel::Acked => Reply::Acked(data),
            },
        );
        Ok(())
    }

    /// Ends the link if the frame is the service's refusal of our credentials, or says that there were too many requests.
    fn refused(&mut self, heard: &Heard<'_>, out: &mut Outbox<Frame>) -> Result<()> {
        let is = |which: &Option<Which>| {
            which.as_ref().is_some_and(|which| which.matches(&heard.said, heard.kind.as_deref()))
        };
        let error: fn(String) -> Error = if is(&self.config.refused_when) {
            Error::auth
        } else if is(&self.config.slow_when) {
            Error::throttled
        } else {
            return Ok(());
        };
        let words = Words::of(&heard.said.document());
        let sentence = self.secrets.masked(&words.sentence());
        let mut event = self.listed(heard).unwrap_or_else(|| words.refusal(heard.raw.clone()));
        self.secrets.redactor().event(&mut event);
        out.publish(event);
        Err(error(format!("the service refused us: {sentence}")))
    }

    /// Whether a frame is one of those that the link needs and nobody else: what it waits for, or a sign of life.
    fn internal(&mut self, heard: &Heard<'_>, out: &mut Outbox<Frame>) -> bool {
        let Heard { said, kind, .. } = heard;
        let kind = kind.as_deref();
        let mut known = false;
        if !self.ready && self.config.ready_when.as_ref().is_some_and(|ready| ready.matches(said, kind)) {
            self.ready = true;
            out.ready();
            known = true;
        }
        for answer in self.config.heartbeat.answer.iter().filter(|answer| answer.when.matches(said, kind)) {
            let document = said.document();
            let part = |name: &str| name.parse::<Pointer>().ok()?.find(&document).map(str::to_owned);
            let value_of = |name: &str| if name.starts_with('/') { part(name) } else { self.named(name) };
            out.send(Frame::text(answer.send.text(&value_of)));
            known = true;
        }
        known
    }

    fn ignored(&self, heard: &Heard<'_>) -> bool {
        let ignore = &self.config.heartbeat.ignore;
        ignore.iter().any(|which| which.matches(&heard.said, heard.kind.as_deref()))
    }

    /// Publishes what no mapping speaks of, or says why it is not understood.
    fn unmapped(&self, heard: Heard<'_>, out: &mut Outbox<Frame>) -> Result<()> {
        let why = match (&heard.said, &heard.kind) {
            (Said::Json(_), Some(_)) => {
                if self.config.unmapped == Unmapped::Publish {
                    out.publish(unmapped(heard.kind, heard.raw));
                }
                return Ok(());
            }
            (Said::Json(_), None) if self.config.kind.is_empty() => {
                "nothing says where the kind of a frame stands (kind)".to_owned()
            }
            (Said::Json(_), None) => format!("the frame has no kind at {}", self.config.kind.places()),
            (Said::Text(_), _) => {
                format!("{}, and nothing says what a text becomes (text)", fault(heard.frame))
            }
            (Said::Binary(_), _) => {
                let fault = fault(heard.frame);
                format!("the frame is binary, and nothing says what that becomes (binary): {fault}")
            }
        };
        Err(Error::protocol(why))
    }
}

/// Why a frame is not read as JSON.
fn fault(frame: &Frame) -> String {
    Raw::document(frame.bytes()).err().map(|error| error.message().to_owned()).unwrap_or_default()
}

/// What an answer says of a failure, if it does.
fn failure(call: &config::Call, json: &str, heard: &Heard<'_>) -> Option<Words> {
    let error = call.error.as_ref().and_then(|error| error.find(json)).filter(|error| !is_no_error(error));
    if let Some(error) = error {
        // `"error":true` says nothing by itself.
        return Some(Words::of(if error == "true" { json } else { error }));
    }
    let failed = call.failed_when.as_ref()?;
    failed.matches(&heard.said, heard.kind.as_deref()).then(|| Words::of(json))
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
        let (said, raw) = Said::of(frame);
        let kind = if let Said::Json(json) = &said { self.config.kind.of(json) } else { None };
        let heard = Heard { frame, said, kind, raw };
        self.refused(&heard, out)?;
        if let Some(call) = self.answered(&heard) {
            return self.answer(&call, heard, out);
        }
        let internal = self.internal(&heard, out);
        if self.ignored(&heard) {
            return Ok(());
        }
        // `text` and `binary` speak of all frames that have no kind, and so of none that the link needs.
        let event = self.listed(&heard).or_else(|| if internal { None } else { self.unnamed(&heard) });
        match event {
            Some(event) => out.publish(event),
            None if internal => {}
            None => return self.unmapped(heard, out),
        }
        Ok(())
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        let Outgoing { frame, delivery, number } =
            operations::outgoing(request, &command, &self.config, &self.numbers, &|name| self.named(name))?;
        match number {
            Some(number) => self.calls.begin(number, command.id, delivery),
            None => out.delivery(command.id, delivery),
        }
        out.send_for(command.id, frame);
        Ok(())
    }

    fn tick(&mut self, out: &mut Outbox<Frame>) -> Result<()> {
        self.beat(out);
        Ok(())
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, _out: &mut Outbox<Frame>) {
        self.calls.abandon(command, sent);
    }
}
