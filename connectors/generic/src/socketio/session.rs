//! One conversation with a Socket.IO service: its events come in, ours go out, acknowledgements go both ways.

use std::sync::Arc;

use pontoon_sdk::accumulator::Streams;
use pontoon_sdk::socketio::{Ack, Answered, Calls, Event, Frame};
use pontoon_sdk::{Command, CommandId, DeliveryLevel, Error, Join, Outbox, Raw, Reply, Result, Session};
use serde_json::value::RawValue;

use crate::mapping::{Secrets, Unmapped, unmapped};
use crate::socketio::config::Config;
use crate::socketio::operations::{self, Outgoing, Request};

/// One conversation.
pub struct SocketioSession {
    config: Arc<Config>,
    calls: Calls<Asked>,
    secrets: Secrets,
    /// The messages that come in parts.
    streams: Streams,
}

/// What an acknowledgement was asked for.
struct Asked {
    event: String,
    delivery: DeliveryLevel,
}

impl SocketioSession {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, calls: Calls::default(), secrets: Secrets::default(), streams: Streams::default() }
    }

    fn event(&mut self, said: &Event, out: &mut Outbox<Frame>) -> Result<()> {
        let mapping = self.config.events.get(&said.name);
        match (mapping, self.config.unmapped) {
            (Some(mapping), _) => out.publish(mapping.event(said, &mut self.streams)),
            (None, Unmapped::Publish) => out.publish(unmapped(Some(said.name.clone()), said.args.payload())),
            (None, Unmapped::Drop) => {}
        }
        if let (Some(id), Some(values)) = (said.ack, mapping.and_then(|mapping| mapping.acknowledge.as_ref()))
        {
            let values = values.iter().map(Raw::json).collect::<Result<_>>()?;
            out.send(Frame::ack(id, values));
        }
        Ok(())
    }

    fn acknowledged(&mut self, ack: &Ack, out: &mut Outbox<Frame>) -> Result<()> {
        let Some(Answered { command, asked }) = self.calls.take(ack.id) else {
            return Err(Error::protocol(format!(
                "an acknowledgement with the number {}, which is not waited for",
                ack.id
            )));
        };
        let payload = ack.args.payload();
        let Some(command) = command else {
            let mut event = unmapped(Some(asked.event), payload);
            event.upstream = None;
            event.fields.reason =
                Some("the acknowledgement of this event came after its caller had given up".to_owned());
            out.publish(event);
            return Ok(());
        };
        let data: Box<RawValue> = payload.parse()?;
        out.reply(
            command,
            match asked.delivery {
                DeliveryLevel::Response => Reply::Response(data),
                DeliveryLevel::Accepted | DeliveryLevel::Sent | DeliveryLevel::Acked => Reply::Acked(data),
            },
        );
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
            Frame::Event(said) => self.event(said, out),
            Frame::Ack(ack) => self.acknowledged(ack, out),
            Frame::Malformed(malformed) => Err(Error::protocol(malformed.reason.clone())),
        }
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        let Outgoing { event, args, delivery } = operations::outgoing(request, &self.config, &self.secrets)?;
        let ack = if delivery > DeliveryLevel::Sent {
            Some(self.calls.begin(command.id, Asked { event: event.clone(), delivery }))
        } else {
            out.delivery(command.id, delivery);
            None
        };
        out.send_for(command.id, Frame::Event(Event { name: event, args, ack }));
        Ok(())
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, _out: &mut Outbox<Frame>) {
        self.calls.abandon(command, sent);
    }
}
