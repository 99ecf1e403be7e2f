//! The server's log, for those who subscribe to it.

use serde_json::{Value, json};
use socketioxide::extract::SocketRef;

use super::mind::{Mind, now};
use super::{AGENT, AGENT_NAME, ElizaDialect, ElizaVersion};
use crate::oxide::House;

/// What a subscriber wants to see.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters {
    agent: Option<String>,
    level: Option<String>,
}

impl Filters {
    /// Entries name no agent, so that a filter by one lets nothing pass.
    fn lets(&self, level: u64) -> bool {
        let wanted = self.level.as_deref().filter(|level| *level != "all");
        self.agent.as_deref().is_none_or(|agent| agent == "all")
            && wanted.is_none_or(|wanted| level >= number(wanted))
    }
}

impl Mind {
    /// Takes in what is asked of the log. Other events are ignored without a word.
    pub(super) fn hear_of_logs(&self, socket: &SocketRef, name: &str, payload: &Value) {
        let (event, answer) = match name {
            "subscribe_logs" => {
                self.state().readers.insert(socket.id, Filters::default());
                (
                    "log_subscription_confirmed",
                    json!({"subscribed": true, "message": "subscribed to the log"}),
                )
            }
            "unsubscribe_logs" => {
                self.state().readers.remove(&socket.id);
                let message = "no longer subscribed to the log";
                ("log_subscription_confirmed", json!({"subscribed": false, "message": message}))
            }
            "update_log_filters" => {
                let text = |name: &str| payload[name].as_str().map(str::to_owned);
                let answer = match self.state().readers.get_mut(&socket.id) {
                    Some(filters) => {
                        *filters = Filters { agent: text("agentName"), level: text("level") };
                        json!({"success": true, "filters": payload})
                    }
                    None => json!({"success": false, "error": "Not subscribed to log stream"}),
                };
                ("log_filters_updated", answer)
            }
            _ => return,
        };
        let _ = socket.emit(event, &answer);
    }

    pub(super) fn log(&self, house: &House, level: &str, text: &str) {
        let level = number(level);
        let mut entry = json!({"level": level, "time": now(), "msg": text});
        if self.options.dialect == ElizaDialect::Documented {
            entry["agentId"] = json!(AGENT);
            entry["agentName"] = json!(AGENT_NAME);
            return house.tell_all("logEntry", &entry);
        }
        if self.version() == ElizaVersion::V1_2 {
            entry["pid"] = json!(1);
            entry["hostname"] = json!("eliza");
        }
        let payload = json!({"type": "log_entry", "payload": entry});
        let readers = self.state().readers.clone();
        for socket in house.sockets() {
            if readers.get(&socket.id).is_some_and(|filters| filters.lets(level)) {
                let _ = socket.emit("log_stream", &payload);
            }
        }
    }
}

/// The number of a level; one that lets nothing pass for those that the server does not know.
fn number(level: &str) -> u64 {
    match level {
        "fatal" => 60,
        "error" => 50,
        "warn" => 40,
        "info" => 30,
        "log" => 29,
        "progress" => 28,
        "success" => 27,
        "debug" => 20,
        "trace" => 10,
        _ => 70,
    }
}
