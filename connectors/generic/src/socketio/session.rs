//! One connection to a Socket.IO service: events and acknowledgements, in both directions.

use std::sync::Arc;

use pontoon_sdk::pending::{Answered, Order, Pending};
use pontoon_sdk::socketio::{Args, Event, Frame};
use pontoon_sdk::streams::Streams;
use pontoon_sdk::{Command, CommandId, DeliveryLevel, Error, Join, Outbox, Raw, Result, Session};

use crate::answer::reply;
use crate::mapping::{Payload, Secrets, Unmapped, unmapped};
use crate::socketio::config::Config;
use crate::socketio::operations::{self, Outgoing, Request};

/// One connection.
pub struct SocketioSession {
    config: Arc<Config>,
    /// The events whose acknowledgements are due, by their number.
    calls: Pending<u64, Called, Frame>,
    next_number: u64,
    secrets: Secrets,
    /// The messages that come in parts.
    streams: Streams,
}

/// An event that was sent with a request for an acknowledgement.
struct Called {
    event: String,
    delivery: DeliveryLevel,
}

impl SocketioSession {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            calls: Pending::new(Order::ById),
            next_number: 0,
            secrets: Secrets::default(),
            streams: Streams::default(),
        }
    }

    fn event(&mut self, event: &Event, out: &mut Outbox<Frame>) -> Result<()> {
        let payload = event.args.payload();
        let Some(mapping) = self.config.events.get(&event.name) else {
            if self.config.unmapped == Unmapped::Publish {
                out.publish(unmapped(Some(event.name.clone()), payload));
            }
            return Ok(());
        };
        let mapped = mapping.event(Payload::List(event.args.values()), payload, &mut self.streams);
        out.publish(mapped.upstream(event.name.clone()));
        if let (Some(number), Some(values)) = (event.ack, &mapping.acknowledge) {
            let values = values.iter().map(Raw::json).collect::<Result<_>>()?;
            out.send(Frame::ack(number, values));
        }
        Ok(())
    }

    fn acknowledged(&mut self, id: u64, args: &Args, out: &mut Outbox<Frame>) -> Result<()> {
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

    fn open(&mut self, _joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        self.secrets = Secrets::reveal(&self.config.secrets)?;
        for emit in &self.config.emit_on_connect {
            let values = emit.args.iter().map(|value| value.json(&|name| self.secrets.json(name))).collect();
            out.send(Frame::Event(Event::new(emit.event.clone(), values)));
        }
        out.ready();
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
        let Outgoing { event, args, delivery } = operations::outgoing(request, &self.config, &self.secrets)?;
        if delivery <= DeliveryLevel::Sent {
            out.delivery(command.id, delivery);
            out.send_for(command.id, Frame::Event(Event { name: event, args, ack: None }));
            return Ok(());
        }
        let number = self.next_number;
        self.next_number += 1;
        let called = Called { event: event.clone(), delivery };
        let frame = Frame::Event(Event { name: event, args, ack: Some(number) });
        self.calls.send(&command, number, called, frame, out)
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        self.calls.abandoned(command, sent, out);
    }
}
