//! One conversation with Board, over one connection.

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::pending::{Answered, Order};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Command, CommandId, Error, Join, Outbox, Pending, Reply, Result, Session};
use serde::Serialize;

use crate::decode::{Received, decode};
use crate::operations::Request;

/// One conversation. It ends with its connection, and so does all that it knows.
pub struct BoardSession {
    /// The requests that were not answered yet, by the id that Board repeats.
    pending: Pending<String, (), Frame>,
    last_id: u64,
}

/// A request, as Board takes it.
#[derive(Serialize)]
struct Outgoing<'a> {
    id: u64,
    post: Post<'a>,
}

#[derive(Serialize)]
struct Post<'a> {
    board: &'a str,
    text: &'a str,
}

impl BoardSession {
    pub(crate) fn new() -> Self {
        Self {
            pending: Pending::new(Order::ById).max_requests(1_000, "a limit of this connector"),
            last_id: 0,
        }
    }
}

impl Session for BoardSession {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, _: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        out.ready();
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        match decode(frame)? {
            Received::Answer { id, result } => {
                // The answer to a request that was abandoned has no caller any more.
                if let Some(Answered { command: Some(command), .. }) = self.pending.answered(&id, out) {
                    let failed = |error| Reply::Failed(Error::refused(words(error)));
                    out.reply(command, result.map_or_else(failed, Reply::Acked));
                }
            }
            Received::Refused(error) => return Err(Error::auth(words(error))),
            Received::Post(event) => out.publish(*event),
            Received::Unknown => {
                return Err(Error::protocol("the frame is not an answer, a post or an error"));
            }
        }
        Ok(())
    }

    fn encode(&mut self, request: Request, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        let Request::Post(message) = request;
        self.last_id += 1;
        let post = Post { board: &message.channel, text: &message.text };
        let text = serde_json::to_string(&Outgoing { id: self.last_id, post });
        let text = text.map_err(|error| Error::internal(error.to_string()))?;
        self.pending.send(&command, self.last_id.to_string(), (), Frame::text(text), out)
    }

    fn abandoned(&mut self, command: CommandId, sent: bool, out: &mut Outbox<Frame>) {
        self.pending.abandoned(command, sent, out);
    }
}

/// What Board says of an error.
fn words(error: ServiceError) -> String {
    error.message.or(error.code).unwrap_or_else(|| "Board refused, and did not say why".to_owned())
}
