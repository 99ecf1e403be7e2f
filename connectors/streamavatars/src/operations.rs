//! What callers ask for: the bodies of the operations, checked before anything is done.

use std::borrow::Cow;

use pontoon_sdk::mapping::is_token;
use pontoon_sdk::{Code, Command, DeliveryLevel, Error, Operation, Request, Result};
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::peer::{self, Place};
use crate::plain;

/// How many subprotocols may be offered.
const MAX_PROTOCOLS: usize = 16;
/// The longest subprotocol, in bytes.
const MAX_PROTOCOL: usize = 256;

/// A command, read.
#[derive(Debug)]
pub enum Order {
    /// Open a socket in the place of one of this title.
    Create { title: String, url: String, protocols: Vec<String>, reconnect: bool },
    /// Close the socket of this title, if there is one.
    Remove { title: String },
    /// Say what there is.
    List,
    /// Send this text.
    Say { place: Place, text: String },
}

/// The body of `create`: what the page's `app.createWebsocket(title, url, protocols)` takes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// What the socket is called from then on.
    title: String,
    /// Where it leads.
    url: String,
    /// Subprotocols to offer, in order.
    #[serde(default)]
    protocols: Vec<String>,
    /// Whether it is dialled again when it ends. The app itself never does.
    #[serde(default)]
    reconnect: bool,
}

/// The body of `send`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Send {
    /// The socket.
    title: String,
    /// The text that is sent.
    message: String,
}

/// The body of `remove`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remove {
    /// The socket.
    title: String,
}

/// The body of `list`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct List {}

/// The body of `script.send`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ScriptSend {
    /// The script, by the title that it came in with.
    #[serde(default = "main_script")]
    title: String,
    /// A text, or JSON that is sent as text.
    #[schemars(with = "serde_json::Value")]
    message: Box<RawValue>,
}

/// The body of `message.send`, which is the same for every service.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MessageSend {
    /// A socket's title, or `script/` and a script's.
    channel: String,
    /// What is said.
    text: String,
}

/// What has a script write into the chat.
#[derive(Serialize)]
struct WriteChat<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    text: &'a str,
}

/// The title of a script that gives none.
pub(crate) fn main_script() -> String {
    "main".to_owned()
}

/// Every operation there is.
fn operations() -> Vec<Operation> {
    let operation = |name, summary, body, delivery, idempotent| Operation {
        name,
        argument: None,
        summary,
        body,
        delivery,
        idempotent,
    };
    vec![
        operation(
            "create",
            "Opens a socket under a title, in the place of one of that title",
            schema_for!(Create),
            DeliveryLevel::Acked,
            false,
        ),
        operation("send", "Sends a text over a socket", schema_for!(Send), DeliveryLevel::Sent, false),
        operation(
            "remove",
            "Closes a socket for good, if there is one of this title",
            schema_for!(Remove),
            DeliveryLevel::Accepted,
            true,
        ),
        operation(
            "list",
            "Lists sockets and scripts, and how each is",
            schema_for!(List),
            DeliveryLevel::Response,
            true,
        ),
        operation(
            "script.send",
            "Sends a text, or JSON, to a script that has dialled in",
            schema_for!(ScriptSend),
            DeliveryLevel::Sent,
            false,
        ),
        operation(
            "message.send",
            "Sends a text over a socket (channel), or has a script (script/<title>) write it into the chat",
            schema_for!(MessageSend),
            DeliveryLevel::Sent,
            false,
        ),
    ]
}

impl Request for Order {
    fn operations() -> Vec<Operation> {
        operations()
    }

    fn parse(command: &Command) -> Result<Self> {
        match command.operation {
            "create" => {
                let Create { title, url, protocols, reconnect } = command.parse()?;
                peer::check(&title, "/title")?;
                check_protocols(&protocols)?;
                Ok(Self::Create { title, url, protocols, reconnect })
            }
            "remove" => {
                let Remove { title } = command.parse()?;
                peer::check(&title, "/title")?;
                Ok(Self::Remove { title })
            }
            "list" => command.parse().map(|List {}| Self::List),
            "send" => {
                let Send { title, message } = command.parse()?;
                peer::check(&title, "/title")?;
                Ok(Self::Say { place: Place::Socket(title), text: message })
            }
            "script.send" => {
                let ScriptSend { title, message } = command.parse()?;
                peer::check(&title, "/title")?;
                Ok(Self::Say { place: Place::Script(title), text: script_text(&message)? })
            }
            _ => {
                let MessageSend { channel, text } = command.parse()?;
                let place = Place::named(&channel);
                peer::check(place.title(), "/channel")?;
                let text = match place {
                    Place::Socket(_) => text,
                    Place::Script(_) => write_chat(&text)?,
                };
                Ok(Self::Say { place, text })
            }
        }
    }
}

/// A text as it is, anything else as JSON; in a form that every build of the app can read.
fn script_text(message: &RawValue) -> Result<String> {
    let text = serde_json::from_str::<String>(message.get());
    let plain = plain::json(text.as_deref().unwrap_or_else(|_| message.get()));
    plain.map(Cow::into_owned).map_err(|error| error.at("/message"))
}

/// What has a script write a text into the chat.
fn write_chat(text: &str) -> Result<String> {
    let frame = serde_json::to_string(&WriteChat { kind: "writeChat", text });
    let frame = frame.map_err(|error| Error::internal(error.to_string()))?;
    plain::json(&frame).map(Cow::into_owned).map_err(|error| error.at("/text"))
}

/// Subprotocols are tokens of HTTP (RFC 6455 §4.1).
fn check_protocols(protocols: &[String]) -> Result<()> {
    let wrong = |what: String, pointer: String| Err(Error::rejected(Code::BadBody, what).at(pointer));
    if protocols.len() > MAX_PROTOCOLS {
        return wrong(format!("at most {MAX_PROTOCOLS} subprotocols are offered"), "/protocols".to_owned());
    }
    for (place, protocol) in protocols.iter().enumerate() {
        if protocol.len() > MAX_PROTOCOL || !is_token(protocol) {
            let what = format!("a subprotocol has 1 to {MAX_PROTOCOL} letters, digits and !#$%&'*+-.^_`|~");
            return wrong(what, format!("/protocols/{place}"));
        }
    }
    Ok(())
}
