//! One connection to a WebSocket service: its frames become events and replies, commands become frames.

use std::sync::Arc;

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::pending::{Answered, Order, Pending};
use pontoon_sdk::streams::Streams;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{
    Command, CommandId, DeliveryLevel, End, Error, Event, Join, Kind, Outbox, Raw, Reply, Result, Session,
};
use serde_json::value::RawValue;

use crate::answer::{error_of, reply, sentence};
use crate::encoding::FrameReader;
use crate::mapping::{Secrets, Template, unmapped};
use crate::rules::{Dialogue, Ends, Memory, Reacted};
use crate::subscriptions::{join, list};
use crate::websocket::address::AddressFrom;
use crate::websocket::config::{Config, ID, Rules};
use crate::websocket::content::{Content, Frames};
use crate::websocket::decode::Received;
use crate::websocket::ids::RequestIds;
use crate::websocket::operations::{self, Outgoing, Request};
use crate::websocket::subscriptions::Again;

/// One connection.
pub struct WebsocketSession {
    config: Arc<Config>,
    ids: Arc<RequestIds>,
    /// The calls that were not answered, each with what its caller is promised.
    calls: Pending<u64, DeliveryLevel, Frame>,
    dialogue: Dialogue<Frames, Template>,
    again: Again,
    reader: FrameReader,
    /// The messages that come in parts.
    streams: Streams,
}

impl WebsocketSession {
    pub(crate) fn new(
        config: Arc<Config>,
        rules: Arc<Rules>,
        memory: Arc<Memory>,
        ids: Arc<RequestIds>,
    ) -> Self {
        let numbers = Arc::clone(&ids);
        let names = move |name: &str| (name == ID).then(|| numbers.json(numbers.next()));
        let (split, encoding) = (config.split, config.encoding());
        let wrap =
            move |frame| encoding.encoded(if let Some(split) = split { split.ended(frame) } else { frame });
        let dialogue = Dialogue::new(rules, memory, Box::new(names), Box::new(wrap));
        Self {
            config,
            ids,
            calls: Pending::new(Order::ById),
            dialogue,
            again: Again::default(),
            reader: FrameReader::new(encoding),
            streams: Streams::default(),
        }
    }

    /// The call that a frame answers, if it answers one.
    fn answered(&mut self, frame: &Received<'_>, out: &mut Outbox<Frame>) -> Option<Answered<DeliveryLevel>> {
        let (Some(call), Content::Json(json)) = (&self.config.call, &frame.content) else { return None };
        // Frames that the service sends by itself may have numbers of another meaning.
        let is_listed = || frame.kind.as_ref().is_some_and(|kind| self.config.events.contains_key(kind));
        let may_be = if call.when.is_empty() { !is_listed() } else { call.when.matches(&frame.seen()) };
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
            let mut events = frame.mapped(&self.config, &mut self.streams);
            if events.is_empty() {
                let mut event = unmapped(frame.kind, frame.raw);
                event.fields.reason = Some("the answer to a call whose caller had given up".to_owned());
                events.push(event);
            }
            events.into_iter().for_each(|event| out.publish(event));
            return Ok(());
        };
        if let Some(error) = frame.failure(call, json) {
            // What a caller wanted to subscribe to is not subscribed to.
            out.undo(command);
            out.reply(
                command,
                Reply::Failed(Error::refused(self.dialogue.secrets.masked(&sentence(&error)))),
            );
            return Ok(());
        }
        let data = call.data.as_ref().and_then(|data| data.find(json)).unwrap_or(json.text);
        let data = RawValue::from_string(data.trim_ascii().to_owned());
        let data = data.map_err(|error| Error::internal(error.to_string()))?;
        out.reply(command, reply(answered.context, data));
        Ok(())
    }

    /// Asks again for what callers have subscribed to, once the connection is ready.
    fn subscribe_again(&mut self, out: &mut Outbox<Frame>) {
        if self.dialogue.is_ready() {
            let Self { again, config, ids, dialogue, .. } = self;
            let named = |name: &str| dialogue.named(name);
            for (key, frame) in again.frames(config, ids, &named) {
                out.rejoin(&key);
                out.send(dialogue.wrapped(frame));
            }
        }
    }

    /// Whether a frame answers what was asked for again; a refusal is published.
    fn is_subscribed_again(&mut self, frame: &Received<'_>, out: &mut Outbox<Frame>) -> bool {
        let (Some(call), Content::Json(json)) = (&self.config.call, &frame.content) else { return false };
        let id = call.answer().find(json).and_then(|found| self.ids.read(found));
        if !id.is_some_and(|id| self.again.answered(id)) {
            return false;
        }
        if let Some(error) = frame.failure(call, json) {
            let mut event = Event::error(error, frame.raw.clone());
            self.dialogue.secrets.redactor().event(&mut event);
            out.publish(event);
        }
        true
    }

    /// Ends the link for a frame by which the service ends it.
    fn end(&mut self, ends: Ends, frame: &Received<'_>, out: &mut Outbox<Frame>) -> Error {
        let reason = error_of(&frame.content.document());
        let text = self.dialogue.secrets.masked(&sentence(&reason));
        let mut events = frame.mapped(&self.config, &mut self.streams);
        if events.is_empty() && ends != Ends::Reconnect {
            events.push(Event::error(reason, frame.raw.clone()));
        }
        for mut event in events {
            self.dialogue.secrets.redactor().event(&mut event);
            out.publish(event);
        }
        ends.error(&text)
    }

    /// One message of the service's.
    fn message(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        let config = Arc::clone(&self.config);
        let inner = config.unfolded(frame);
        let frame = Received::read(frame, inner.as_deref(), &config.kind);
        if let Some(ends) = self.dialogue.learn(&frame.seen()) {
            let error = self.end(ends, &frame, out);
            let gives = |address: &AddressFrom| self.dialogue.gives(&address.from, &frame.seen());
            if ends == Ends::Reconnect && config.address.as_ref().is_some_and(gives) {
                // The frame has the address, which may hold a ticket.
                out.move_on("the service asks for a new connection");
                return Ok(());
            }
            return Err(error);
        }
        if let Some(answered) = self.answered(&frame, out) {
            return self.answer(answered, frame, out);
        }
        if self.is_subscribed_again(&frame, out) {
            return Ok(());
        }
        let Reacted { internal, stored } = self.dialogue.react(&frame.seen(), out)?;
        self.subscribe_again(out);
        if self.dialogue.is_ignored(&frame.seen()) {
            stored.into_iter().for_each(|number| self.dialogue.stored(number, out));
            return Ok(());
        }
        let mapping = frame.mapping(&config);
        if let Some(mapping) = mapping.filter(|mapping| mapping.each.is_some()) {
            let events = frame.events(mapping, &mut self.streams);
            self.dialogue.publish(events, stored, out);
            return Ok(());
        }
        let raw = frame.raw.clone();
        let mut event = mapping.and_then(|mapping| frame.event(mapping, &mut self.streams));
        // `text` and `binary` are for all frames without a kind, and so for none that is only for the link.
        if event.is_none() && !internal {
            event = match frame.unlisted(&self.config, &mut self.streams) {
                Some(event) => Some(event),
                None => match frame.unmapped(&self.config) {
                    Err(error) if stored.is_some() => {
                        let mut event = unmapped(None, raw);
                        event.fields.reason = Some(error.message().to_owned());
                        Some(event)
                    }
                    event => event?,
                },
            };
        }
        match event {
            Some(event) => out.publish(Event { stored, ..event }),
            None => stored.into_iter().for_each(|number| self.dialogue.stored(number, out)),
        }
        Ok(())
    }
}

impl Session for WebsocketSession {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        self.again = Again::new(joins);
        self.dialogue.secrets = Secrets::reveal(&self.config.secrets)?;
        for frame in &self.config.send_on_connect {
            out.send(self.dialogue.frame(frame));
        }
        self.dialogue.opened(out);
        self.subscribe_again(out);
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        let Some(frame) = self.reader.read(frame, out)? else { return Ok(()) };
        let Some(split) = self.config.split else { return self.message(&frame, out) };
        for message in split.messages(&frame)? {
            match self.message(&message, out) {
                // Only this message is not understood.
                Err(error) if error.kind() == Kind::Protocol => {
                    let mut event = unmapped(None, message.raw());
                    event.fields.reason = Some(error.message().to_owned());
                    self.dialogue.secrets.redactor().event(&mut event);
                    out.publish(event);
                }
                result => result?,
            }
        }
        Ok(())
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        let change = match &request {
            Request::Subscriptions(_) => {
                out.reply(command.id, Reply::Response(list(out)?));
                return Ok(());
            }
            Request::Subscribe(_) | Request::Unsubscribe(_) => {
                let key = operations::subscriptions_of(&self.config)?.key.as_ref();
                Some(join(key, &command.body)?)
            }
            _ => None,
        };
        let subscribes = matches!(request, Request::Subscribe(_));
        let Outgoing { frame, delivery, id } =
            operations::outgoing(request, &command, &self.config, &self.ids, &|name| {
                self.dialogue.named(name)
            })?;
        match change {
            Some(join) if subscribes => out.remember_for(command.id, join)?,
            Some(join) => out.forget_for(command.id, join.key),
            None => {}
        }
        let frame = self.dialogue.wrapped(frame);
        if let Some(id) = id {
            return self.calls.send(&command, id, delivery, frame, out);
        }
        out.delivery(command.id, delivery);
        out.send_for(command.id, frame);
        Ok(())
    }

    fn tick(&mut self, out: &mut Outbox<Frame>) -> Result<()> {
        self.dialogue.beat(out);
        Ok(())
    }

    fn stored(&mut self, number: u64, out: &mut Outbox<Frame>) -> Result<()> {
        self.dialogue.stored(number, out);
        Ok(())
    }

    fn memory(&mut self) -> Option<Vec<u8>> {
        self.dialogue.memory()
    }

    fn asked(&mut self, number: u64, answer: Result<Raw>, out: &mut Outbox<Frame>) -> Result<()> {
        self.dialogue.asked(number, answer, out);
        Ok(())
    }

    fn ended(&mut self, end: &End, _out: &mut Outbox<Frame>) -> Kind {
        self.dialogue.ended(end)
    }

    fn awaits(&self) -> Option<&'static str> {
        self.dialogue.awaits()
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        self.calls.abandoned(command, sent, out);
    }
}
