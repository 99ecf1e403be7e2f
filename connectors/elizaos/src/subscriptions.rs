//! The subscriptions of this connection and of the next ones: the rooms that are joined, and the server's log.

use std::collections::VecDeque;
use std::mem::replace;
use std::sync::Arc;

use pontoon_sdk::{Code, CommandId, Error, Join, Object, Result, Uuid};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::config::{MAX_ROOMS, Setup};
use crate::dialect::Outbox;
use crate::operations::{Filter, Membership};

/// How many changes can be undone when their commands turn out not to be carried out.
const MAX_UNDO: usize = 256;

/// What the settings subscribe to, and what commands changed of it. The daemon keeps what differs from the settings.
pub(crate) struct Subscriptions {
    setup: Arc<Setup>,
    /// In the order in which they are joined.
    pub(crate) rooms: Vec<Membership>,
    /// Whether the log is subscribed to.
    pub(crate) logs: bool,
    /// Which lines of the log are sent; all if absent.
    pub(crate) filter: Option<Filter>,
    /// The reverse of the newest changes.
    undo: VecDeque<(CommandId, Change)>,
}

/// A change of the subscriptions.
pub(crate) enum Change {
    Join(Membership),
    Leave(String),
    Logs(bool),
    Filter(Option<Filter>),
}

const ROOM: &str = "room:";
const LOGS: &str = "logs";
const FILTER: &str = "logs.filter";

impl Subscriptions {
    /// The subscriptions of the settings, and the changes that the daemon kept.
    pub(crate) fn new(setup: Arc<Setup>, joins: &[Join]) -> Self {
        let rooms = setup.config.rooms.iter();
        let rooms =
            rooms.map(|room| Membership { room_id: room.id.clone(), agent_id: room.agent_id }).collect();
        let logs = setup.config.logs;
        let mut subscriptions = Self { setup, rooms, logs, filter: None, undo: VecDeque::new() };
        for change in joins.iter().filter_map(Change::of) {
            subscriptions.apply(change);
        }
        subscriptions
    }

    /// The room, if it is joined.
    pub(crate) fn room(&self, id: &str) -> Option<&Membership> {
        self.rooms.iter().find(|room| room.room_id == id)
    }

    /// The agent in a room, joined or not.
    pub(crate) fn agent_in(&self, room: &str) -> Option<Uuid> {
        match self.room(room) {
            Some(room) => room.agent_id,
            None => self.setup.room(room)?.agent_id,
        }
    }

    /// Makes a change for a command. It holds for the next connections, too, unless it is undone.
    ///
    /// # Errors
    /// `Rejected` with 429 if it is one room too many.
    pub(crate) fn change(&mut self, change: Change, command: CommandId, out: &mut Outbox) -> Result<()> {
        if let Change::Join(room) = &change
            && self.rooms.len() >= MAX_ROOMS
            && self.room(&room.room_id).is_none()
        {
            let text = format!("{MAX_ROOMS} rooms are joined already, which is the most; leave one first");
            return Err(Error::rejected(Code::TooMany, text));
        }
        self.keep(&change, out)?;
        let reverse = self.apply(change);
        self.undo.push_back((command, reverse));
        if self.undo.len() > MAX_UNDO {
            self.undo.pop_front();
        }
        Ok(())
    }

    /// Undoes the changes of a command that was not carried out.
    pub(crate) fn undo(&mut self, command: CommandId, out: &mut Outbox) {
        while let Some(place) = self.undo.iter().rposition(|(id, _)| *id == command)
            && let Some((_, reverse)) = self.undo.remove(place)
        {
            // What could be kept once can be again.
            let _ = self.keep(&reverse, out);
            self.apply(reverse);
        }
    }

    /// Returns the reverse of the change.
    fn apply(&mut self, change: Change) -> Change {
        match change {
            Change::Join(room) => match self.rooms.iter_mut().find(|joined| joined.room_id == room.room_id) {
                Some(joined) => Change::Join(replace(joined, room)),
                None => {
                    let id = room.room_id.clone();
                    self.rooms.push(room);
                    Change::Leave(id)
                }
            },
            Change::Leave(id) => match self.rooms.iter().position(|room| room.room_id == id) {
                Some(place) => Change::Join(self.rooms.remove(place)),
                None => Change::Leave(id),
            },
            Change::Logs(logs) => Change::Logs(replace(&mut self.logs, logs)),
            Change::Filter(filter) => Change::Filter(replace(&mut self.filter, filter)),
        }
    }

    /// Has the daemon keep what differs from the settings.
    fn keep(&self, change: &Change, out: &mut Outbox) -> Result<()> {
        let (key, data) = match change {
            Change::Join(Membership { room_id, agent_id }) => {
                let is_default = self.setup.room(room_id).is_some_and(|room| room.agent_id == *agent_id);
                let data = agent_id.map_or(json!({}), |agent| json!({ "agentId": agent }));
                (format!("{ROOM}{room_id}"), (!is_default).then_some(data))
            }
            Change::Leave(id) => (format!("{ROOM}{id}"), self.setup.room(id).map(|_| Value::from(false))),
            Change::Logs(logs) => {
                (LOGS.to_owned(), (*logs != self.setup.config.logs).then_some(Value::from(*logs)))
            }
            Change::Filter(filter) => (FILTER.to_owned(), filter.as_ref().map(|filter| json!(filter))),
        };
        let Some(data) = data else {
            out.forget(key);
            return Ok(());
        };
        let data = to_raw_value(&data).map_err(|error| Error::internal(error.to_string()))?;
        out.remember(Join { key, data })?;
        Ok(())
    }
}

impl Change {
    /// Reads a change that the daemon kept; `None` if it is none.
    fn of(join: &Join) -> Option<Self> {
        let data = join.data.get();
        Some(match join.key.as_str() {
            LOGS => Self::Logs(serde_json::from_str(data).ok()?),
            FILTER => Self::Filter(serde_json::from_str(data).ok()?),
            key => {
                let room_id = key.strip_prefix(ROOM)?.to_owned();
                if data == "false" {
                    return Some(Self::Leave(room_id));
                }
                Self::Join(Membership { room_id, agent_id: Object::within(&join.data)?.value("agentId") })
            }
        })
    }
}
