//! Sub0: a shop that broadcasts its orders, and returns its balance on request.

use std::hash::{BuildHasher as _, RandomState};

use pontoon_testkit::{DaemonConfig, Resource, Sub0};
use serde_json::json;

use super::Service;
use crate::calls::{Call, Reply};
use crate::flows::{Flow, Flows};

const ACTION: &str = "orders";
const RESOURCE: &str = "fetch-balance";

/// The shop.
pub(super) struct Shop {
    sub0: Sub0,
    orders: u64,
    balance: u64,
    expected: Flows,
}

impl Shop {
    pub(super) async fn start() -> Self {
        Self { sub0: Sub0::start().await, orders: 0, balance: 0, expected: Flows::default() }
    }
}

impl Service for Shop {
    fn name(&self) -> &'static str {
        "Sub0"
    }

    fn kind(&self) -> &'static str {
        "sub0"
    }

    fn instance(&self) -> &'static str {
        "shop"
    }

    fn url(&self) -> String {
        self.sub0.url()
    }

    fn note(&self) -> String {
        format!("broadcasts {ACTION}, answers {RESOURCE}")
    }

    fn configure(&self, config: DaemonConfig) -> DaemonConfig {
        config.sub0(self.instance(), &self.sub0)
    }

    fn send_next(&mut self) {
        self.orders += 1;
        let text = format!("order number {}", self.orders);
        self.sub0.broadcast(ACTION, &json!({ "text": text }));
        self.expected.push(Flow::new("resource.broadcast", ACTION, ""), text);
    }

    fn call(&mut self) -> Call {
        // It cannot be guessed: text that holds it comes from the service, and from this answer.
        self.balance = RandomState::new().hash_one(self.balance) % 1_000_000_000;
        self.sub0.resource(RESOURCE, Resource::data(json!({ "wallet_balance": self.balance })));
        Call::new(self.kind(), self.instance(), &format!("call.{RESOURCE}"), json!({"currency": "EUR"}))
    }

    fn authorize(&mut self, _parts: &[Reply], last: &Reply) -> bool {
        last.status == "response" && last.data["wallet_balance"] == self.balance
    }

    fn expected(&self) -> Flows {
        self.expected.clone()
    }
}
