//! The session of one connection: of a titled socket, or of a script that has connected.

use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Command, End, Error, EventType, Join, Kind, Outbox, Redactor, Reply, Result, Session};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::config::Listen;
use crate::decode::{self, ScriptFrame, socket_event};
use crate::operations::Request;
use crate::peer::Peer;

/// One session.
pub struct AvatarsSession {
    peer: Peer,
    /// Takes the token out of what a script sends.
    redactor: Redactor,
}

impl AvatarsSession {
    pub(crate) fn new(peer: Peer, listen: Option<&Listen>) -> Self {
        let listen = listen.filter(|_| peer.is_script());
        Self { redactor: Redactor::new(listen.and_then(|listen| listen.token.reveal().ok())), peer }
    }
}

impl Session for AvatarsSession {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, _joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        if self.peer.is_script() {
            let title = Value::from(self.peer.title());
            out.send(Frame::text(format!(r#"{{"type":"welcome","title":{title}}}"#)));
        }
        out.ready();
        out.publish(socket_event(EventType::SocketOpened, &self.peer, ""));
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        if !self.peer.is_script() {
            out.publish(decode::message(&self.peer, frame));
            return Ok(());
        }
        let redacted = frame.redacted(&self.redactor);
        match ScriptFrame::read(&self.peer, redacted.as_ref().unwrap_or(frame))? {
            ScriptFrame::Heartbeat => out.send(Frame::text(r#"{"type":"heartbeat"}"#)),
            ScriptFrame::Auth => {}
            ScriptFrame::Event(event) => out.publish(*event),
        }
        Ok(())
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        let text = match request {
            Request::Send(body) => body.message,
            Request::ScriptSend(body) => body.message.0,
            Request::MessageSend(body) => body.text,
            // The socket is open.
            Request::Create(body) => {
                let created = to_raw_value(&json!({ "title": body.title.as_str() }));
                let created = created.map_err(|error| Error::internal(error.to_string()))?;
                out.reply(command.id, Reply::Acked(created));
                return Ok(());
            }
            Request::Remove(_) | Request::List => {
                return Err(Error::internal(format!("{} is not for a session", command.operation)));
            }
        };
        out.send_for(command.id, Frame::text(text));
        Ok(())
    }

    fn ended(&mut self, end: &End, out: &mut Outbox<Frame>) -> Kind {
        out.publish(decode::ended(&self.peer, end));
        end.kind
    }
}
