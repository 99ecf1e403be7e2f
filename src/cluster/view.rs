//! What a daemon knows of its cluster, for `/status` and `pontoon status --cluster`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Shared;
use crate::fence::now;

/// Reads it at any time, from any thread.
#[derive(Clone)]
pub struct Source(Arc<Shared>);

/// A cluster, as one member knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterStatus {
    /// The member whose view this is.
    pub name: String,
    /// Why it can take no leases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether it has waited for the heartbeats of the others, so that it may take instances.
    pub joined: bool,
    /// All members that are alive, this one included.
    pub members: Vec<MemberStatus>,
    /// All instances of its configuration.
    pub instances: Vec<OwnerStatus>,
    /// How many instances it has taken since it was started.
    pub takeovers: Takeovers,
}

/// How many instances were taken, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Takeovers {
    /// No other member was known to have it.
    pub free: u64,
    /// Another member has given it up.
    pub released: u64,
    /// Another member has not renewed its lease.
    pub expired: u64,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// Its labels.
    pub labels: Vec<String>,
    /// How many instances it owns.
    pub owned: usize,
    /// How many it is ready to run that others own.
    pub waits: usize,
    /// Whether it stops.
    pub leaving: bool,
    /// How long ago it was heard of, in milliseconds.
    pub heartbeat_ms: u64,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OwnerStatus {
    /// Its name.
    pub instance: String,
    /// The member that runs it.
    pub owner: Option<String>,
    /// The member that should.
    pub target: Option<String>,
    /// How long ago this member has renewed its lease, in milliseconds. It does not know that of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
}

impl Source {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The view now.
    pub fn read(&self) -> ClusterStatus {
        let (state, now) = (self.0.state(), now());
        let own = (state.name.clone(), state.heartbeat(now), now);
        let others =
            state.members.iter().map(|(name, heartbeat, at)| (name.to_owned(), heartbeat.clone(), at));
        let member = |(name, heartbeat, at): (String, super::members::Heartbeat, Duration)| MemberStatus {
            name,
            weight: heartbeat.weight,
            labels: heartbeat.labels.into_iter().collect(),
            owned: heartbeat.owns.len(),
            waits: heartbeat.waits.len(),
            leaving: heartbeat.leaving,
            heartbeat_ms: milliseconds(now.saturating_sub(at)),
        };
        let mut members: Vec<_> = std::iter::once(own).chain(others).map(member).collect();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        let instance = |(name, target, owner): (&str, Option<&str>, Option<&str>)| OwnerStatus {
            instance: name.to_owned(),
            owner: owner.map(str::to_owned),
            target: target.map(str::to_owned),
            lease_ms: state.renewed(name).map(|at| milliseconds(now.saturating_sub(at))),
        };
        let [free, released, expired] = state.takeovers;
        ClusterStatus {
            name: state.name.clone(),
            problem: state.problem.clone(),
            joined: state.joined,
            members,
            instances: state.instances().map(instance).collect(),
            takeovers: Takeovers { free, released, expired },
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
