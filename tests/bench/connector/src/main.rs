//! A daemon with the smallest connector in Rust that publishes what the table of the benchmark does, under the same type.

use std::process::ExitCode;

use pontoon::registry::Registry;
use pontoon_sdk::message::MessageSend;
use pontoon_sdk::websocket::{Endpoint, Frame};
use pontoon_sdk::{
    Command, Connector, Error, Event, EventType, Join, LinkKey, LinkSpec, Outbox, Result, Session, WebSocket,
    operations,
};
use schemars::JsonSchema;
use serde::Deserialize;

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Sends a text.
        Send(MessageSend) = "message.send", Sent;
    }
}

/// The settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the service is.
    url: String,
}

/// The service of the benchmark.
pub struct Messages(Endpoint);

impl Connector for Messages {
    const TYPE: &'static str = "websocket";
    const SAMPLE: &'static str = "";
    type Transport = WebSocket;
    type Config = Config;
    type Request = Request;
    type Session = Conversation;

    fn new(config: Config) -> Result<Self> {
        Endpoint::new(&config.url).map(Self)
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        vec![LinkSpec::main(self.0.clone())]
    }

    fn session(&self, _: &LinkKey) -> Conversation {
        Conversation
    }
}

/// One connection.
pub struct Conversation;

impl Session for Conversation {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, _: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        out.ready();
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        let (message, raw) = frame.object()?;
        if message.text("type").as_deref() != Some("message") {
            return Err(Error::protocol("this is not a message"));
        }
        let event = Event::new(EventType::MessageCreated, raw).upstream("message");
        out.publish(event.channel(message.text("room")));
        Ok(())
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        let Request::Send(message) = request;
        out.send_for(command.id, Frame::text(message.text));
        Ok(())
    }
}

/// That of the daemon as it is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pontoon::cli::main(Registry::new().with::<Messages>())
}
