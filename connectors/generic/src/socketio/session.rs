//! One connection to a Socket.IO service: events and acknowledgements, in both directions.

use std::collections::BTreeSet;
use std::sync::Arc;

use pontoon_sdk::pending::{Answered, Order, Pending};
use pontoon_sdk::socketio::{Args, Event, Frame};
use pontoon_sdk::streams::Streams;
use pontoon_sdk::{
    Command, CommandId, DeliveryLevel, End, Error, Join, Kind, Outbox, Raw, Reply, Result, Session,
};

use crate::answer::{error_of, reply, sentence};
use crate::mapping::{Payload, Secrets, Unmapped, unmapped};
use crate::rules::{Content, Dialogue, Ends, Memory, Reacted, Seen};
use crate::socketio::config::{Arguments, Config, Emit, Mapping, Rules, Subscriptions};
use crate::socketio::operations::{self, Outgoing, Request};
use crate::subscriptions::{join, list};

/// One connection.
pub struct SocketioSession {
    config: Arc<Config>,
    /// The events whose acknowledgements are due, by their number.
    calls: Pending<u64, Called, Frame>,
    next_number: u64,
    dialogue: Dialogue<Arguments, Emit>,
    /// The subscriptions that were not asked for again yet.
    waiting: Vec<Join>,
    /// The numbers of those that were, until they are acknowledged.
    again: BTreeSet<u64>,
    /// The messages that come in parts.
    streams: Streams,
}

/// An event that was sent with a request for an acknowledgement.
struct Called {
    event: String,
    delivery: DeliveryLevel,
}

impl SocketioSession {
    pub(crate) fn new(config: Arc<Config>, rules: Arc<Rules>, memory: Arc<Memory>) -> Self {
        Self {
            config,
            calls: Pending::new(Order::ById),
            next_number: 0,
            dialogue: Dialogue::new(rules, memory, Box::new(|_| None), Box::new(|frame| frame)),
            waiting: Vec::new(),
            again: BTreeSet::new(),
            streams: Streams::default(),
        }
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Asks again for what callers have subscribed to, once the connection is ready.
    fn subscribe_again(&mut self, out: &mut Outbox<Frame>) {
        let config = Arc::clone(&self.config);
        let Some(Subscriptions { subscribe, acknowledged, .. }) = &config.subscriptions else { return };
        if !self.dialogue.is_ready() {
            return;
        }
        for join in std::mem::take(&mut self.waiting) {
            let named = |name: &str| self.dialogue.named(name);
            let Outgoing { event, args, .. } =
                operations::about_body(subscribe, &join.data, *acknowledged, &named);
            let ack = acknowledged.then(|| self.number());
            self.again.extend(ack);
            out.rejoin(&join.key);
            out.send(Frame::Event(Event { name: event, args, ack }));
        }
    }

    fn event(&mut self, event: &Event, out: &mut Outbox<Frame>) -> Result<()> {
        let seen =
            Seen { kind: Some(&event.name), content: Content::Json(Payload::List(event.args.values())) };
        if let Some(ends) = self.dialogue.learn(&seen) {
            return Err(self.end(ends, event, out));
        }
        let Reacted { internal, stored } = self.dialogue.react(&seen, out)?;
        self.subscribe_again(out);
        if self.dialogue.is_ignored(&seen) {
            stored.into_iter().for_each(|number| self.dialogue.stored(number, out));
            return Ok(());
        }
        let payload = event.args.payload();
        let config = Arc::clone(&self.config);
        let Some(mapping) = config.events.get(&event.name) else {
            if !internal && self.config.unmapped == Unmapped::Publish {
                out.publish(pontoon_sdk::Event { stored, ..unmapped(Some(event.name.clone()), payload) });
            } else {
                stored.into_iter().for_each(|number| self.dialogue.stored(number, out));
            }
            return Ok(());
        };
        if mapping.each.is_some() {
            let events = self.mapped(mapping, event);
            self.dialogue.publish(events, stored, out);
        } else {
            let mapped = mapping.event(Payload::List(event.args.values()), payload, &mut self.streams);
            out.publish(pontoon_sdk::Event { stored, ..mapped.upstream(event.name.clone()) });
        }
        if let (Some(number), Some(values)) = (event.ack, &mapping.acknowledge) {
            let values = values.iter().map(Raw::json).collect::<Result<_>>()?;
            out.send(Frame::ack(number, values));
        }
        Ok(())
    }

    /// All events that an entry makes of an event of the service.
    fn mapped(&mut self, mapping: &Mapping, event: &Event) -> Vec<pontoon_sdk::Event> {
        let (values, payload) = (event.args.values(), event.args.payload());
        let events = mapping.events(Payload::List(values), payload.clone(), &mut self.streams);
        let events = events.unwrap_or_else(|error| {
            let mut event = unmapped(Some(event.name.clone()), payload);
            event.fields.reason = Some(error.message().to_owned());
            vec![event]
        });
        events.into_iter().map(|mapped| mapped.upstream(event.name.clone())).collect()
    }

    /// Ends the link for an event by which the service ends it.
    fn end(&mut self, ends: Ends, event: &Event, out: &mut Outbox<Frame>) -> Error {
        let payload = event.args.payload();
        let reason = error_of(&String::from_utf8_lossy(payload.as_bytes()));
        let text = self.dialogue.secrets.masked(&sentence(&reason));
        let config = Arc::clone(&self.config);
        let mapped = config.events.get(&event.name).map(|mapping| self.mapped(mapping, event));
        let mut events = mapped.unwrap_or_default();
        if events.is_empty() && ends != Ends::Reconnect {
            events.push(pontoon_sdk::Event::error(reason, payload));
        }
        for mut event in events {
            self.dialogue.secrets.redactor().event(&mut event);
            out.publish(event);
        }
        ends.error(&text)
    }

    fn acknowledged(&mut self, id: u64, args: &Args, out: &mut Outbox<Frame>) -> Result<()> {
        if self.again.remove(&id) {
            return Ok(());
        }
        let Some(Answered { command, context: called }) = self.calls.answered(&id, out) else {
            return Err(Error::protocol(format!(
                "an acknowledgement with the number {id}, which is not waited for"
            )));
        };
        let payload = args.payload();
        let Some(command) = command else {
            let mut event = unmapped(Some(called.event), payload);
            event.upstream = None;
            event.fields.reason =
                Some("the acknowledgement of this event came after its caller had given up".to_owned());
            out.publish(event);
            return Ok(());
        };
        out.reply(command, reply(called.delivery, payload.parse()?));
        Ok(())
    }
}

impl Session for SocketioSession {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        self.waiting = joins.to_vec();
        self.dialogue.secrets = Secrets::reveal(&self.config.secrets)?;
        for emit in &self.config.emit_on_connect {
            out.send(self.dialogue.frame(emit));
        }
        self.dialogue.opened(out);
        self.subscribe_again(out);
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        match frame {
            Frame::Event(event) => self.event(event, out),
            Frame::Ack { id, args } => self.acknowledged(*id, args, out),
            Frame::Malformed { reason, .. } => Err(Error::protocol(reason.clone())),
        }
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
            Request::Emit(_) | Request::Call(_) | Request::Message(_) => None,
        };
        let subscribes = matches!(request, Request::Subscribe(_));
        let named = |name: &str| self.dialogue.named(name);
        let Outgoing { event, args, delivery } =
            operations::outgoing(request, &command.body, &self.config, &named)?;
        match change {
            Some(join) if subscribes => out.remember_for(command.id, join)?,
            Some(join) => out.forget_for(command.id, join.key),
            None => {}
        }
        if delivery <= DeliveryLevel::Sent {
            out.delivery(command.id, delivery);
            out.send_for(command.id, Frame::Event(Event { name: event, args, ack: None }));
            return Ok(());
        }
        let number = self.number();
        let called = Called { event: event.clone(), delivery };
        let frame = Frame::Event(Event { name: event, args, ack: Some(number) });
        self.calls.send(&command, number, called, frame, out)
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
