//! A titled socket: what comes over it are events, what is sent to its title goes out as text.

use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Command, End, Error, EventType, Join, Kind, Outbox, Reply, Result, Session};
use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::operations::Order;
use crate::peer::Place;
use crate::session::{ended, event, said};

/// One connection of a titled socket.
pub(crate) struct TitledSocket {
    place: Place,
}

/// What the caller is told who created it.
#[derive(Serialize)]
struct Created<'a> {
    title: &'a str,
}

impl TitledSocket {
    pub(crate) fn new(place: Place) -> Self {
        Self { place }
    }
}

impl Session for TitledSocket {
    type Frame = Frame;
    type Request = Order;

    fn open(&mut self, _joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        out.ready();
        out.publish(event(EventType::SocketOpened, &self.place, ""));
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        out.publish(said(&self.place, frame));
        Ok(())
    }

    fn encode(&mut self, order: Order, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        match order {
            Order::Say { text, .. } => out.send_for(command.id, Frame::text(text)),
            Order::Create { title, .. } => {
                let created = to_raw_value(&Created { title: &title });
                let created = created.map_err(|error| Error::internal(error.to_string()))?;
                out.reply(command.id, Reply::Acked(created));
            }
            Order::Remove { .. } | Order::List => {
                return Err(Error::internal(format!("{} is not for a socket", command.operation)));
            }
        }
        Ok(())
    }

    fn ended(&mut self, end: &End, out: &mut Outbox<Frame>) -> Kind {
        out.publish(ended(&self.place, end));
        end.kind
    }
}
