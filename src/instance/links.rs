//! The links of an instance: opened from the start, by commands, or by services that come to us; each a task of its own.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt as _;
use pontoon_sdk::{Code, Connector, Error, LinkKey, LinkSpec, Result};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::router::MOST_COMMANDS;
use crate::link::queue::{Errand, Errands, Room};
use crate::link::slots::Places;
use crate::link::supervisor::{Supervisor, Way};
use crate::transport::{Dial, DialledBy};

/// The links of one instance.
pub struct Links<C: Connector> {
    shared: Rc<Shared>,
    connector: Arc<C>,
    open: HashMap<LinkKey, Link<C::Request>>,
    /// Those that were closed and may still have something to say, so that their names are not taken before.
    leaving: HashMap<LinkKey, CancellationToken>,
    /// For links that are opened on demand.
    places: Arc<Places>,
    /// The tasks of all links.
    pub tasks: TaskTracker,
    redial: watch::Sender<u64>,
}

/// One of them.
pub struct Link<R> {
    /// Where its commands go.
    pub mailbox: mpsc::Sender<Errand<R>>,
    /// Room for those that wait.
    pub room: Room,
    origin: Origin,
    stop: CancellationToken,
    /// Cancelled once nothing more comes from it.
    gone: CancellationToken,
}

/// Why there is a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Wanted,
    OnDemand,
    Created,
    Arrived,
}

impl<C: Connector> Links<C>
where
    C::Transport: Dial,
{
    /// None yet.
    pub fn new(shared: Rc<Shared>, connector: Arc<C>) -> Self {
        let places = Places::new(connector.on_demand_limits().links);
        Self {
            shared,
            connector,
            open: HashMap::new(),
            leaving: HashMap::new(),
            places,
            tasks: TaskTracker::new(),
            redial: watch::Sender::new(0),
        }
    }

    /// The link of this name, if there is one.
    pub fn get(&self, key: &LinkKey) -> Option<&Link<C::Request>> {
        self.open.get(key)
    }

    /// Opens a link that is kept, unless it is there.
    ///
    /// # Errors
    /// `Rejected` with 429 if the instance has too many.
    pub fn open(&mut self, spec: LinkSpec<C::Transport>) -> Result<()> {
        if self.has(&spec.key) { Ok(()) } else { self.start(spec.key, Way::Wanted(spec.endpoint)) }
    }

    /// Opens a link once it has a place, unless it is there.
    ///
    /// # Errors
    /// As [`Links::open`].
    pub fn open_on_demand(&mut self, spec: LinkSpec<C::Transport>) -> Result<()> {
        if self.has(&spec.key) {
            return Ok(());
        }
        let places = self.places.clone();
        self.start(spec.key, Way::OnDemand(spec.endpoint, places))
    }

    /// Opens a link in the place of one of its name.
    ///
    /// # Errors
    /// `Rejected` with 403 if `most` others that were created are open, else as [`Links::open`].
    pub fn create(&mut self, spec: LinkSpec<C::Transport>, most: usize) -> Result<()> {
        if self.count(Origin::Created, &spec.key) >= most {
            let text =
                format!("{most} links are open that were created by commands, and no more are allowed");
            return Err(Error::rejected(Code::Forbidden, text));
        }
        self.start(spec.key, Way::Created { endpoint: spec.endpoint, redial: spec.redial })
    }

    /// Takes in a service that came by itself, in the place of one of its name.
    ///
    /// # Errors
    /// `Rejected` with 429 if `most` others are in, else as [`Links::open`].
    pub fn welcome(&mut self, key: LinkKey, connection: DialledBy<C::Transport>, most: usize) -> Result<()> {
        if self.count(Origin::Arrived, &key) >= most {
            let text = format!("{most} are connected already, and no more are let in");
            return Err(Error::rejected(Code::TooMany, text));
        }
        self.start(key, Way::Arrived(Some(connection)))
    }

    /// Closes a link for good, if it is there.
    pub fn close(&mut self, key: &LinkKey) {
        if let Some(link) = self.open.remove(key) {
            link.stop.cancel();
            self.leaving.insert(key.clone(), link.gone);
        }
    }

    /// Closes every link. Their tasks end on their own.
    pub fn close_all(&mut self) {
        for (_, link) in self.open.drain() {
            link.stop.cancel();
        }
        self.tasks.close();
    }

    /// Has every connection made anew.
    pub fn redial(&self) {
        self.redial.send_modify(|number| *number += 1);
    }

    fn has(&self, key: &LinkKey) -> bool {
        self.open.get(key).is_some_and(Link::is_open)
    }

    /// How many links there are of one origin beside this one.
    fn count(&self, origin: Origin, beside: &LinkKey) -> usize {
        let others =
            self.open.iter().filter(|(key, link)| link.origin == origin && *key != beside && link.is_open());
        others.count()
    }

    /// Opens a link in the place of one of its name.
    fn start(&mut self, key: LinkKey, way: Way<C::Transport>) -> Result<()> {
        let limit = self.shared.transport.config.max_links;
        // Those that are still saying goodbye count: else whoever closes and opens makes sockets without bound.
        if self.tasks.len() >= limit {
            return Err(Error::rejected(
                Code::TooMany,
                format!("the instance has {limit} links already (transport.max_links)"),
            ));
        }
        self.close(&key);
        for (key, link) in self.open.extract_if(|_, link| !link.is_open()) {
            self.leaving.insert(key, link.gone);
        }
        self.leaving.retain(|_, gone| !gone.is_cancelled());
        let origin = Origin::of(&way);
        let (mailbox, errands) = mpsc::channel(MOST_COMMANDS);
        let (stop, gone) = (CancellationToken::new(), CancellationToken::new());
        let supervisor = Supervisor {
            // A link on demand that is leaving has not said all, but whoever wants the next one need not wait for that.
            after: self.leaving.remove(&key).filter(|_| origin != Origin::OnDemand),
            key: key.clone(),
            way,
            connector: self.connector.clone(),
            shared: self.shared.clone(),
            stop: stop.clone(),
            redial: self.redial.subscribe(),
        };
        let (fault, going) = (self.shared.fault.clone(), gone.clone().drop_guard());
        self.tasks.spawn_local(async move {
            let _going = going;
            if AssertUnwindSafe(supervisor.run(Errands::new(errands))).catch_unwind().await.is_err() {
                fault.cancel();
            }
        });
        let room = Room::new(self.connector.on_demand_limits());
        self.open.insert(key, Link { mailbox, room, origin, stop, gone });
        Ok(())
    }
}

impl<R> Link<R> {
    /// Whether it takes commands, now or later.
    fn is_open(&self) -> bool {
        !self.mailbox.is_closed()
    }
}

impl Origin {
    fn of<T: Dial>(way: &Way<T>) -> Self {
        match way {
            Way::Wanted(_) => Self::Wanted,
            Way::OnDemand(..) => Self::OnDemand,
            Way::Created { .. } => Self::Created,
            Way::Arrived(_) => Self::Arrived,
        }
    }
}
