//! The ends of a connection that a session reads from and writes to.

use std::time::Duration;

use futures_channel::mpsc::UnboundedReceiver;
use futures_util::StreamExt as _;
use pontoon_sdk::connector::Frame;

use crate::transport::writer::{Outbound, Outcome};
use crate::transport::{Read, deadline};

/// How long the closing handshake may take.
pub(super) const CLOSING: Duration = Duration::from_secs(1);

/// The ends of a connection that a session reads from and writes to.
pub struct Ends<F, R> {
    /// Receives messages.
    pub reader: R,
    /// Sends messages.
    pub outbound: Outbound<F>,
    /// What becomes of the messages that were given to `outbound`.
    pub outcomes: UnboundedReceiver<Outcome>,
}

impl<F: Frame, R: Read<F>> Ends<F, R> {
    /// Closes the connection, and waits until the closing handshake is over: until all is written, the close frame at the
    /// end, and the service has ended the connection too.
    pub(super) async fn close(mut self) {
        self.outbound.close();
        let written = async { while self.outcomes.next().await.is_some() {} };
        let _ = deadline::within(CLOSING, async { tokio::join!(self.reader.drain(), written) }).await;
    }
}
