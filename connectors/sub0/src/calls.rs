//! Which call an answer belongs to, where the action's name is all that comes back.
//!
//! Calls of one action share a lane. A lane's slots are the calls that were sent, oldest first; the front slot takes
//! the next answer. When a caller gives up, its slot stays as a hold, so that its late answer finds the hold and
//! never another caller; the lane sends nothing new until the answer or the end of the window clears it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Code, CommandId, Error, Outbox, Result};

use crate::config::{Config, Correlation};

/// The calls that are under way.
pub(crate) struct Calls {
    config: Arc<Config>,
    lanes: HashMap<Arc<str>, Lane>,
    /// Where each call with a caller is.
    places: HashMap<CommandId, Arc<str>>,
    /// Calls and holds in all lanes.
    count: usize,
    queued_bytes: usize,
    /// How many calls were ever sent.
    sent: u64,
}

/// A call with a caller.
pub(crate) struct Call {
    pub(crate) id: CommandId,
    pub(crate) resource: String,
    pub(crate) frame: Frame,
    pub(crate) deadline: Instant,
}

/// Whose an answer is.
pub(crate) enum Owner {
    /// This caller's.
    Caller { id: CommandId, resource: String },
    /// A caller's who gave up on this resource.
    Gone { resource: String },
}

#[derive(Default)]
struct Lane {
    slots: VecDeque<Slot>,
    waiting: VecDeque<Call>,
}

/// A call that was sent.
struct Slot {
    number: u64,
    resource: String,
    state: State,
}

enum State {
    InFlight(CommandId),
    Held { until: Instant },
}

impl Calls {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, lanes: HashMap::new(), places: HashMap::new(), count: 0, queued_bytes: 0, sent: 0 }
    }

    /// Sends a call, or keeps it until its turn.
    pub(crate) fn add(&mut self, action: String, call: Call, out: &mut Outbox<Frame>) -> Result<()> {
        if self.count >= self.config.max_calls {
            return Err(Error::rejected(
                Code::TooMany,
                format!("{} calls are under way (max_calls); the service may not be answering", self.count),
            ));
        }
        let free = self.lanes.get(action.as_str()).is_none_or(|lane| lane.is_free(self.config.correlation));
        let size = call.frame.bytes().len();
        if !free && size > self.config.max_queue_bytes.0.saturating_sub(self.queued_bytes) {
            return Err(Error::rejected(
                Code::TooMany,
                format!("{} bytes of calls wait already (max_queue_bytes)", self.queued_bytes),
            ));
        }
        let action: Arc<str> = action.into();
        self.places.insert(call.id, Arc::clone(&action));
        self.count += 1;
        self.queued_bytes += size;
        self.lanes.entry(Arc::clone(&action)).or_default().waiting.push_back(call);
        self.go_on(&action, out);
        Ok(())
    }

    /// Takes the call or the hold that an answer with this action is for.
    pub(crate) fn answered(&mut self, action: &str, out: &mut Outbox<Frame>) -> Option<Owner> {
        let lane = self.lanes.get_mut(action)?;
        let slot = lane.slots.pop_front()?;
        self.count -= 1;
        // The next in line may be a hold that aged behind this call; its answer is only now due.
        if let Some(Slot { state: State::Held { until }, .. }) = lane.slots.front_mut() {
            *until = out.now() + self.config.late_answer_window.0;
            out.wake_at(*until);
        }
        let owner = match slot.state {
            State::InFlight(id) => {
                self.places.remove(&id);
                Owner::Caller { id, resource: slot.resource }
            }
            State::Held { .. } => Owner::Gone { resource: slot.resource },
        };
        self.go_on(action, out);
        Some(owner)
    }

    /// Takes the call that was sent first, for an error that names none; and whether it can be no other's.
    /// If it can, an answer to this call may yet come, and finds a hold.
    pub(crate) fn oldest(&mut self, out: &mut Outbox<Frame>) -> Option<(Owner, bool)> {
        let in_flight = self.lanes.iter().flat_map(|(action, lane)| {
            lane.slots.iter().filter_map(move |slot| match slot.state {
                State::InFlight(id) => Some((slot.number, id, action)),
                State::Held { .. } => None,
            })
        });
        let (_, id, action) = in_flight.min_by_key(|(number, ..)| *number)?;
        let action = Arc::clone(action);
        let unanswered: usize = self.lanes.values().map(|lane| lane.slots.len()).sum();
        if unanswered == 1 {
            return self.answered(&action, out).map(|owner| (owner, true));
        }
        let resource = self.abandoned(id, true, out)?;
        Some((Owner::Caller { id, resource }, false))
    }

    /// The caller is gone: a call that waits, or that was never written, is dropped; one that was sent leaves a hold.
    /// Returns its resource.
    pub(crate) fn abandoned(&mut self, id: CommandId, sent: bool, out: &mut Outbox<Frame>) -> Option<String> {
        let action = self.places.remove(&id)?;
        let lane = self.lanes.get_mut(&action)?;
        let resource = if let Some(place) = lane.waiting.iter().position(|call| call.id == id) {
            let call = lane.waiting.remove(place)?;
            self.count -= 1;
            self.queued_bytes -= call.frame.bytes().len();
            call.resource
        } else {
            let is_it = |slot: &Slot| matches!(slot.state, State::InFlight(call) if call == id);
            let place = lane.slots.iter().position(is_it)?;
            if !sent || self.config.correlation == Correlation::UniqueAction {
                self.count -= 1;
                lane.slots.remove(place)?.resource
            } else {
                let slot = lane.slots.get_mut(place)?;
                let until = out.now() + self.config.late_answer_window.0;
                slot.state = State::Held { until };
                out.wake_at(until);
                slot.resource.clone()
            }
        };
        self.go_on(&action, out);
        Some(resource)
    }

    /// Clears the holds whose window has passed, and sends what waited for them.
    pub(crate) fn expire(&mut self, out: &mut Outbox<Frame>) {
        let mut next: Option<Instant> = None;
        let mut cleared = Vec::new();
        for (action, lane) in &mut self.lanes {
            // Only from the front: an answer cannot come before those of the calls that were sent earlier.
            while let Some(Slot { state: State::Held { until }, .. }) = lane.slots.front() {
                if *until > out.now() {
                    next = Some(next.map_or(*until, |next| next.min(*until)));
                    break;
                }
                lane.slots.pop_front();
                self.count -= 1;
                cleared.push(Arc::clone(action));
            }
        }
        for action in cleared {
            self.go_on(&action, out);
        }
        if let Some(next) = next {
            out.wake_at(next);
        }
    }

    /// Sends what may be sent in a lane, and drops the lane if nothing is left in it.
    fn go_on(&mut self, action: &str, out: &mut Outbox<Frame>) {
        let Some(lane) = self.lanes.get_mut(action) else { return };
        while lane.is_open(self.config.correlation) {
            let Some(call) = lane.waiting.pop_front() else { break };
            self.queued_bytes -= call.frame.bytes().len();
            if call.deadline <= out.now() {
                // The daemon is about to say so to its caller.
                self.places.remove(&call.id);
                self.count -= 1;
                continue;
            }
            out.send_for(call.id, call.frame);
            self.sent += 1;
            let state = State::InFlight(call.id);
            lane.slots.push_back(Slot { number: self.sent, resource: call.resource, state });
        }
        if lane.slots.is_empty() && lane.waiting.is_empty() {
            self.lanes.remove(action);
        }
    }
}

impl Lane {
    /// Whether the slots allow for one more call.
    fn is_open(&self, correlation: Correlation) -> bool {
        match correlation {
            Correlation::Serial | Correlation::UniqueAction => self.slots.is_empty(),
            Correlation::Fifo => self.slots.iter().all(|slot| matches!(slot.state, State::InFlight(_))),
        }
    }

    /// Whether a new call would be sent at once.
    fn is_free(&self, correlation: Correlation) -> bool {
        self.waiting.is_empty() && self.is_open(correlation)
    }
}
