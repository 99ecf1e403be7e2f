//! MinChat: a support desk with a customer in each of its chats, who types before he writes.

use pontoon_testkit::{DaemonConfig, MinChat};
use serde_json::{Value, json};

use super::{Check, Service};
use crate::calls::{Call, Reply};
use crate::event::Event;
use crate::flows::{Flow, Flows};

/// The user of the instance.
const DESK: &str = "desk";
/// Each chat, its title, and who is in it beside the desk. No user is in two, so that typing shows the chat.
const CHATS: [(&str, &str, &str); 3] =
    [("c1", "Delivery", "Ann"), ("c2", "Returns", "Ben"), ("c3", "Invoices", "Eve")];

/// The support desk.
pub(super) struct Support {
    minchat: MinChat,
    expected: Flows,
    /// How often a user began to type, or wrote.
    turns: usize,
    /// What was sent to each chat, in order.
    sent: Vec<(&'static str, String)>,
}

impl Support {
    pub(super) async fn start() -> Self {
        let minchat = MinChat::start("key-of-the-demo").await;
        minchat.add_user(&json!({"id": DESK, "username": DESK, "name": "Pontoon"}));
        for (chat, title, user) in CHATS {
            minchat.add_user(&json!({"id": user.to_lowercase(), "username": user, "name": user}));
            minchat.add_chat(chat, title, &[DESK, &user.to_lowercase()]);
        }
        Self { minchat, expected: Flows::default(), turns: 0, sent: Vec::new() }
    }

    /// The messages of a chat that the desk wrote, as the service has them.
    fn own(&self, chat: &str) -> Vec<Value> {
        let mut messages = self.minchat.messages(chat);
        messages.retain(|message| message["user"]["id"] == DESK);
        messages
    }

    /// Whether the service has all that was sent, once and in order, and nothing else from the instance.
    fn has_all(&self) -> bool {
        CHATS.iter().all(|(chat, _, _)| {
            let own = self.own(chat);
            let texts = own.iter().map(|message| message["text"].as_str().unwrap_or_default());
            texts.eq(self.sent.iter().filter(|(to, _)| to == chat).map(|(_, text)| text.as_str()))
        })
    }
}

impl Service for Support {
    fn name(&self) -> &'static str {
        "MinChat"
    }

    fn kind(&self) -> &'static str {
        "minchat"
    }

    fn instance(&self) -> &'static str {
        "support"
    }

    fn url(&self) -> String {
        self.minchat.url()
    }

    fn note(&self) -> String {
        let chats: Vec<_> = CHATS.iter().map(|(chat, _, user)| format!("{chat} with {user}")).collect();
        chats.join(", ")
    }

    fn configure(&self, config: DaemonConfig) -> DaemonConfig {
        config.minchat(self.instance(), &self.minchat, DESK, &CHATS.map(|(chat, _, _)| chat))
    }

    // MinChat confirms no joins, so that only the service itself knows.
    fn is_listened_to(&self) -> bool {
        let users = CHATS.len() + 1;
        CHATS.iter().all(|(chat, _, _)| self.minchat.members(chat) == 1)
            && self.minchat.user_members(DESK) == users
    }

    fn send_next(&mut self) {
        let number = self.turns / 2 + 1;
        let (chat, _, name) = CHATS[(number - 1) % CHATS.len()];
        let user = name.to_lowercase();
        let sender = format!("user {user}");
        let typing = Flow::new("typing", chat, &sender);
        if self.turns.is_multiple_of(2) {
            self.minchat.typing(chat, &user, true);
            self.expected.push(typing, "started");
        } else {
            let text = format!("number {number}");
            self.minchat.typing(chat, &user, false);
            self.expected.push(typing, "stopped");
            self.minchat.post(chat, &user, &text);
            self.expected.push(Flow::new("message.created", chat, &sender), &text);
            self.expected.push(Flow::new("channel.updated", chat, &user), &text);
        }
        self.turns += 1;
    }

    fn call(&mut self) -> Call {
        let (chat, _, _) = CHATS[self.sent.len() % CHATS.len()];
        let text = format!("number {}", self.sent.len() + 1);
        let call = Call::message_send(self.kind(), self.instance(), chat, &text);
        self.sent.push((chat, text));
        call
    }

    fn authorize(&mut self, _parts: &[Reply], last: &Reply) -> bool {
        let Some((chat, text)) = self.sent.last() else { return false };
        let is_it = |message: &Value| message["id"] == last.data["id"] && message["text"] == text.as_str();
        last.status == "acked" && self.own(chat).last().is_some_and(is_it)
    }

    fn expected(&self) -> Flows {
        let mut expected = self.expected.clone();
        for (chat, _, _) in CHATS {
            for message in self.own(chat) {
                let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
                expected.push(Flow::new("message.accepted", chat, ""), text("id"));
                expected.push(Flow::new("message.created", chat, &format!("self {DESK}")), text("text"));
                // The desk's other sockets are notified of something new.
                expected.push(Flow::new("channel.updated", chat, DESK), text("text"));
            }
        }
        expected
    }

    fn flow(&self, event: &Event) -> (Flow, String) {
        if event.kind() == "channel.updated" {
            let by = event.text("/raw/last_message/user/id");
            let words = event.text("/raw/last_message/text").to_owned();
            return (Flow::new("channel.updated", event.scope(), by), words);
        }
        Flow::of(event)
    }

    fn checks(&self, received: &Flows) -> Vec<Check> {
        let typed = self.expected.has("typing");
        vec![
            super::message_send(!self.sent.is_empty(), || self.has_all()),
            ("typing carries the right chat", typed.then(|| self.expected.agree_on("typing", received))),
        ]
    }
}
