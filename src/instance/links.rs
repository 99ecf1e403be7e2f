//! The links of an instance: opened from the start, by commands, or by services that connect to us; each is a task.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt as _;
use pontoon_sdk::{Code, Error, LinkKey, LinkSpec, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shared::Shared;
use crate::link::Link;
use crate::link::control::Control;
use crate::link::erased::ErasedConnector;
use crate::link::lifetime::Lifetime;
use crate::link::queue::{CommandSender, queue};
use crate::link::supervisor::Supervisor;
use crate::transport::{Dial, DialledBy};

/// Up to this many links, those that have ended are not looked for.
const FORGET_AT: usize = 64;

/// The links of one instance.
pub struct Links<T: Dial> {
    shared: Rc<Shared>,
    connector: Rc<dyn ErasedConnector<T>>,
    open: HashMap<LinkKey, LinkHandle>,
    /// Those that are being closed and may still publish events, so that their names are not taken before.
    closing: HashMap<LinkKey, CancellationToken>,
    /// The tasks of all links.
    pub tasks: TaskTracker,
    control: watch::Sender<Control>,
    /// With how many links [`Links::forget_ended`] has something to do.
    forget_at: usize,
}

/// One of them.
struct LinkHandle {
    lifetime: Lifetime,
    commands: CommandSender,
    stop: CancellationToken,
    /// Cancelled once nothing more comes from it.
    closed: CancellationToken,
}

/// How the first connection of a link is made.
enum Opening<T: Dial> {
    Dial(T::Endpoint),
    Accepted(DialledBy<T>),
}

impl<T: Dial> Links<T> {
    /// No links yet.
    pub fn new(shared: Rc<Shared>, connector: Rc<dyn ErasedConnector<T>>) -> Self {
        Self {
            shared,
            connector,
            open: HashMap::new(),
            closing: HashMap::new(),
            tasks: TaskTracker::new(),
            control: watch::Sender::default(),
            forget_at: FORGET_AT,
        }
    }

    /// The queue of the link of this name, if there is one.
    pub fn commands(&self, key: &LinkKey) -> Option<&CommandSender> {
        self.open.get(key).map(|link| &link.commands)
    }

    /// Opens a link that is kept, or that is open on demand, unless it is there.
    ///
    /// # Errors
    /// `Rejected` with 429 if the instance has too many.
    pub fn open(&mut self, spec: LinkSpec<T>, lifetime: Lifetime) -> Result<()> {
        if self.open.get(&spec.key).is_some_and(LinkHandle::is_open) {
            return Ok(());
        }
        self.start(spec.key, lifetime, Opening::Dial(spec.endpoint))
    }

    /// Opens a link in the place of one of its name.
    ///
    /// # Errors
    /// `Disconnected` while the instance is paused. `Rejected`: as [`Dial::check`], or with 403 if `most` others that were created are open, else as [`Links::open`].
    pub fn create(&mut self, spec: LinkSpec<T>, most: usize) -> Result<()> {
        T::check(&spec.endpoint)?;
        self.require_running()?;
        if self.are_open(most, &spec.key, Lifetime::is_dynamic) {
            let text =
                format!("{most} links are open that were created by commands, and no more are allowed");
            return Err(Error::rejected(Code::Forbidden, text));
        }
        let lifetime = Lifetime::Dynamic { redial: spec.redial };
        self.start(spec.key, lifetime, Opening::Dial(spec.endpoint))
    }

    /// Opens a link for a connection that a service made to us, in the place of one of its name.
    ///
    /// # Errors
    /// `Disconnected` while the instance is paused. `Rejected` with 429 if `most` others are open, else as [`Links::open`].
    pub fn accept(&mut self, key: LinkKey, connection: DialledBy<T>, most: usize) -> Result<()> {
        self.require_running()?;
        if self.are_open(most, &key, |lifetime| lifetime == Lifetime::Accepted) {
            let text = format!("{most} are connected already, and no more are accepted");
            return Err(Error::rejected(Code::TooMany, text));
        }
        self.start(key, Lifetime::Accepted, Opening::Accepted(connection))
    }

    /// Closes a link for good, if it is there.
    pub fn close(&mut self, key: &LinkKey) {
        if let Some(link) = self.open.remove(key) {
            link.stop.cancel();
            self.closing.insert(key.clone(), link.closed);
        }
    }

    /// Closes every link, as the instance ends. Their tasks end by themselves.
    pub fn close_all(&mut self) {
        self.shared.link.ends.set(true);
        for (_, link) in self.open.drain() {
            link.stop.cancel();
        }
        self.tasks.close();
    }

    /// Dials every link again that is dialled.
    pub fn redial(&self) {
        self.control.send_modify(|control| control.redials += 1);
    }

    /// Closes every connection and makes no other until this is taken back. Links that are not dialled again end.
    pub fn pause(&self, paused: bool) {
        self.control.send_modify(|control| control.paused = paused);
    }

    /// A paused instance gets no links that are made for one command or connection.
    fn require_running(&self) -> Result<()> {
        if self.control.borrow().paused {
            return Err(Error::disconnected("the instance is paused; `resume` ends that"));
        }
        Ok(())
    }

    /// Whether there are `most` other links of some lifetimes, or more.
    fn are_open(&self, most: usize, beside: &LinkKey, which: impl Fn(Lifetime) -> bool) -> bool {
        let is_counted =
            |key: &LinkKey, link: &LinkHandle| key != beside && which(link.lifetime) && link.is_open();
        // They are counted only where there may be too many, so that opening many takes no time for each that is open.
        self.open.len() >= most
            && self.open.iter().filter(|(key, link)| is_counted(key, link)).count() >= most
    }

    /// Forgets links that have ended by themselves. Rarely, so that it takes little time for each link that is opened.
    fn forget_ended(&mut self) {
        if self.open.len() + self.closing.len() < self.forget_at {
            return;
        }
        for (key, link) in self.open.extract_if(|_, link| !link.is_open()) {
            self.closing.insert(key, link.closed);
        }
        self.closing.retain(|_, closed| !closed.is_cancelled());
        self.forget_at = (2 * (self.open.len() + self.closing.len())).max(FORGET_AT);
    }

    /// Opens a link in the place of one of its name.
    fn start(&mut self, key: LinkKey, lifetime: Lifetime, opening: Opening<T>) -> Result<()> {
        let context = &self.shared.link;
        let limit = context.transport.config.max_links;
        // Those that are being closed count: else a caller that closes and opens makes sockets without bound.
        if self.tasks.len() >= limit {
            return Err(Error::rejected(
                Code::TooMany,
                format!("the instance has {limit} links already (transport.max_links)"),
            ));
        }
        let (commands, queue) = queue(self.connector.on_demand_limits());
        let link = Link::new(key.clone(), lifetime, context.clone(), queue);
        self.close(&key);
        self.forget_ended();
        if !self.open.is_empty() || !self.closing.is_empty() {
            self.shared.link.checkpoints.several_links();
        }
        let (stop, closed) = (CancellationToken::new(), CancellationToken::new());
        let (endpoint, accepted) = match opening {
            Opening::Dial(endpoint) => (Some(endpoint), None),
            Opening::Accepted(connection) => (None, Some(connection)),
        };
        let supervisor = Box::new(Supervisor {
            link,
            endpoint,
            accepted,
            connector: self.connector.clone(),
            stop: stop.clone(),
            control: self.control.subscribe(),
            // A link on demand that is being closed may still publish, but the commands for the next one need not wait for that.
            predecessor: self.closing.remove(&key).filter(|_| !lifetime.is_on_demand()),
            next: None,
            moved: None,
        });
        let (fault, guard) = (self.shared.fault.clone(), closed.clone().drop_guard());
        self.tasks.spawn_local(async move {
            let _guard = guard;
            if AssertUnwindSafe(supervisor.run()).catch_unwind().await.is_err() {
                fault.cancel();
            }
        });
        self.open.insert(key, LinkHandle { lifetime, commands, stop, closed });
        Ok(())
    }
}

impl LinkHandle {
    /// Whether it takes commands, now or later.
    fn is_open(&self) -> bool {
        self.commands.is_open()
    }
}
