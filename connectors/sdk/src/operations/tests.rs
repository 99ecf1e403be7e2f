//! The table held to what it must make: the list of operations, and the reader of each body.

use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::command::CommandId;
use crate::error::Kind;

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
struct Room {
    /// The room.
    room: String,
}

/// A text that is not empty.
#[derive(Debug, PartialEq)]
struct Text(String);

impl Body for Text {
    fn schema() -> Schema {
        schema_for!(String)
    }

    fn read(command: &Command) -> Result<Self> {
        let text: String = command.parse()?;
        if text.is_empty() {
            return Err(Error::rejected(Code::BadBody, "the text is empty").at(""));
        }
        Ok(Self(text))
    }
}

crate::operations! {
    /// What callers can ask for.
    #[derive(Debug, PartialEq)]
    enum Request {
        /// Joins a room,
        /// now and later.
        Join(Room) = "room.join", Acked, idempotent;
        /// Calls a resource
        Call(Value) = "call" / "resource", Response;
        /// Says a text.
        Say(Text) = "say", Sent;
        /// Lists the rooms.
        List = "list", Accepted, idempotent;
    }
}

fn parse(operation: &'static str, body: &str) -> Result<Request> {
    crate::Request::parse(&Command {
        id: CommandId(1),
        operation,
        argument: None,
        body: RawValue::from_string(body.to_owned()).unwrap(),
        headers: Vec::new(),
        deadline: Instant::now(),
        stream: false,
    })
}

#[test]
fn every_row_is_an_operation_with_what_the_row_says() {
    let operations = <Request as crate::Request>::operations();
    let rows: Vec<_> = operations
        .iter()
        .map(|row| (row.name, row.argument, row.summary, row.delivery, row.idempotent))
        .collect();
    assert_eq!(
        rows,
        [
            ("room.join", None, "Joins a room, now and later", DeliveryLevel::Acked, true),
            ("call", Some("resource"), "Calls a resource", DeliveryLevel::Response, false),
            ("say", None, "Says a text", DeliveryLevel::Sent, false),
            ("list", None, "Lists the rooms", DeliveryLevel::Accepted, true),
        ]
    );
    assert_eq!(*operations[0].body, schema_for!(Room));
    assert_eq!(*operations[2].body, Text::schema());
}

#[test]
fn a_command_is_read_by_the_row_of_its_operation() {
    let room = Room { room: "a".to_owned() };
    assert_eq!(parse("room.join", r#"{"room":"a"}"#).unwrap(), Request::Join(room));
    assert_eq!(parse("call", "[7]").unwrap(), Request::Call(json!([7])));
    assert_eq!(parse("say", "\"a\"").unwrap(), Request::Say(Text("a".to_owned())));
    assert_eq!(parse("list", "{}").unwrap(), Request::List);
}

#[test]
fn a_body_that_does_not_fit_is_refused_with_its_place() {
    for (operation, body, at, words) in [
        ("room.join", "{}", "", "the body is not what room.join takes: missing field `room`"),
        ("room.join", r#"{"room":5}"#, "/room", "the body is not what room.join takes: invalid type"),
        ("room.join", r#"["a"]"#, "", "the body is not what room.join takes: it is a list; write an object"),
        ("say", "\"\"", "", "the text is empty"),
        ("list", r#"{"room":"a"}"#, "/room", "unknown field `room`"),
        ("list", "[]", "", "it is a list; write an object"),
    ] {
        let error = parse(operation, body).unwrap_err();
        assert_eq!((error.code(), error.pointer()), (Code::BadBody, Some(at)), "{operation} {body}");
        assert!(error.message().contains(words), "{operation} {body}: {error}");
    }
    assert_eq!(parse("sing", "{}").unwrap_err().kind(), Kind::Internal);
}
