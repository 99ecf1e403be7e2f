//! What is to hold on this connection and on the next ones: the rooms that are joined, and what of the log is told.

use std::collections::VecDeque;
use std::sync::Arc;

use pontoon_sdk::socketio::Frame;
use pontoon_sdk::{Code, CommandId, Error, Join, Outbox, Result, Uuid};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use crate::config::{MAX_ROOMS, Setup};
use crate::operations::Filter;

/// How many orders can still be undone when it turns out that they were not carried out.
const MAX_UNDO: usize = 256;

/// What the settings say, and what callers changed of it. What differs from the settings is kept by the daemon.
pub(crate) struct Wishes {
    setup: Arc<Setup>,
    /// In the order in which they are joined.
    rooms: Vec<Room>,
    logs: bool,
    filter: Option<Filter>,
    /// What held before an order.
    undo: VecDeque<(CommandId, Wish)>,
}

/// A room that is joined, and the agent that is talked to in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) id: String,
    pub(crate) agent: Option<Uuid>,
}

/// One thing that is to hold.
pub(crate) enum Wish {
    /// This room is joined.
    In(Room),
    /// This one is not.
    Out(String),
    /// The log is told, or is not.
    Logs(bool),
    /// Only this of it.
    Filter(Option<Filter>),
}

/// A room as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "agentId", default, skip_serializing_if = "Option::is_none")]
    agent_id: Option<Uuid>,
}

const ROOM: &str = "room:";
const LOGS: &str = "logs";
const FILTER: &str = "logs.filter";

impl Wishes {
    /// What the settings say, changed by what was kept.
    pub(crate) fn new(setup: Arc<Setup>, joins: &[Join]) -> Self {
        let rooms = setup.config.rooms.iter();
        let rooms = rooms.map(|room| Room { id: room.id.clone(), agent: room.agent_id }).collect();
        let logs = setup.config.logs;
        let mut wishes = Self { setup, rooms, logs, filter: None, undo: VecDeque::new() };
        for wish in joins.iter().filter_map(read) {
            wishes.apply(wish);
        }
        wishes
    }

    /// The rooms that are joined.
    pub(crate) fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    /// Whether the log is told.
    pub(crate) fn logs(&self) -> bool {
        self.logs
    }

    /// What of the log is told.
    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    /// The room, if it is joined.
    pub(crate) fn room(&self, id: &str) -> Option<&Room> {
        self.rooms.iter().find(|room| room.id == id)
    }

    /// The agent that is talked to in a room, joined or not.
    pub(crate) fn agent_of(&self, room: &str) -> Option<Uuid> {
        match self.room(room) {
            Some(room) => room.agent,
            None => self.setup.agent_of(room),
        }
    }

    /// Refuses one room too many.
    pub(crate) fn check_room_for(&self, id: &str) -> Result<()> {
        if self.rooms.len() < MAX_ROOMS || self.room(id).is_some() {
            return Ok(());
        }
        let text = format!("{MAX_ROOMS} rooms are joined already, which is the most; leave one first");
        Err(Error::rejected(Code::TooMany, text))
    }

    /// Has something hold from now on. `command` is the order that can still fail, if any.
    pub(crate) fn set(
        &mut self,
        wish: Wish,
        command: Option<CommandId>,
        out: &mut Outbox<Frame>,
    ) -> Result<()> {
        self.keep(&wish, out)?;
        let before = self.apply(wish);
        if let Some(command) = command {
            self.undo.push_back((command, before));
            if self.undo.len() > MAX_UNDO {
                self.undo.pop_front();
            }
        }
        Ok(())
    }

    /// An order was not carried out: what held before holds again.
    pub(crate) fn undo(&mut self, command: CommandId, out: &mut Outbox<Frame>) {
        while let Some(place) = self.undo.iter().rposition(|(id, _)| *id == command) {
            if let Some((_, before)) = self.undo.remove(place) {
                // What could be kept once can be again.
                let _ = self.set(before, None, out);
            }
        }
    }

    /// Returns what held before.
    fn apply(&mut self, wish: Wish) -> Wish {
        match wish {
            Wish::In(room) => match self.rooms.iter_mut().find(|known| known.id == room.id) {
                Some(known) => Wish::In(std::mem::replace(known, room)),
                None => {
                    let id = room.id.clone();
                    self.rooms.push(room);
                    Wish::Out(id)
                }
            },
            Wish::Out(id) => match self.rooms.iter().position(|room| room.id == id) {
                Some(place) => Wish::In(self.rooms.remove(place)),
                None => Wish::Out(id),
            },
            Wish::Logs(logs) => Wish::Logs(std::mem::replace(&mut self.logs, logs)),
            Wish::Filter(filter) => Wish::Filter(std::mem::replace(&mut self.filter, filter)),
        }
    }

    /// Has the daemon keep what the settings do not say, and nothing else.
    fn keep(&self, wish: &Wish, out: &mut Outbox<Frame>) -> Result<()> {
        let configured = |id: &str| self.setup.config.rooms.iter().find(|room| room.id == *id);
        let (key, data) = match wish {
            Wish::In(room) => {
                let same = configured(&room.id).is_some_and(|known| known.agent_id == room.agent);
                let kept = (!same).then(|| to_raw_value(&Kept { agent_id: room.agent }));
                (format!("{ROOM}{}", room.id), kept)
            }
            Wish::Out(id) => (format!("{ROOM}{id}"), configured(id).is_some().then(|| to_raw_value(&false))),
            Wish::Logs(logs) => {
                let same = *logs == self.setup.config.logs;
                (LOGS.to_owned(), (!same).then(|| to_raw_value(logs)))
            }
            Wish::Filter(filter) => (FILTER.to_owned(), filter.as_ref().map(to_raw_value)),
        };
        match data {
            Some(data) => {
                let data = data.map_err(|error| Error::internal(error.to_string()))?;
                out.remember(Join { key, data });
            }
            None => out.forget(key),
        }
        Ok(())
    }
}

/// What was kept.
fn read(join: &Join) -> Option<Wish> {
    let data = join.data.get();
    match join.key.as_str() {
        LOGS => serde_json::from_str(data).ok().map(Wish::Logs),
        FILTER => serde_json::from_str(data).ok().map(Wish::Filter),
        key => {
            let id = key.strip_prefix(ROOM)?.to_owned();
            if data == "false" {
                return Some(Wish::Out(id));
            }
            let Kept { agent_id } = serde_json::from_str(data).ok()?;
            Some(Wish::In(Room { id, agent: agent_id }))
        }
    }
}
