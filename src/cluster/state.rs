//! What a daemon knows of its cluster, and what follows from it: which leases it takes, renews and gives up, and which instances
//! it starts and stops. Decides alone; NATS and the clock are elsewhere.

mod slot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use self::slot::Stop;
use self::slot::{Lease, Slot};
use super::assign::{self, Candidate};
use super::lease::Found;
use super::members::{Change, Heartbeat, Members};
use crate::fence::{Fence, Fences};
use crate::settings::{Cluster, OnNatsLoss};

/// Epochs of leases are revisions, and larger than those of instances without leases, which are milliseconds since 1970: this
/// is the year 2109.
pub const FIRST_EPOCH: u64 = 1 << 42;
/// How long after an attempt to take a lease that another one has the next one follows.
const POLL: Duration = Duration::from_millis(100);
/// The same once the lease should have ended.
const SLOW_POLL: Duration = Duration::from_secs(1);
/// The time in which at most `cluster.moves` instances are handed over.
const MINUTE: Duration = Duration::from_secs(60);

/// Why an instance was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No other member was known to have it.
    Free,
    /// Another member has given it up.
    Released,
    /// Another member has not renewed its lease.
    Expired,
}

/// What is to be done over NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take the lease of this instance, or renew the one with this revision.
    Take(String, u64),
    /// Give up the lease with this revision.
    Release(String, u64),
    /// Send a heartbeat.
    Announce,
}

/// What an instance needs to run.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The epoch of its events.
    pub epoch: u64,
    /// Until when it may act.
    pub fences: Fences,
}

/// The cluster, as one daemon sees it.
pub struct State {
    settings: Cluster,
    /// This daemon.
    pub name: String,
    run: String,
    slots: BTreeMap<String, Slot>,
    /// The others.
    pub members: Members,
    leaving: bool,
    /// Who should run what must be computed again.
    reassign: bool,
    /// Until then, the heartbeats of others may not have arrived yet.
    settled: Duration,
    /// Since when that is so.
    unsettled: Duration,
    /// Another member waits for our heartbeat.
    awaited: bool,
    /// Whether that time was over once.
    pub joined: bool,
    /// The last heartbeat that was sent.
    announced: Option<(Duration, Heartbeat)>,
    moves: VecDeque<Duration>,
    /// The last instance that was handed over, and the member that was ready to run it.
    handed_over: Option<(String, String)>,
    /// Why no leases can be taken.
    pub problem: Option<String>,
    /// How many instances were taken, in the order of [`Reason`].
    pub takeovers: [u64; 3],
}

impl State {
    /// Knows no other member yet. `run` is what no other run of a daemon has.
    pub fn new(settings: Cluster, name: String, run: String, now: Duration) -> Self {
        let settled = now + settings.ttl.0 / 2;
        Self {
            settings,
            name,
            run,
            slots: BTreeMap::new(),
            members: Members::default(),
            leaving: false,
            reassign: true,
            settled,
            unsettled: now,
            awaited: false,
            joined: false,
            announced: None,
            moves: VecDeque::new(),
            handed_over: None,
            problem: None,
            takeovers: [0; 3],
        }
    }

    fn ttl(&self) -> Duration {
        self.settings.ttl.0
    }

    /// How long a member may send nothing. A little less than its leases last, so that the first attempt to take them comes in
    /// time.
    fn silence(&self) -> Duration {
        self.ttl() * 9 / 10
    }

    /// How long after a renewal was sent the instance may act. The rest of the time is for what is on its way.
    fn term(&self) -> Duration {
        self.ttl() * 4 / 5
    }

    /// Sets the instances of the configuration, with the labels that they ask for.
    pub fn configure(&mut self, instances: BTreeMap<String, Vec<String>>) {
        self.slots.values_mut().for_each(|slot| slot.configured = false);
        for (name, only) in instances {
            let slot = self.slots.entry(name).or_default();
            (slot.configured, slot.only) = (true, only);
        }
        self.reassign = true;
    }

    /// There is no connection, or a new one: heartbeats were missed, and the others may have missed as many. For a while, or
    /// until a heartbeat of each has arrived, nothing is concluded from their silence.
    pub fn unsettle(&mut self, now: Duration) {
        (self.settled, self.unsettled, self.announced) = (now + self.ttl() / 2, now, None);
    }

    /// This process has not run for a while: the heartbeats that have come meanwhile are received first. One that is dead is
    /// to be found soon: this one may be the only one that can take over what it had.
    pub fn resumed(&mut self, now: Duration) {
        // A heartbeat that waited meanwhile may be that of a member which is dead now: not earlier.
        self.settled = self.settled.max(now + self.ttl() / 10);
        self.unsettled = self.unsettled.max(self.settled);
    }

    /// A heartbeat was received. Returns whether another daemon uses our name.
    pub fn receive(&mut self, name: &str, heartbeat: Option<Heartbeat>, now: Duration) -> bool {
        if name == self.name {
            return heartbeat.is_some_and(|heartbeat| heartbeat.run != self.run);
        }
        let settling = heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.settling);
        self.awaited |= settling && !self.members.is_settling(name);
        self.reassign |= self.members.receive(name, heartbeat, now) == Change::Candidates;
        false
    }

    /// Takes no more leases, and gives up each once its instance has ended.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.reassign = true;
    }

    /// Whether nothing is left to give up.
    pub fn has_left(&self) -> bool {
        self.leaving && self.slots.values().all(|slot| slot.lease.is_none() && !slot.busy)
    }

    /// What an instance needs to start, if it may and should run here. It runs then.
    pub fn grant(&mut self, instance: &str, now: Duration) -> Option<Grant> {
        let slot = self.slots.get_mut(instance).filter(|slot| !slot.running)?;
        slot.target.as_ref().filter(|target| **target == self.name)?;
        let lease = slot.lease.as_mut().filter(|lease| now < lease.until)?;
        if lease.revision == lease.used {
            // A run has an epoch to itself: that of the next renewal, which is due now.
            lease.renews_now = true;
            return None;
        }
        lease.used = lease.revision;
        slot.running = true;
        Some(Grant { epoch: FIRST_EPOCH + lease.revision, fences: lease.fences.clone() })
    }

    /// Whether this daemon has the lease of an instance, and should have it.
    pub fn owns(&self, instance: &str) -> bool {
        let own = |slot: &Slot| slot.lease.is_some() && slot.target.as_ref() == Some(&self.name);
        self.slots.get(instance).is_some_and(own)
    }

    /// The running instances that are to stop.
    pub fn to_stop(&self) -> Vec<(String, Stop)> {
        let stopped = self.slots.iter().filter(|(_, slot)| slot.running);
        stopped.filter_map(|(name, slot)| Some((name.clone(), slot.stop?))).collect()
    }

    /// An instance has ended, with all that it did.
    pub fn ended(&mut self, instance: &str) {
        if let Some(slot) = self.slots.get_mut(instance) {
            (slot.running, slot.stop) = (false, None);
            self.reassign |= std::mem::take(&mut slot.stuck);
        }
    }

    /// An instance does not end its turn: another member is to run it. If it goes on some time, it does nothing more.
    pub fn stuck(&mut self, instance: &str) {
        if let Some(slot) = self.slots.get_mut(instance).filter(|slot| slot.running) {
            slot.stuck = true;
            if let Some(lease) = &slot.lease {
                lease.fences.revoke();
            }
            self.reassign = true;
        }
    }

    /// What is to be done now.
    pub fn step(&mut self, now: Duration) -> Vec<Action> {
        if self.joined && self.members.all_received_after(self.unsettled) {
            self.settled = self.settled.min(now);
        }
        self.joined |= now >= self.settled;
        if now >= self.settled
            && let Some(orphans) = self.members.expire(now.saturating_sub(self.silence()))
        {
            for (name, slot) in &mut self.slots {
                slot.orphaned |= orphans.contains(name);
            }
            self.reassign = true;
        }
        if std::mem::take(&mut self.reassign) {
            self.assign();
        }
        self.fence(now);
        self.hand_over(now);
        let mut actions = self.leases(now);
        actions.extend(self.announce(now));
        actions
    }

    fn assign(&mut self) {
        let mut candidates = self.members.candidates();
        let stuck = self.slots.iter().filter(|(_, slot)| slot.stuck);
        candidates.push(Candidate {
            name: self.name.clone(),
            weight: if self.leaving { 0 } else { self.settings.weight },
            labels: self.settings.labels.iter().cloned().collect(),
            unable: stuck.map(|(name, _)| name.clone()).collect(),
        });
        for (name, slot) in &mut self.slots {
            let owner = assign::owner(name, &slot.only, &candidates).filter(|_| slot.configured);
            let owner = owner.map(|candidate| candidate.name.clone());
            if owner != slot.target {
                (slot.target, slot.wanted) = (owner, None);
            }
        }
    }

    /// Ends what is not certain any more.
    fn fence(&mut self, now: Duration) {
        let hold = self.settings.on_nats_loss == OnNatsLoss::Hold;
        let term = self.term();
        for slot in self.slots.values_mut() {
            let Some(lease) = &mut slot.lease else { continue };
            if hold && now < lease.until && !lease.fences.publish.is_revoked() {
                // Not after a time in which the process did not run: then another member may have it, and use it.
                lease.until = now + term;
                lease.fences.service.extend(lease.until);
            }
            if slot.stuck {
                // It is given up below.
                slot.stop = Some(Stop::Lost);
            } else if now >= lease.until || lease.fences.publish.is_revoked() {
                lease.fences.revoke();
                slot.lease = None;
                slot.stop = slot.running.then_some(Stop::Lost);
            }
        }
    }

    /// Stops one instance that another member should run and is ready to run, once that has taken the one before: it may have
    /// ended meanwhile.
    fn hand_over(&mut self, now: Duration) {
        while self.moves.front().is_some_and(|at| *at + MINUTE <= now) {
            self.moves.pop_front();
        }
        let is_over = |(name, target): &(String, String)| {
            let waits =
                |slot: &Slot| slot.target.as_ref() == Some(target) && (!slot.running || slot.stop.is_some());
            self.members.owner(name).is_some() || !self.slots.get(name).is_some_and(waits)
        };
        if self.handed_over.as_ref().is_some_and(is_over) {
            self.handed_over = None;
        }
        let under_way = self.handed_over.is_some()
            || self.slots.values().any(|slot| slot.running && slot.stop == Some(Stop::Moved));
        let most = usize::try_from(self.settings.moves).unwrap_or(usize::MAX);
        if self.leaving || under_way || now < self.settled || self.moves.len() >= most {
            return;
        }
        let (members, own) = (&self.members, &self.name);
        let next = self.slots.iter_mut().find(|(name, slot)| {
            let target = slot.target.as_ref().filter(|target| *target != own);
            let ready = target.is_some_and(|target| members.waits(target, name));
            slot.running && slot.stop.is_none() && slot.lease.is_some() && ready
        });
        if let Some((name, slot)) = next {
            slot.stop = Some(Stop::Moved);
            self.moves.push_back(now);
            self.handed_over = slot.target.clone().map(|target| (name.clone(), target));
        }
    }

    fn leases(&mut self, now: Duration) -> Vec<Action> {
        let (period, ttl) = (self.ttl() / 3, self.ttl());
        let mut actions = Vec::new();
        for (name, slot) in &mut self.slots {
            if slot.busy {
                continue;
            }
            let is_target = slot.target.as_ref() == Some(&self.name);
            if let Some(lease) = &mut slot.lease {
                let given_up = slot.stuck || (!slot.running && (self.leaving || !is_target));
                let is_late = lease.renews_now || lease.renewed + period <= now;
                if given_up {
                    actions.push(Action::Release(name.clone(), lease.revision));
                    lease.fences.revoke();
                    (slot.lease, slot.busy) = (None, true);
                } else if is_late && lease.attempted + period / 4 <= now {
                    actions.push(Action::Take(name.clone(), lease.revision));
                    (lease.attempted, slot.busy) = (now, true);
                }
                continue;
            }
            let is_free = is_target && !self.leaving && !slot.running && self.members.owner(name).is_none();
            if !is_free || now < self.settled {
                slot.wanted = None;
            } else if now >= slot.retry {
                let since = *slot.wanted.get_or_insert(now);
                slot.retry = now + if now < since + ttl * 2 { POLL } else { SLOW_POLL };
                slot.busy = true;
                actions.push(Action::Take(name.clone(), 0));
            }
        }
        self.slots.retain(|_, slot| slot.configured || slot.running || slot.busy || slot.lease.is_some());
        actions
    }

    /// A heartbeat at least every third of the time, and at once when its content has changed or another member waits for it.
    fn announce(&mut self, now: Duration) -> Option<Action> {
        let heartbeat = self.heartbeat(now);
        let is_due = self.announced.as_ref().is_none_or(|(at, last)| {
            let is_wanted = self.awaited || *last != heartbeat;
            *at + self.ttl() / 3 <= now || (is_wanted && *at + POLL / 2 <= now)
        });
        is_due.then(|| {
            (self.announced, self.awaited) = (Some((now, heartbeat)), false);
            Action::Announce
        })
    }

    /// What this daemon sends of itself.
    pub fn heartbeat(&self, now: Duration) -> Heartbeat {
        let names = |wanted: &dyn Fn(&str, &Slot) -> bool| -> BTreeSet<String> {
            let found = self.slots.iter().filter(|(name, slot)| wanted(name, slot));
            found.map(|(name, _)| name.clone()).collect()
        };
        Heartbeat {
            run: self.run.clone(),
            weight: self.settings.weight,
            labels: self.settings.labels.iter().cloned().collect(),
            leaving: self.leaving,
            settling: now < self.settled,
            owns: names(&|_, slot| slot.lease.is_some()),
            waits: names(&|name, slot| {
                let is_target = slot.target.as_ref() == Some(&self.name);
                // Else its owner would let it go before it can be taken.
                let is_ready = now >= self.settled && !slot.running && slot.lease.is_none();
                is_target && is_ready && self.members.owner(name).is_some()
            }),
            unable: names(&|_, slot| slot.stuck),
        }
    }

    /// What was found out about a lease; `None` if nothing was. Returns why the instance was taken, if it was just now.
    pub fn taken(&mut self, instance: &str, found: Option<Found>) -> Option<Reason> {
        let term = self.term();
        let slot = self.slots.get_mut(instance)?;
        slot.busy = false;
        match (found?, &mut slot.lease) {
            (Found::Theirs, None) => None,
            (Found::Theirs, Some(lease)) => {
                // Whatever it was that another one has concluded: it owns the instance now.
                lease.fences.revoke();
                None
            }
            (Found::Ours { revision, sent, .. }, Some(lease)) => {
                (lease.revision, lease.renewed, lease.renews_now) = (revision, sent, false);
                lease.until = lease.until.max(sent + term);
                lease.fences.publish.extend(sent + term);
                lease.fences.service.extend(sent + term);
                None
            }
            (Found::Ours { revision, sent, released }, None) => {
                let publish = Fence::until(sent + term);
                let service = Fence::until(sent + term);
                let fences = Fences { service, publish };
                let (renewed, attempted, until) = (sent, sent, sent + term);
                slot.lease =
                    Some(Lease { revision, used: 0, renewed, attempted, renews_now: false, until, fences });
                slot.wanted = None;
                let expired = std::mem::take(&mut slot.orphaned);
                let reason = if released {
                    Reason::Released
                } else if expired {
                    Reason::Expired
                } else {
                    Reason::Free
                };
                self.takeovers[reason as usize] += 1;
                Some(reason)
            }
        }
    }

    /// A lease was given up, or will end by age.
    pub fn released(&mut self, instance: &str) {
        if let Some(slot) = self.slots.get_mut(instance) {
            slot.busy = false;
        }
    }

    /// When the last renewal of the lease of an instance was sent, if this daemon has it.
    pub fn renewed(&self, instance: &str) -> Option<Duration> {
        Some(self.slots.get(instance)?.lease.as_ref()?.renewed)
    }

    /// When the oldest of the last renewals was sent, and how many leases there are.
    pub fn oldest_renewal(&self) -> (Option<Duration>, usize) {
        let leases = self.slots.values().filter_map(|slot| slot.lease.as_ref());
        (leases.clone().map(|lease| lease.renewed).min(), leases.count())
    }

    /// The instances of the configuration: name, the member that should run each, and the one that does.
    pub fn instances(&self) -> impl Iterator<Item = (&str, Option<&str>, Option<&str>)> {
        let owners: BTreeMap<&str, &str> = self
            .members
            .iter()
            .flat_map(|(member, heartbeat, _)| heartbeat.owns.iter().map(move |name| (name.as_str(), member)))
            .collect();
        self.slots.iter().map(move |(name, slot)| {
            let own = slot.lease.is_some().then_some(self.name.as_str());
            let owner = own.or_else(|| owners.get(name.as_str()).copied());
            (name.as_str(), slot.target.as_deref(), owner)
        })
    }
}

#[cfg(test)]
mod tests;
