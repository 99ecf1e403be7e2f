//! What the outside may ask of the process: SIGTERM and SIGINT to stop, SIGHUP to read the configuration again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that the daemon acts on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Hears them from now on.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that means reload (`true`) or one that means stop (`false`).
    pub(super) async fn reload(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
            _ = self.hangup.recv() => true,
        }
    }

    /// Waits for one that means stop.
    pub(super) async fn stop(&mut self) {
        while self.reload().await {
            tracing::warn!("the daemon stops; the configuration is not read again");
        }
    }
}
