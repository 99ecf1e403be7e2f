//! The subscriptions of this connection and of the next ones: the rooms that are joined, and the server's log.

use pontoon_sdk::{Code, CommandId, Error, Join, Object, Result};
use serde::Deserialize;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::config::{MAX_ROOMS, Room, Setup};
use crate::dialect::Outbox;
use crate::operations::{Filter, Membership};
use crate::uuid::Uuid;

/// What the settings subscribe to, and what commands changed of it: the daemon keeps what differs from the settings.
pub(crate) struct Subscriptions<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) joins: &'a [Join],
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

impl<'a> Subscriptions<'a> {
    /// The rooms that are joined, in the order in which they are.
    pub(crate) fn rooms(&self) -> Vec<Membership> {
        let mut rooms: Vec<_> = self.setup.config.rooms.iter().map(Membership::from).collect();
        for join in self.joins {
            if let Some(id) = join.key.strip_prefix(ROOM) {
                rooms.retain(|room| room.room_id != id);
                rooms.extend(membership(id, join));
            }
        }
        rooms
    }

    /// The room, if it is joined.
    pub(crate) fn room(&self, id: &str) -> Option<Membership> {
        match self.joins.iter().find(|join| join.key.strip_prefix(ROOM) == Some(id)) {
            Some(join) => membership(id, join),
            None => self.setup.room(id).map(Membership::from),
        }
    }

    /// The agent in a room, joined or not.
    pub(crate) fn agent_in(&self, room: &str) -> Option<Uuid> {
        self.room(room).or_else(|| self.setup.room(room).map(Membership::from))?.agent_id
    }

    /// Whether the log is subscribed to.
    pub(crate) fn logs(&self) -> bool {
        self.kept(LOGS).unwrap_or(self.setup.config.logs)
    }

    /// Which lines of the log are sent; all if absent.
    pub(crate) fn filter(&self) -> Option<Filter> {
        self.kept(FILTER)
    }

    fn kept<T: Deserialize<'a>>(&self, key: &str) -> Option<T> {
        let join = self.joins.iter().find(|join| join.key == key)?;
        serde_json::from_str(join.data.get()).ok()
    }
}

impl From<&Room> for Membership {
    fn from(room: &Room) -> Self {
        Self { room_id: room.id.clone(), agent_id: room.agent_id }
    }
}

/// What the daemon keeps of a room, if that is that it was joined.
fn membership(id: &str, join: &Join) -> Option<Membership> {
    let agent_id = Object::within(&join.data)?.value("agentId");
    Some(Membership { room_id: id.to_owned(), agent_id })
}

impl Change {
    /// Has the daemon keep the change for the next connections, unless its command turns out not to be carried out.
    ///
    /// # Errors
    /// `Rejected` with 429 if it is one room too many.
    pub(crate) fn keep(self, setup: &Setup, command: CommandId, out: &mut Outbox) -> Result<()> {
        let (key, data) = match self {
            Self::Join(Membership { room_id, agent_id }) => {
                let joined = Subscriptions { setup, joins: out.joins() };
                if joined.room(&room_id).is_none() && joined.rooms().len() >= MAX_ROOMS {
                    let text =
                        format!("{MAX_ROOMS} rooms are joined already, which is the most; leave one first");
                    return Err(Error::rejected(Code::TooMany, text));
                }
                let is_default = setup.room(&room_id).is_some_and(|room| room.agent_id == agent_id);
                let data = agent_id.map_or(json!({}), |agent| json!({ "agentId": agent }));
                (format!("{ROOM}{room_id}"), (!is_default).then_some(data))
            }
            Self::Leave(id) => (format!("{ROOM}{id}"), setup.room(&id).map(|_| Value::from(false))),
            Self::Logs(logs) => (LOGS.to_owned(), (logs != setup.config.logs).then_some(Value::from(logs))),
            Self::Filter(filter) => (FILTER.to_owned(), filter.map(|filter| json!(filter))),
        };
        let Some(data) = data else {
            out.forget_for(command, key);
            return Ok(());
        };
        let data = to_raw_value(&data).map_err(|error| Error::internal(error.to_string()))?;
        out.remember_for(command, Join { key, data })
    }
}
