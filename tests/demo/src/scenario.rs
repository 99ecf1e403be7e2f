//! A service and all that was seen of its instance.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::calls::{Call, Reply};
use crate::event::Event;
use crate::flows::Flows;
use crate::services::Service;

/// A service, and what was seen.
pub(crate) struct Scenario {
    pub(crate) service: Box<dyn Service>,
    /// The ids of the events, in the order in which they came.
    pub(crate) ids: Vec<String>,
    /// How many there were of each kind.
    pub(crate) kinds: BTreeMap<String, usize>,
    pub(crate) received: Flows,
    pub(crate) calls: usize,
    /// How many were answered by the service, and rightly.
    pub(crate) right: usize,
    /// How many had which last reply.
    pub(crate) statuses: BTreeMap<String, usize>,
    pub(crate) parts: usize,
    pub(crate) times: Vec<Duration>,
    /// The parts of the answer that is under way.
    coming: Vec<Reply>,
}

impl Scenario {
    pub(crate) fn new(service: Box<dyn Service>) -> Self {
        Self {
            service,
            ids: Vec::new(),
            kinds: BTreeMap::new(),
            received: Flows::default(),
            calls: 0,
            right: 0,
            statuses: BTreeMap::new(),
            parts: 0,
            times: Vec::new(),
            coming: Vec::new(),
        }
    }

    /// The next call, unless an earlier one is still under way.
    pub(crate) fn call(&mut self) -> Option<Call> {
        if !self.is_idle() {
            return None;
        }
        self.calls += 1;
        Some(self.service.call())
    }

    pub(crate) fn reply(&mut self, reply: Reply) {
        if reply.is_part() {
            self.parts += 1;
            self.coming.push(reply);
            return;
        }
        if self.service.authorize(&std::mem::take(&mut self.coming), &reply) {
            self.right += 1;
        }
        *self.statuses.entry(reply.status).or_default() += 1;
        self.times.push(reply.took);
    }

    pub(crate) fn event(&mut self, event: &Event) {
        self.ids.push(event.id.clone());
        *self.kinds.entry(event.kind()).or_default() += 1;
        record(&*self.service, &mut self.received, event);
    }

    /// Whether every call was answered, and the service is done with what it was asked.
    pub(crate) fn is_idle(&self) -> bool {
        self.times.len() == self.calls && self.service.is_idle()
    }

    /// Whether all that was sent was received as well.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_idle() && self.received == self.service.expected()
    }
}

/// Adds an event to its flow.
pub(crate) fn record(service: &dyn Service, received: &mut Flows, event: &Event) {
    // Every run of an instance begins with a gap; no service sent it.
    if event.text("/reason") == "restarted" {
        return;
    }
    let (flow, text) = service.flow(event);
    match event.body["delta"].as_str() {
        Some(delta) => received.grow(flow, delta, event.body["length"].as_u64()),
        None => received.push(flow, text),
    }
}
