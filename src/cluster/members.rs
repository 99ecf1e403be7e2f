//! The members of a cluster, as this daemon knows them: by the heartbeats that each one puts into a bucket, which the others
//! receive as they are published. What they say is for the assignment only; who owns an instance is decided by its lease.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::assign::Candidate;

/// How many members there may be.
const MOST: usize = 1_000;

/// What a member sends of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    /// A number of this run of the daemon, as text.
    pub run: String,
    /// `cluster.weight`
    pub weight: u32,
    /// `cluster.labels`
    pub labels: BTreeSet<String>,
    /// Whether it stops, and takes no more instances.
    pub leaving: bool,
    /// Whether it may have missed heartbeats, and waits for one of each other member.
    pub settling: bool,
    /// The instances that it owns.
    pub owns: BTreeSet<String>,
    /// The instances that it is ready to run, and that others own.
    pub waits: BTreeSet<String>,
    /// The instances that it cannot run, since they are stuck there.
    pub unable: BTreeSet<String>,
}

/// A member whose heartbeats arrive.
#[derive(Debug)]
struct Known {
    heartbeat: Heartbeat,
    received: Duration,
}

/// The other members.
#[derive(Debug, Default)]
pub struct Members(BTreeMap<String, Known>);

/// What a heartbeat has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// What the member owns or waits for.
    Instances,
    /// Who may run instances.
    Candidates,
}

impl Members {
    /// Takes the heartbeat of a member; `None` is one that has left.
    pub fn receive(&mut self, name: &str, heartbeat: Option<Heartbeat>, now: Duration) -> Change {
        let Some(heartbeat) = heartbeat else {
            return if self.0.remove(name).is_some() { Change::Candidates } else { Change::None };
        };
        if self.0.len() >= MOST && !self.0.contains_key(name) {
            return Change::None;
        }
        let change = match self.0.get(name).map(|known| &known.heartbeat) {
            Some(before) if *before == heartbeat => Change::None,
            Some(before) if candidate(name, before) == candidate(name, &heartbeat) => Change::Instances,
            _ => Change::Candidates,
        };
        self.0.insert(name.to_owned(), Known { heartbeat, received: now });
        change
    }

    /// Removes the members that were not heard of since this time. Returns what they owned.
    pub fn expire(&mut self, since: Duration) -> Option<BTreeSet<String>> {
        let mut gone = self.0.extract_if(.., |_, known| known.received < since).peekable();
        gone.peek()?;
        Some(gone.flat_map(|(_, known)| known.heartbeat.owns).collect())
    }

    /// Whether there are members, and a heartbeat of each was received after this time.
    pub fn all_received_after(&self, time: Duration) -> bool {
        !self.0.is_empty() && self.0.values().all(|known| known.received > time)
    }

    /// Whether this member waits for heartbeats, as far as is known.
    pub fn is_settling(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|known| known.heartbeat.settling)
    }

    /// Who may run instances.
    pub fn candidates(&self) -> Vec<Candidate> {
        self.0.iter().map(|(name, known)| candidate(name, &known.heartbeat)).collect()
    }

    /// The member that claims to own this instance.
    pub fn owner(&self, instance: &str) -> Option<&str> {
        let owner = self.0.iter().find(|(_, known)| known.heartbeat.owns.contains(instance));
        owner.map(|(name, _)| name.as_str())
    }

    /// Whether this member is ready to run this instance.
    pub fn waits(&self, name: &str, instance: &str) -> bool {
        self.0.get(name).is_some_and(|known| known.heartbeat.waits.contains(instance))
    }

    /// Name, last heartbeat and its time of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Heartbeat, Duration)> {
        self.0.iter().map(|(name, known)| (name.as_str(), &known.heartbeat, known.received))
    }
}

/// One that is leaving gets nothing.
fn candidate(name: &str, heartbeat: &Heartbeat) -> Candidate {
    let weight = if heartbeat.leaving { 0 } else { heartbeat.weight };
    let Heartbeat { labels, unable, .. } = heartbeat.clone();
    Candidate { name: name.to_owned(), weight, labels, unable }
}
