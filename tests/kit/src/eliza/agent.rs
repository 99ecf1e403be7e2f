//! Messages in the four shapes in which the server broadcasts them, and the agent who answers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::mind::{Mind, now};
use super::{AGENT, AGENT_NAME, DEFAULT_SERVER, ElizaDialect, ElizaVersion};
use crate::oxide::House;

/// How the agent answers in a channel that it takes part in.
#[derive(Debug, Clone, Default)]
pub struct AgentReply {
    text: Option<String>,
    after: Duration,
    chunks: usize,
    failure: Option<String>,
}

impl AgentReply {
    /// Always with this text. Otherwise it says back what it is told.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// After this time. Each chunk takes as long.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// In so many chunks before it comes whole. Only releases from 1.7 on do that.
    #[must_use]
    pub fn chunks(mut self, count: usize) -> Self {
        self.chunks = count;
        self
    }

    /// With an error after the chunks, instead of the whole text.
    #[must_use]
    pub fn fails(mut self, error: &str) -> Self {
        self.failure = Some(error.to_owned());
        self
    }
}

impl Mind {
    /// A message of a user over a socket, with what the sender gave beside the text. Returns its id and its broadcast.
    pub(super) fn user_message(
        &self,
        channel: &str,
        sender: &str,
        text: &Value,
        given: &Value,
    ) -> (String, Value) {
        let mut state = self.state();
        let id = state.new_id();
        let mut message = json!({
            "id": id,
            "senderId": sender,
            "senderName": given["senderName"].as_str().unwrap_or("User"),
            "text": text,
            "roomId": channel,
            "createdAt": now(),
            "source": given["source"].as_str().unwrap_or("socketio_client"),
        });
        let server = given[self.server_field()].as_str().unwrap_or(DEFAULT_SERVER);
        message[self.server_field()] = json!(server);
        if self.options.dialect == ElizaDialect::Native {
            message["channelId"] = json!(channel);
        }
        if !given["attachments"].is_null() {
            message["attachments"] = given["attachments"].clone();
        }
        state.channel(channel).messages.push(message.clone());
        (id, message)
    }

    /// A message of the agent: with `roomId` only, and `serverId` in every release.
    pub(super) fn agent_message(&self, channel: &str, id: Option<&str>, text: &str) -> (String, Value) {
        let mut state = self.state();
        let id = id.map_or_else(|| state.new_id(), str::to_owned);
        let message = json!({
            "id": id,
            "senderId": AGENT,
            "senderName": AGENT_NAME,
            "text": text,
            "roomId": channel,
            "serverId": DEFAULT_SERVER,
            "createdAt": now(),
            "source": "agent_response",
            "thought": "I was asked.",
            "actions": ["REPLY"],
        });
        state.channel(channel).messages.push(message.clone());
        (id, message)
    }

    /// What the agent tells of its doings; the same id again is an update.
    pub(super) fn action_message(&self, channel: &str, id: Option<&str>, text: &str) -> (String, Value) {
        let (id, mut message) = self.agent_message(channel, id, text);
        if let Some(fields) = message.as_object_mut() {
            let server = fields.remove("serverId").unwrap_or_default();
            fields.insert(self.server_field().to_owned(), server);
            fields.insert("source".to_owned(), json!("agent_action"));
            fields.insert("updatedAt".to_owned(), json!(now()));
            fields.insert(
                "rawMessage".to_owned(),
                Value::Object(Map::from_iter([("text".to_owned(), json!(text))])),
            );
        }
        (id, message)
    }

    /// The agent answers, if it takes part in the channel.
    pub(super) fn answer(self: &Arc<Self>, house: &Arc<House>, channel: &str, heard: &Value) {
        let reply = {
            let mut state = self.state();
            if !state.channel(channel).has_agent {
                return;
            }
            state.reply.clone()
        };
        let Some(reply) = reply else { return };
        let text = reply.text.clone().unwrap_or_else(|| match heard {
            Value::String(heard) => format!("You said: {heard}"),
            heard => format!("You said: {heard}"),
        });
        let (mind, house, channel) = (Arc::clone(self), Arc::clone(house), channel.to_owned());
        if reply.after.is_zero() {
            mind.say_at_once(&house, &channel, &reply, &text);
        } else {
            tokio::spawn(async move { mind.say_slowly(&house, &channel, &reply, &text).await });
        }
    }

    fn say_at_once(&self, house: &House, channel: &str, reply: &AgentReply, text: &str) {
        let id = self.state().new_id();
        for (index, chunk) in self.chunks(reply, text).into_iter().enumerate() {
            house.tell(channel, None, "messageStreamChunk", &chunk_of(channel, &id, index, chunk));
        }
        self.finish(house, channel, &id, reply, text);
    }

    async fn say_slowly(&self, house: &House, channel: &str, reply: &AgentReply, text: &str) {
        let id = self.state().new_id();
        tokio::time::sleep(reply.after).await;
        for (index, chunk) in self.chunks(reply, text).into_iter().enumerate() {
            house.tell(channel, None, "messageStreamChunk", &chunk_of(channel, &id, index, chunk));
            tokio::time::sleep(reply.after).await;
        }
        self.finish(house, channel, &id, reply, text);
    }

    fn finish(&self, house: &House, channel: &str, id: &str, reply: &AgentReply, text: &str) {
        if let Some(error) = &reply.failure {
            let failure = json!({
                "messageId": id,
                "channelId": channel,
                "agentId": AGENT,
                "error": error,
                "partialText": text,
            });
            return house.tell(channel, None, "messageStreamError", &failure);
        }
        let (_, message) = self.agent_message(channel, Some(id), text);
        house.tell(channel, None, "messageBroadcast", &message);
        let is_documented = self.options.dialect == ElizaDialect::Documented;
        if is_documented || self.version() <= ElizaVersion::V1_4 {
            let complete = json!({"channelId": channel, "serverId": DEFAULT_SERVER});
            house.tell(channel, None, "messageComplete", &complete);
        }
    }

    /// The parts of a text, each new: put together they are the text.
    fn chunks<'a>(&self, reply: &AgentReply, text: &'a str) -> Vec<&'a str> {
        let streams = self.version() >= ElizaVersion::V1_7_2 && self.options.dialect == ElizaDialect::Native;
        if !streams || reply.chunks == 0 {
            return Vec::new();
        }
        let size = text.chars().count().div_ceil(reply.chunks).max(1);
        let mut chunks = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.char_indices().nth(size).map_or(rest.len(), |(place, _)| place);
            let (chunk, after) = rest.split_at(end);
            chunks.push(chunk);
            rest = after;
        }
        chunks
    }
}

fn chunk_of(channel: &str, id: &str, index: usize, chunk: &str) -> Value {
    json!({"messageId": id, "chunk": chunk, "index": index, "agentId": AGENT, "channelId": channel})
}
