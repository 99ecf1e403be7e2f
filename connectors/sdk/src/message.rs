//! The body of `message.send`, which is the same for every service that has conversations.

use schemars::JsonSchema;
use serde::Deserialize;

/// A text for a conversation. A connector says what it becomes. Where more is to be checked, such as that the channel is an
/// id of the service, [`Connector::route`](crate::Connector::route) does it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageSend {
    /// The conversation.
    pub channel: String,
    /// The text.
    pub text: String,
}
