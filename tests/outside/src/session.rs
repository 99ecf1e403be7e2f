//! One conversation with a Parley server: requests are sent with a number, messages of others are received.

use std::collections::BTreeMap;
use std::sync::Arc;

use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::event::{Message, MessageObject, Sender, ServiceError};
use pontoon_sdk::{
    Code, Command, CommandId, Error, Event, EventType, Fields, Join, Outbox, Raw, Reply, Result, Session,
    operations,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{Config, is_word};
use crate::lines::Line;

/// How many callers may wait for their `OK`.
const MAX_WAITING: usize = 1_000;

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Sends a message to a room.
        Say(Say) = "message.send", Acked;
    }
}

/// The body of `message.send`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Say {
    /// The room.
    pub channel: String,
    /// The text: one line.
    pub text: String,
}

/// One conversation.
pub struct ParleySession {
    config: Arc<Config>,
    welcome: bool,
    /// Who waits, by the number that the service gives back.
    waiting: BTreeMap<u64, CommandId>,
    /// The number of the last request.
    last_number: u64,
}

impl ParleySession {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, welcome: false, waiting: BTreeMap::new(), last_number: 0 }
    }

    /// `MSG room id name text`
    fn message(line: &Line, rest: &str, out: &mut Outbox<Line>) -> Result<()> {
        let mut parts = rest.splitn(4, ' ');
        let (Some(room), Some(id), Some(name), Some(text)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::protocol("MSG lacks its room, id, name or text"));
        };
        let mut event = Event::new(EventType::MessageCreated, line.raw()).scope(room).upstream("MSG");
        event.fields = Fields {
            channel: Some(room.to_owned()),
            message: Some(Message::Object(MessageObject {
                id: Some(id.to_owned()),
                text: Some(text.to_owned()),
                ..Default::default()
            })),
            sender: Some(Sender { name: Some(name.to_owned()), ..Default::default() }),
            ..Default::default()
        };
        out.publish(event);
        Ok(())
    }

    /// `OK number id`: ignored if the command was abandoned.
    fn taken(&mut self, rest: &str, out: &mut Outbox<Line>) -> Result<()> {
        let (number, id) = numbered(rest)?;
        if let Some(caller) = self.waiting.remove(&number) {
            let message = MessageObject { id: Some(id.to_owned()), ..Default::default() };
            out.reply(caller, Reply::Acked(Raw::json(&message)?.parse()?));
        }
        Ok(())
    }

    /// `NO number text`: an error of the request with this number, or of the session.
    fn refused(&mut self, line: &Line, rest: &str, out: &mut Outbox<Line>) -> Result<()> {
        let (number, words) = numbered(rest)?;
        match self.waiting.remove(&number) {
            Some(caller) => out.reply(caller, Reply::Failed(Error::refused(words))),
            None if !self.welcome => return Err(Error::auth(words)),
            None => {
                let mut event = Event::new(EventType::ErrorRaised, line.raw()).upstream("NO");
                event.fields.error =
                    Some(ServiceError { message: Some(words.to_owned()), ..Default::default() });
                out.publish(event);
            }
        }
        Ok(())
    }
}

impl Session for ParleySession {
    type Frame = Line;
    type Request = Request;

    fn open(&mut self, _joins: &[Join], out: &mut Outbox<Line>) -> Result<()> {
        let password = self.config.password.as_ref().map(|secret| secret.reveal()).transpose()?;
        let words = ["HELLO", &self.config.name, password.as_deref().unwrap_or_default()];
        out.send(Line::new(words.join(" ").trim_end())?);
        Ok(())
    }

    fn decode(&mut self, line: &Line, out: &mut Outbox<Line>) -> Result<()> {
        let text = line.text()?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "WELCOME" => {
                self.welcome = true;
                for room in &self.config.rooms {
                    out.send(Line::new(format!("JOIN {room}"))?);
                }
                out.ready();
                Ok(())
            }
            "MSG" => Self::message(line, rest, out),
            "OK" => self.taken(rest, out),
            "NO" => self.refused(line, rest, out),
            "PONG" => Ok(()),
            _ => Err(Error::protocol("Parley has no such order")),
        }
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Line>) -> Result<()> {
        let Request::Say(Say { channel, text }) = request;
        if !is_word(&channel) {
            return Err(
                Error::rejected(Code::BadBody, "the channel is not a word, so not a room").at("/channel")
            );
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(Error::rejected(Code::TooMany, format!("{MAX_WAITING} callers wait already")));
        }
        let number = self.last_number + 1;
        let line = Line::new(format!("SAY {number} {channel} {text}")).map_err(|error| error.at("/text"))?;
        self.last_number = number;
        self.waiting.insert(number, command.id);
        out.send_for(command.id, line);
        Ok(())
    }

    fn abandoned(&mut self, command: CommandId, _sent: bool, _out: &mut Outbox<Line>) {
        self.waiting.retain(|_, caller| *caller != command);
    }
}

/// The number that a line begins with, and the rest.
fn numbered(rest: &str) -> Result<(u64, &str)> {
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let number = number.parse().map_err(|_| Error::protocol("the line lacks its number"))?;
    Ok((number, rest))
}
