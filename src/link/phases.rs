//! The phases of an instance's links: one value, read by the state subject, readiness, gauges and `status` alike.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use pontoon_sdk::{Join, Joined, LinkKey};
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::metrics::InstanceMetrics;
use crate::status::{LastError, LinkChanges, LinkStatus, Phase};

/// How many characters of an error are kept.
const LONGEST_ERROR: usize = 300;

/// The phases of the links of one instance.
pub struct LinkPhases {
    links: RefCell<Links>,
    last: Cell<Generation>,
    changed: Notify,
    metrics: Arc<InstanceMetrics>,
}

/// Distinguishes a link from an earlier one of the same name, which may still be closing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Generation(u64);

/// Where one link sets its phase. Dropping it removes the link.
pub struct PhaseHandle {
    phases: Rc<LinkPhases>,
    key: LinkKey,
    generation: Generation,
}

/// The links, and how many there are of each kind: there may be too many to count them at every change.
#[derive(Default)]
struct Links {
    all: BTreeMap<LinkKey, Entry>,
    /// Those that changed since [`LinkPhases::take_changes`].
    changed: BTreeSet<LinkKey>,
    ready: usize,
    down: [usize; Phase::DOWN.len()],
}

struct Entry {
    generation: Generation,
    status: LinkStatus,
    /// `Ready`, or the phase since it failed: dialling again does not change that. `None` while it has done neither.
    standing: Option<Phase>,
}

impl LinkPhases {
    /// No links yet.
    pub fn new(metrics: Arc<InstanceMetrics>) -> Rc<Self> {
        let (links, last, changed) = (RefCell::default(), Cell::default(), Notify::new());
        Rc::new(Self { links, last, changed, metrics })
    }

    /// A handle for a link, of a later generation than all before it. The link is listed once its phase is set.
    pub fn handle(self: &Rc<Self>, key: LinkKey) -> PhaseHandle {
        let generation = Generation(self.last.get().0 + 1);
        self.last.set(generation);
        PhaseHandle { phases: self.clone(), key, generation }
    }

    /// The phase of a link, if there is one of that name.
    pub fn get(&self, key: &LinkKey) -> Option<Phase> {
        self.links.borrow().all.get(key).map(|link| link.status.phase)
    }

    /// All links.
    pub fn list(&self) -> Vec<LinkStatus> {
        self.links.borrow().all.values().map(|link| link.status.clone()).collect()
    }

    /// The links that changed since the last call.
    pub fn take_changes(&self) -> LinkChanges {
        let links = &mut *self.links.borrow_mut();
        let changed = std::mem::take(&mut links.changed).into_iter();
        changed
            .map(|key| {
                let status = links.all.get(&key).map(|link| link.status.clone());
                (key, status)
            })
            .collect()
    }

    /// Waits for a change after this call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn report(&self, links: &Links) {
        // A gauge is a float; the number of links is far below what it holds exactly.
        self.metrics.link_wanted.set(links.all.len() as f64);
        self.metrics.link_connected.set(links.ready as f64);
        self.metrics.links_down(links.down);
        self.changed.notify_one();
    }
}

impl PhaseHandle {
    /// The link's phase, why, and when it is dialled again if it has failed. Does nothing if a later link of that name has
    /// set its phase.
    pub fn set(&self, phase: Phase, detail: Option<String>, retry_at: Option<OffsetDateTime>) {
        let Self { phases, key, generation } = self;
        let mut status = LinkStatus {
            key: key.as_str().to_owned(),
            phase,
            since: OffsetDateTime::now_utc(),
            detail,
            retry_at,
            last_error: None,
            joined: Joined::default(),
            is_down: false,
        };
        let mut links = phases.links.borrow_mut();
        let known = links.all.get(key);
        if known.is_some_and(|known| known.generation > *generation) {
            return;
        }
        let before = known.filter(|known| known.generation == *generation).and_then(|known| known.standing);
        let standing = match phase {
            Phase::Ready => Some(phase),
            Phase::Connecting => before.filter(|before| *before != Phase::Ready),
            // What waits for something else than its next attempt has not failed.
            _ => retry_at.map(|_| phase),
        };
        let same = known.filter(|known| known.generation == *generation);
        status.joined = same.map(|known| known.status.joined.clone()).unwrap_or_default();
        status.is_down = standing.is_some_and(|standing| standing != Phase::Ready);
        let failed = status.retry_at.and(status.detail.as_deref()).map(last_error);
        status.last_error = failed.or_else(|| known.and_then(|known| known.status.last_error.clone()));
        links.put(key, Entry { generation: *generation, status, standing });
        phases.report(&links);
    }
}

impl PhaseHandle {
    /// What the link keeps for its next connections. It is shown with the next change, as there may be many.
    pub fn joined(&self, joins: &[Join]) {
        let mut joined = Joined::default();
        joins.iter().for_each(|join| joined.add(&join.key));
        self.update(|status| status.joined = joined);
    }

    /// The service has raised an error. It is shown with the next change, as there may be many.
    pub fn error(&self, text: &str) {
        self.update(|status| status.last_error = Some(last_error(text)));
    }

    fn update(&self, change: impl FnOnce(&mut LinkStatus)) {
        let mut links = self.phases.links.borrow_mut();
        let links = &mut *links;
        let entry = links.all.get_mut(&self.key).filter(|known| known.generation == self.generation);
        if let Some(entry) = entry {
            change(&mut entry.status);
            links.changed.insert(self.key.clone());
        }
    }
}

fn last_error(text: &str) -> LastError {
    LastError { at: OffsetDateTime::now_utc(), text: text.chars().take(LONGEST_ERROR).collect() }
}

impl Drop for PhaseHandle {
    fn drop(&mut self) {
        let mut links = self.phases.links.borrow_mut();
        if links.all.get(&self.key).is_some_and(|known| known.generation == self.generation) {
            links.take(&self.key);
            links.changed.insert(self.key.clone());
        }
        self.phases.report(&links);
    }
}

impl Links {
    fn put(&mut self, key: &LinkKey, entry: Entry) {
        self.take(key);
        self.changed.insert(key.clone());
        if let Some(number) = self.number(entry.standing) {
            *number += 1;
        }
        self.all.insert(key.clone(), entry);
    }

    fn take(&mut self, key: &LinkKey) {
        if let Some(entry) = self.all.remove(key)
            && let Some(number) = self.number(entry.standing)
        {
            *number -= 1;
        }
    }

    /// The number of links that stand so.
    fn number(&mut self, standing: Option<Phase>) -> Option<&mut usize> {
        match standing? {
            Phase::Ready => Some(&mut self.ready),
            down => self.down.get_mut(Phase::DOWN.iter().position(|phase| *phase == down)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    /// Links that are ready, and those that are down.
    fn counts(phases: &LinkPhases) -> (usize, usize, [usize; Phase::DOWN.len()]) {
        let links = phases.links.borrow();
        (links.all.len(), links.ready, links.down)
    }

    #[test]
    fn a_link_is_down_from_its_first_failure_until_it_is_ready() {
        let phases = LinkPhases::new(Arc::new(InstanceMetrics::new("a", "sub0", &[])));
        let key = LinkKey::new("one");
        let first = phases.handle(key.clone());
        let set = |phase, failed: bool| {
            first.set(phase, None, failed.then_some(OffsetDateTime::UNIX_EPOCH));
            counts(&phases)
        };
        // It waits for a slot, or for its predecessor, and is dialled for the first time.
        assert_eq!(set(Phase::Waiting, false), (1, 0, [0, 0, 0]));
        assert_eq!(set(Phase::Connecting, false), (1, 0, [0, 0, 0]));
        assert_eq!(set(Phase::CredentialsRefused, true), (1, 0, [0, 1, 0]));
        assert_eq!(set(Phase::Connecting, false), (1, 0, [0, 1, 0]));
        assert_eq!(set(Phase::WrongAddress, true), (1, 0, [0, 0, 1]));
        assert_eq!(set(Phase::Ready, false), (1, 1, [0, 0, 0]));
        // A reconnect that was asked for.
        assert_eq!(set(Phase::Connecting, false), (1, 0, [0, 0, 0]));
        assert_eq!(set(Phase::Waiting, true), (1, 0, [1, 0, 0]));
        // A link that takes its name begins afresh, and the end of the first does not remove it.
        let next = phases.handle(key);
        next.set(Phase::Connecting, None, None);
        assert_eq!(set(Phase::Waiting, true), (1, 0, [0, 0, 0]));
        drop(first);
        assert_eq!(counts(&phases), (1, 0, [0, 0, 0]));
        next.set(Phase::Ready, None, None);
        assert_eq!(counts(&phases), (1, 1, [0, 0, 0]));
        drop(next);
        assert_eq!(counts(&phases), (0, 0, [0, 0, 0]));
    }

    #[test]
    fn what_was_joined_is_shown_and_ends_with_the_link() {
        let phases = LinkPhases::new(Arc::new(InstanceMetrics::new("a", "sub0", &[])));
        let joined = || phases.list().remove(0).joined;
        let handle = phases.handle(LinkKey::new("one"));
        handle.set(Phase::Ready, None, None);
        let joins = ["a", "b"].map(|key| Join { key: key.to_owned(), data: RawValue::NULL.to_owned() });
        handle.joined(&joins);
        assert!(phases.take_changes().contains_key(&LinkKey::new("one")));
        // It stays over a break.
        handle.set(Phase::Waiting, None, None);
        assert_eq!(joined(), Joined { count: 2, keys: vec!["a".to_owned(), "b".to_owned()] });
        let next = phases.handle(LinkKey::new("one"));
        next.set(Phase::Connecting, None, None);
        assert!(joined().is_empty());
    }
}
