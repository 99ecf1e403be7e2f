//! The body of `message.send` where templates say what is sent: a channel only if one of them has a place for it.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use pontoon_sdk::{Code, Error, Result};

/// The body of `message.send`: a conversation, if the service wants one, and a text.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "{\"channel\": \"…\", \"text\": \"…\"}")]
pub struct TemplateMessage {
    /// The conversation.
    #[serde(default)]
    #[schemars(schema_with = "scalar")]
    channel: Option<Box<RawValue>>,
    /// The text.
    text: String,
}

fn scalar(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number"] })
}

impl TemplateMessage {
    /// The operation.
    pub const OPERATION: &'static str = "message.send";

    /// The names of templates that it fills in; no secret can have them.
    pub const NAMES: [&'static str; 2] = ["channel", "text"];

    /// Refuses a body that names a channel where none is taken, or none where one is wanted. `wants_channel` is whether what
    /// is sent has a place for it.
    ///
    /// # Errors
    /// `Rejected`, with the place in the body.
    pub fn check(&self, wants_channel: bool) -> Result<()> {
        let wrong =
            |text: &str| Error::rejected(Code::BadBody, format!("the body of {} {text}", Self::OPERATION));
        let scalar =
            |json: &str| json.starts_with(['"', '-']) || json.starts_with(|c: char| c.is_ascii_digit());
        match (self.channel.as_deref().map(RawValue::get), wants_channel) {
            (None, true) => Err(wrong("lacks the channel, and this service wants one").at("")),
            // To leave it out here would be to send the message somewhere else than its caller says.
            (Some(_), false) => {
                Err(wrong("names a channel, and this service takes none; leave it out").at("/channel"))
            }
            (Some(channel), true) if !scalar(channel) => {
                Err(wrong("names the channel by a string or a number").at("/channel"))
            }
            _ => Ok(()),
        }
    }

    /// What one of [`TemplateMessage::NAMES`] stands for, as JSON. A number keeps its digits.
    pub fn json(&self, name: &str) -> Option<String> {
        match name {
            "channel" => self.channel.as_ref().map(|channel| channel.get().to_owned()),
            "text" => Some(Value::from(self.text.as_str()).to_string()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use pontoon_sdk::operations::Body as _;
    use pontoon_sdk::{Command, CommandId};

    fn read(body: &str, wants_channel: bool) -> Result<TemplateMessage> {
        let command = Command {
            id: CommandId(1),
            operation: TemplateMessage::OPERATION,
            argument: None,
            body: RawValue::from_string(body.to_owned()).unwrap(),
            headers: Vec::new(),
            deadline: Instant::now(),
            stream: false,
        };
        let message = TemplateMessage::read(&command)?;
        message.check(wants_channel).map(|()| message)
    }

    #[test]
    fn what_a_caller_gives_keeps_its_digits() {
        let body = r#"{"text":"a \"b\"","channel":123456789012345678901234567890}"#;
        let message = read(body, true).unwrap();
        assert_eq!(message.json("channel").as_deref(), Some("123456789012345678901234567890"));
        assert_eq!(message.json("text").as_deref(), Some(r#""a \"b\"""#));
        assert_eq!(message.json("key"), None);
        assert_eq!(read(r#"{"text":"a"}"#, false).unwrap().json("channel"), None);
    }

    #[test]
    fn a_channel_is_given_exactly_where_one_is_wanted() {
        for (body, wants_channel, at, words) in [
            (r#"["c","a"]"#, true, "", "it is a list; write an object"),
            ("7", true, "", "expected {\"channel\": \"…\", \"text\": \"…\"}"),
            (r#"{"text":"a"}"#, true, "", "lacks the channel"),
            (r#"{"text":"a","channel":null}"#, true, "", "lacks the channel"),
            (r#"{"text":"a","channel":true}"#, true, "/channel", "by a string or a number"),
            (r#"{"text":"a","channel":{}}"#, true, "/channel", "by a string or a number"),
            (r#"{"text":"a","channel":"c"}"#, false, "/channel", "takes none; leave it out"),
            (r#"{"channel":"c"}"#, true, "", "missing field `text`"),
            (r#"{"text":5,"channel":"c"}"#, true, "/text", "expected a string"),
        ] {
            let error = read(body, wants_channel).unwrap_err();
            assert_eq!((error.code(), error.pointer()), (Code::BadBody, Some(at)), "{body}");
            assert!(error.message().contains(words), "{body}: {error}");
        }
    }
}
