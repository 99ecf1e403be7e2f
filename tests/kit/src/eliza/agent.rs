//! Messages in the four shapes in which the server broadcasts them, and the agent who answers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::state::{Server, now};
use super::{AGENT, AGENT_NAME, DEFAULT_SERVER, ElizaDialect, ElizaVersion};
use crate::socketio::Rooms;

/// How the agent answers in a channel that it takes part in.
#[derive(Debug, Clone, Default)]
pub struct AgentReply {
    text: Option<String>,
    after: Duration,
    chunks: usize,
}

impl AgentReply {
    /// Always with this text. Otherwise it echoes what it receives.
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
}

impl Server {
    /// A message of a user over a client, with what the sender gave beside the text. Returns its id and its broadcast.
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

    /// The agent answers, if it takes part in the channel.
    pub(super) fn answer(self: &Arc<Self>, rooms: &Arc<Rooms>, channel: &str, received: &Value) {
        let reply = {
            let mut state = self.state();
            if !state.channel(channel).has_agent {
                return;
            }
            state.reply.clone()
        };
        let text = reply.text.clone().unwrap_or_else(|| match received {
            Value::String(received) => format!("You said: {received}"),
            received => format!("You said: {received}"),
        });
        let (server, rooms, channel) = (Arc::clone(self), Arc::clone(rooms), channel.to_owned());
        if reply.after.is_zero() {
            server.reply_at_once(&rooms, &channel, &reply, &text);
        } else {
            tokio::spawn(async move { server.reply_slowly(&rooms, &channel, &reply, &text).await });
        }
    }

    fn reply_at_once(&self, rooms: &Rooms, channel: &str, reply: &AgentReply, text: &str) {
        let id = self.state().new_id();
        for (index, chunk) in self.chunks(reply, text).into_iter().enumerate() {
            rooms.emit(channel, None, "messageStreamChunk", &chunk_of(channel, &id, index, chunk));
        }
        self.finish(rooms, channel, &id, text);
    }

    async fn reply_slowly(&self, rooms: &Rooms, channel: &str, reply: &AgentReply, text: &str) {
        let id = self.state().new_id();
        tokio::time::sleep(reply.after).await;
        for (index, chunk) in self.chunks(reply, text).into_iter().enumerate() {
            rooms.emit(channel, None, "messageStreamChunk", &chunk_of(channel, &id, index, chunk));
            tokio::time::sleep(reply.after).await;
        }
        self.finish(rooms, channel, &id, text);
    }

    fn finish(&self, rooms: &Rooms, channel: &str, id: &str, text: &str) {
        let (_, message) = self.agent_message(channel, Some(id), text);
        rooms.emit(channel, None, "messageBroadcast", &message);
        let is_documented = self.options.dialect == ElizaDialect::Documented;
        if is_documented || self.version() <= ElizaVersion::V1_4 {
            let complete = json!({"channelId": channel, "serverId": DEFAULT_SERVER});
            rooms.emit(channel, None, "messageComplete", &complete);
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
