//! AUI: shoppers who ask an agent for advice, each in another task, and are answered in parts.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use pontoon_testkit::{Aui, AuiAnswer, AuiEnvelope, AuiTurn, DaemonConfig};

use super::{Check, Service};
use crate::calls::{Call, Reply};
use crate::flows::{Flow, Flows};

/// The tasks, as the service names them.
const TASKS: [&str; 3] = ["68e78d0dc5a4b19a030d0001", "68e78d0dc5a4b19a030d0002", "68e78d0dc5a4b19a030d0003"];
/// How long the agent takes for each part.
const PAUSES: Duration = Duration::from_millis(120);
const PARTS: usize = 4;

/// The agent.
pub(super) struct Advice {
    aui: Aui,
    /// What was asked in which task, in order.
    sent: Vec<(&'static str, String)>,
    /// What the agent sent unasked, in which task, and after how many questions.
    remarks: Vec<(usize, &'static str, String)>,
    /// Whether the parts of every answer make the answer; `None` before there is one.
    add_up: Option<bool>,
}

impl Advice {
    pub(super) async fn start() -> Self {
        let aui = Aui::start("key-of-the-demo").await;
        Self { aui, sent: Vec::new(), remarks: Vec::new(), add_up: None }
    }

    /// The questions of a task, as the service has them.
    fn turns(&self, task: &str) -> Vec<AuiTurn> {
        self.aui.turns().into_iter().filter(|turn| turn.task == task).collect()
    }

    /// Whether the service has all that was asked, once and in order, and nothing else.
    fn has_all(&self) -> bool {
        TASKS.iter().all(|task| {
            let sent = self.sent.iter().filter(|(to, _)| to == task);
            self.turns(task).iter().map(|turn| &turn.text).eq(sent.map(|(_, text)| text))
        })
    }

    /// Whether no connection was used for two tasks.
    fn is_kept_apart(&self) -> bool {
        let mut tasks = HashMap::new();
        self.aui.turns().into_iter().all(|turn| {
            let task = tasks.entry(turn.connection).or_insert_with(|| turn.task.clone());
            *task == turn.task
        })
    }
}

impl Service for Advice {
    fn name(&self) -> &'static str {
        "AUI"
    }

    fn kind(&self) -> &'static str {
        "aui"
    }

    fn instance(&self) -> &'static str {
        "advice"
    }

    fn url(&self) -> String {
        self.aui.url()
    }

    fn note(&self) -> String {
        format!("{} tasks, a link for each", TASKS.len())
    }

    fn configure(&self, config: DaemonConfig) -> DaemonConfig {
        config.aui(self.instance(), &self.aui)
    }

    fn has_links(&self) -> bool {
        false
    }

    // It sends nothing before there is a question, and then waits for the answer to the last one.
    fn send_next(&mut self) {
        let Some((task, _)) = self.sent.last().filter(|_| self.is_idle()) else { return };
        let text = format!("anything else, after {}?", self.sent.len());
        if self.aui.post(task, &text).is_some() {
            self.remarks.push((self.sent.len(), task, text));
        }
    }

    fn call(&mut self) -> Call {
        let number = self.sent.len() + 1;
        let task = TASKS[self.sent.len() % TASKS.len()];
        // The price cannot be guessed: text that holds it comes from the agent, and from this answer.
        let price = RandomState::new().hash_one(number) % 1_000;
        let answer = AuiAnswer::default().text(&format!("take number {number}, it costs {price} EUR"));
        self.aui.answers_in(task, answer.updates(PARTS).after(PAUSES).envelope(AuiEnvelope::Full));
        let text = format!("number {number}");
        let call = Call::message_send(self.kind(), self.instance(), task, &text).in_parts();
        self.sent.push((task, text));
        call
    }

    fn authorize(&mut self, parts: &[Reply], last: &Reply) -> bool {
        let turn = self.sent.last().and_then(|(task, _)| self.turns(task).pop());
        let Some(answer) = turn.and_then(|turn| turn.answer) else { return false };
        let whole: String = parts.iter().filter_map(|part| part.data["delta"].as_str()).collect();
        let adds_up = parts.len() == PARTS && answer["text"] == *whole;
        self.add_up = Some(adds_up && self.add_up != Some(false));
        adds_up && last.status == "response" && last.data == answer
    }

    fn is_idle(&self) -> bool {
        let turns = self.aui.turns();
        turns.len() == self.sent.len() && turns.iter().all(|turn| turn.is_over)
    }

    fn expected(&self) -> Flows {
        let mut expected = Flows::default();
        let agent = format!("agent {}", self.aui.agent());
        for (number, turn) in self.aui.turns().into_iter().enumerate() {
            let Some(answer) = turn.answer else { continue };
            let text = |name: &str| answer[name].as_str().unwrap_or_default();
            expected.push(Flow::new("message.delta", &turn.task, text("id")), text("text"));
            expected.push(Flow::new("message.completed", &turn.task, &agent), text("text"));
            for (_, task, text) in self.remarks.iter().filter(|(after, ..)| *after == number + 1) {
                expected.push(Flow::new("message.completed", task, &agent), text);
            }
        }
        expected
    }

    fn checks(&self, _heard: &Flows) -> Vec<Check> {
        let tried = !self.sent.is_empty();
        vec![
            super::message_send(tried, || self.has_all()),
            ("the parts of an answer add up to it", self.add_up),
            ("each task has its own connection", tried.then(|| self.is_kept_apart())),
        ]
    }
}
