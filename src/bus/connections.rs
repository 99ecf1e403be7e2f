//! Which connections to NATS a thread has for what its instances publish: one for all instances with the same settings. It is
//! opened for the first that needs it, and forgotten once it has broken.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use async_nats::Client;
use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, Shared};

use super::handshake::Dialer;
use super::shared_connection::{Channel, ROUND_TRIP, SharedConnection};
use crate::fence::Fence;
use crate::settings::Nats;
use crate::transport::deadline::within;

/// The connections of one thread. Cheap to clone.
#[derive(Clone)]
pub struct Connections(Rc<Inner>);

/// Opens channels. Cheap to clone, but for its settings.
#[derive(Clone)]
pub struct Opener {
    connections: Connections,
    nats: Nats,
}

struct Inner {
    /// What the server's operator sees.
    name: String,
    /// Runs what drives a connection, which must outlive the instance that has opened it.
    spawn: Box<dyn Fn(LocalBoxFuture<'static, ()>)>,
    dialled: RefCell<Vec<(Nats, Dialled)>>,
}

/// A connection that is being opened, or was.
type Dialled = Shared<LocalBoxFuture<'static, Result<Rc<SharedConnection>, String>>>;

impl Connections {
    /// No connections yet. `spawn` runs a future to its end on this thread.
    pub fn new(name: String, spawn: impl Fn(LocalBoxFuture<'static, ()>) + 'static) -> Self {
        Self(Rc::new(Inner { name, spawn: Box::new(spawn), dialled: RefCell::default() }))
    }

    /// The connection for these settings; many may wait for it at a time.
    fn dialled(&self, nats: &Nats, client: &Client) -> Dialled {
        self.0.forget_broken();
        let dialled = &mut *self.0.dialled.borrow_mut();
        let server = client.server_info();
        let is_usable = |dialled: &Dialled| match dialled.peek() {
            None => true,
            Some(connection) => connection.as_ref().is_ok_and(|connection| connection.leads_to(&server)),
        };
        let found = dialled.iter().find(|(settings, dialled)| settings == nats && is_usable(dialled));
        if let Some((_, dialled)) = found {
            return dialled.clone();
        }
        let (connections, dialer) = (Rc::downgrade(&self.0), Dialer::new(nats.clone(), self.0.name.clone()));
        let client = client.clone();
        let dial = async move {
            let connection = Rc::new(SharedConnection::new(dialer.dial(&client).await?));
            if let Some(connections) = connections.upgrade() {
                let (driven, of) = (connection.clone(), Rc::downgrade(&connections));
                let drive = async move {
                    poll_fn(|cx| driven.poll_drive(cx)).await;
                    if let Some(connections) = of.upgrade() {
                        connections.forget_broken();
                    }
                };
                (connections.spawn)(drive.boxed_local());
            }
            Ok(connection)
        };
        let dial = dial.boxed_local().shared();
        dialled.push((nats.clone(), dial.clone()));
        dial
    }
}

impl Opener {
    /// Opens channels of the connections with these settings, to which those of a context were added.
    pub fn new(connections: Connections, nats: Nats) -> Self {
        Self { connections, nats }
    }

    /// A channel of a connection to the server of this client, or to one of its cluster. `inbox` is subscribed to if it is
    /// there; nothing is written while `fence` is closed; `subjects` are what the subjects begin with that the channel publishes to. Everything that was written for the
    /// instance before has reached the server when it returns.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) async fn channel(
        &self,
        client: &Client,
        inbox: Option<&str>,
        subjects: &[&str],
        fence: Fence,
    ) -> Result<Channel, String> {
        let Self { connections, nats } = self;
        let mut connection = connections.dialled(nats, client).await?;
        if !connection.leads_to(&client.server_info()) {
            // Another instance has opened it, whose client may be connected to another server.
            connection = connections.dialled(nats, client).await?;
        }
        let mut channel = Channel::open(connection, inbox, subjects, fence);
        match within(ROUND_TRIP, channel.round_trip()).await {
            Some(Ok(())) => Ok(channel),
            Some(Err(error)) => Err(error.to_string()),
            None => {
                channel.give_up("it does not answer");
                Err("the connection for events does not answer".to_owned())
            }
        }
    }
}

impl Inner {
    fn forget_broken(&self) {
        let is_good = |dialled: &Result<Rc<SharedConnection>, _>| {
            dialled.as_ref().is_ok_and(|connection| !connection.is_broken())
        };
        self.dialled.borrow_mut().retain(|(_, dialled)| dialled.peek().is_none_or(is_good));
    }
}
