//! What callers can ask for: a message to a task, in the service's own fields or in those of every service.

use std::collections::BTreeMap;

use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Code, Error, Result, operations};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// The longest id of a task, in bytes.
const MAX_TASK: usize = 256;

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Sends a message to a task, and returns the agent's answer.
        Message(Message) = "message", Response;
        /// Sends a message to a task (channel), and returns the agent's answer.
        MessageSend(MessageSend) = "message.send", Response;
    }
}

/// The body of `message`: what the service takes over a WebSocket, which it says is what it takes over HTTP. It is sent as
/// it came.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are only checked")]
pub struct Message {
    /// The task: the conversation that the service made before.
    task_id: String,
    /// The text of the message.
    text: String,
    /// What else the agent should know.
    context: Option<Context>,
    /// Variables of the agent.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    agent_variables: Option<Object>,
    /// Whether the service takes the request for one from outside.
    is_external_api: Option<bool>,
}

/// What else the agent should know. Other fields are sent as they are.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "the fields are only checked")]
struct Context {
    /// The page that the user looks at.
    url: Option<String>,
    /// What is known of the user.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    lead_details: Option<Object>,
    /// The message that welcomed the user.
    welcome_message: Option<String>,
}

/// An object with any values.
type Object = BTreeMap<String, Box<RawValue>>;

/// The body of `message.send`, which is the same for every service.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageSend {
    /// The task.
    channel: String,
    /// The text of the message.
    text: String,
}

impl Request {
    /// The task of a request that may be sent.
    ///
    /// # Errors
    /// `Rejected` with code 400 if the task or the text is not one.
    pub(crate) fn task(&self) -> Result<&str> {
        let (task, pointer, text) = match self {
            Self::Message(message) => (&message.task_id, "/task_id", &message.text),
            Self::MessageSend(message) => (&message.channel, "/channel", &message.text),
        };
        // The task names a link, which stands in logs and headers.
        if task.trim().is_empty() || task.len() > MAX_TASK || task.chars().any(char::is_control) {
            let error =
                format!("a task's id has 1 to {MAX_TASK} bytes, and no control characters among them");
            return Err(Error::rejected(Code::BadBody, error).at(pointer));
        }
        if text.trim().is_empty() {
            return Err(Error::rejected(Code::BadBody, "the text is empty; write a text").at("/text"));
        }
        Ok(task)
    }

    /// The request as it is sent; `body` is that of its command.
    pub(crate) fn frame(&self, body: &RawValue) -> Frame {
        match self {
            Self::Message(_) => Frame::text(body.get()),
            Self::MessageSend(MessageSend { channel, text }) => {
                Frame::text(json!({ "task_id": channel, "text": text }).to_string())
            }
        }
    }
}
