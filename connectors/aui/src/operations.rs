//! What callers ask for: the bodies of the operations, checked before anything is sent.

use std::collections::BTreeMap;

use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Code, Command, DeliveryLevel, Error, Operation, Result};
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The longest id of a task, in bytes.
const MAX_TASK: usize = 256;

/// A message to a task.
pub struct Request {
    /// The task.
    pub(crate) task: String,
    /// The message as it is sent.
    pub(crate) frame: Frame,
}

/// An object whose values are sent as they are.
type Object = BTreeMap<String, Box<RawValue>>;

/// The body of `message`: what the service takes over a WebSocket, which it says is what it takes over HTTP.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Message {
    /// The task: the conversation that the service made before.
    task_id: String,
    /// What is said.
    text: String,
    /// What else the agent should know.
    #[serde(default, rename = "context")]
    _context: Option<Context>,
    /// Variables of the agent.
    #[serde(default, rename = "agent_variables")]
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    _agent_variables: Option<Object>,
    /// Whether the service takes the request for one from outside.
    #[serde(default, rename = "is_external_api")]
    _is_external_api: Option<bool>,
}

/// What else the agent should know. Other fields are sent as they are.
#[derive(Deserialize, JsonSchema)]
struct Context {
    /// The page that the user looks at.
    #[serde(default, rename = "url")]
    _url: Option<String>,
    /// What is known of the user.
    #[serde(default, rename = "lead_details")]
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    _lead_details: Option<Object>,
    /// What the user was greeted with.
    #[serde(default, rename = "welcome_message")]
    _welcome_message: Option<String>,
}

/// The body of `message.send`, which is the same for every service.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Send {
    /// The task.
    channel: String,
    /// What is said.
    text: String,
}

/// What `message.send` sends.
#[derive(Serialize)]
struct Plain<'a> {
    task_id: &'a str,
    text: &'a str,
}

/// Every operation there is.
fn operations() -> Vec<Operation> {
    let operation = |name, summary, body| Operation {
        name,
        argument: None,
        summary,
        body,
        delivery: DeliveryLevel::Response,
        idempotent: false,
    };
    vec![
        operation(
            "message",
            "Says something in a task, and returns the agent's answer",
            schema_for!(Message),
        ),
        operation(
            "message.send",
            "Says something in a task (channel), and returns the agent's answer",
            schema_for!(Send),
        ),
    ]
}

impl pontoon_sdk::Request for Request {
    fn operations() -> Vec<Operation> {
        operations()
    }

    fn parse(command: &Command) -> Result<Self> {
        if command.operation == "message.send" {
            let Send { channel, text } = command.parse()?;
            check(&channel, "/channel", &text)?;
            let frame = serde_json::to_string(&Plain { task_id: &channel, text: &text })
                .map_err(|error| Error::internal(format!("the message cannot be written: {error}")))?;
            return Ok(Self { task: channel, frame: Frame::text(frame) });
        }
        let Message { task_id, text, .. } = command.parse()?;
        check(&task_id, "/task_id", &text)?;
        Ok(Self { task: task_id, frame: Frame::text(command.body.get()) })
    }
}

fn check(task: &str, pointer: &str, text: &str) -> Result<()> {
    let wrong = |what: &str, pointer: &str| Err(Error::rejected(Code::BadBody, what).at(pointer));
    // The task names a link, which stands in logs and headers.
    if task.trim().is_empty() || task.len() > MAX_TASK || task.chars().any(char::is_control) {
        return wrong(
            &format!("a task's id has 1 to {MAX_TASK} bytes, and no control characters among them"),
            pointer,
        );
    }
    if text.trim().is_empty() {
        return wrong("the text is empty; write what is to be said", "/text");
    }
    Ok(())
}
