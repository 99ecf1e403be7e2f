//! ElizaOS: a room with a visitor and an agent, who answers what the instance sends.

use std::time::Duration;

use pontoon_testkit::{AgentReply, DaemonConfig, Eliza};
use serde_json::Value;

use super::{Check, Service};
use crate::calls::{Call, Reply};
use crate::flows::{Flow, Flows};

const ROOM: &str = "5e0f3c1a-7b2d-4c86-9a41-d2b6c0f1a7e4";
/// The entity of the instance.
const OURS: &str = "b3c7f2d8-1e64-4f0a-8d35-6a9e0c4b1f52";
const VISITOR: &str = "c94d5e01-6f8a-4b27-b1c3-70e2d8a5f963";
/// How long the agent thinks before it answers, and how long before each part.
const THINKS: Duration = Duration::from_millis(300);
const PAUSES: Duration = Duration::from_millis(150);
const PARTS: usize = 4;
/// Which of so many answers is asked for in parts, counted from 1.
const IN_PARTS: usize = 2;
const OUT_OF: usize = 10;

/// The room.
pub(super) struct Agents {
    eliza: Eliza,
    expected: Flows,
    remarks: u64,
    /// What was sent, in order.
    sent: Vec<String>,
    /// The messages that came in parts.
    streamed: Vec<String>,
    /// Whether the parts of every answer that was asked for in parts make the answer; `None` before there is one.
    add_up: Option<bool>,
}

impl Agents {
    pub(super) async fn start() -> Self {
        let eliza = Eliza::start().await;
        eliza.add_agent(ROOM);
        let (expected, sent, streamed) = (Flows::default(), Vec::new(), Vec::new());
        Self { eliza, expected, remarks: 0, sent, streamed, add_up: None }
    }

    /// The messages of the room that this sender wrote, as the service has them.
    fn messages_of(&self, sender: &str) -> Vec<Value> {
        let mut messages = self.eliza.messages(ROOM);
        messages.retain(|message| message["senderId"] == sender);
        messages
    }

    /// Whether the service has all that was sent, once and in order, and nothing else from the instance.
    fn has_all(&self) -> bool {
        self.messages_of(OURS).iter().map(|message| text(message, "text")).eq(self.sent.iter().cloned())
    }

    fn is_in_parts(&self) -> bool {
        self.sent.len() % OUT_OF == IN_PARTS
    }

    /// Whether the parts make the answer that the agent gave last.
    fn adds_up(&self, parts: &[Reply], last: &Reply) -> bool {
        let answers = self.messages_of(self.eliza.agent());
        let Some(answer) = answers.last() else { return false };
        let whole: String = parts.iter().map(|part| text(&part.data, "delta")).collect();
        let length = parts.last().and_then(|part| part.data["length"].as_u64());
        parts.len() > 1
            && whole == text(answer, "text")
            && length == Some(whole.chars().count() as u64)
            && text(&last.data, "text") == whole
            && last.data["id"] == answer["id"]
    }
}

impl Service for Agents {
    fn name(&self) -> &'static str {
        "ElizaOS"
    }

    fn kind(&self) -> &'static str {
        "elizaos"
    }

    fn instance(&self) -> &'static str {
        "agents"
    }

    fn url(&self) -> String {
        self.eliza.url()
    }

    fn note(&self) -> String {
        format!("room {ROOM}")
    }

    fn configure(&self, config: DaemonConfig) -> DaemonConfig {
        let settings = format!("rooms = [\"{ROOM}\"]\nentity_id = \"{OURS}\"\nname = \"Pontoon\"");
        config.eliza(self.instance(), &self.eliza).with(&settings)
    }

    fn is_listened_to(&self) -> bool {
        self.eliza.members(ROOM) == 1
    }

    fn send_next(&mut self) {
        self.remarks += 1;
        let text = format!("number {}", self.remarks);
        self.eliza.post(ROOM, VISITOR, &text);
        self.expected.push(Flow::new("message.created", ROOM, &format!("user {VISITOR}")), text);
    }

    fn call(&mut self) -> Call {
        let text = format!("number {}", self.sent.len() + 1);
        let call = Call::message_send(self.kind(), self.instance(), ROOM, &text);
        self.sent.push(text);
        if self.is_in_parts() {
            self.eliza.replies(AgentReply::default().after(PAUSES).chunks(PARTS));
            call.in_parts()
        } else {
            self.eliza.replies(AgentReply::default().after(THINKS));
            call
        }
    }

    fn authorize(&mut self, parts: &[Reply], last: &Reply) -> bool {
        let own = self.messages_of(OURS);
        let Some(message) = own.last().filter(|message| self.sent.last() == Some(&text(message, "text")))
        else {
            return false;
        };
        if !self.is_in_parts() {
            return last.status == "acked" && last.data["messageId"] == message["id"];
        }
        let adds_up = self.adds_up(parts, last);
        self.add_up = Some(adds_up && self.add_up != Some(false));
        self.streamed.push(text(&last.data, "id"));
        adds_up && last.status == "response"
    }

    // The agent answers everything.
    fn is_idle(&self) -> bool {
        self.messages_of(self.eliza.agent()).len() == self.messages_of(OURS).len()
    }

    fn expected(&self) -> Flows {
        let mut expected = self.expected.clone();
        for _ in 0..self.eliza.joins(ROOM) {
            expected.push(Flow::new("channel.joined", ROOM, ""), "");
        }
        for message in self.messages_of(OURS) {
            expected.push(Flow::new("message.accepted", ROOM, ""), text(&message, "id"));
            expected
                .push(Flow::new("message.created", ROOM, &format!("self {OURS}")), text(&message, "text"));
        }
        let agent = format!("agent {}", self.eliza.agent());
        for message in self.messages_of(self.eliza.agent()) {
            let (id, words) = (text(&message, "id"), text(&message, "text"));
            if self.streamed.contains(&id) {
                expected.push(Flow::new("message.delta", ROOM, &id), &words);
            }
            expected.push(Flow::new("message.created", ROOM, &agent), words);
        }
        expected
    }

    fn checks(&self, _heard: &Flows) -> Vec<Check> {
        vec![
            super::message_send(!self.sent.is_empty(), || self.has_all()),
            ("the parts of an answer add up to it", self.add_up),
        ]
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
