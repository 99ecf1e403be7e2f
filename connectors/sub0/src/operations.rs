//! What callers can ask for: one operation, the call of a resource.

use pontoon_sdk::operations::Body;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Code, Command, Error, Result, operations};
use schemars::{Schema, json_schema};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::MAX_NAME;

/// The header that names the action.
const ACTION: &str = "Pontoon-Action";

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Calls a resource with the body as its payload; the header Pontoon-Action names the action.
        Call(Call) = "call" / "resource", Response;
    }
}

/// A call. The payload is the body of the command, sent as it is.
pub struct Call {
    pub(crate) resource: String,
    /// What the header names.
    pub(crate) action: Option<String>,
}

/// A call on the wire.
#[derive(Serialize)]
struct Wire<'a> {
    resource: &'a str,
    action: &'a str,
    payload: &'a RawValue,
}

impl Call {
    pub(crate) fn frame(&self, action: &str, payload: &RawValue) -> Result<Frame> {
        serde_json::to_string(&Wire { resource: &self.resource, action, payload })
            .map(Frame::text)
            .map_err(|error| Error::internal(format!("the call cannot be written: {error}")))
    }
}

impl Body for Call {
    fn schema() -> Schema {
        json_schema!({ "description": "The payload: any JSON, sent as it is" })
    }

    fn read(command: &Command) -> Result<Self> {
        let resource = command.argument.clone().unwrap_or_default();
        if resource.is_empty() {
            return Err(Error::rejected(
                Code::NotFound,
                "the subject names no resource; end it with call.<resource>, such as call.fetch-balance",
            ));
        }
        let action = command.header(ACTION).map(str::to_owned);
        let fits = |name: &String| (1..=MAX_NAME).contains(&name.len());
        if !fits(&resource) || !action.as_ref().is_none_or(fits) {
            let text = format!("the resource and the action ({ACTION}) have 1 to {MAX_NAME} bytes each");
            return Err(Error::rejected(Code::BadBody, text));
        }
        Ok(Self { resource, action })
    }
}
