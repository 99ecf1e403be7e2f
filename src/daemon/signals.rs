//! Signals: SIGTERM and SIGINT stop the daemon, SIGHUP reads the configuration again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the daemon handles.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Installs the handlers.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal: `true` to reload, `false` to stop.
    pub(super) async fn reload(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
            _ = self.hangup.recv() => true,
        }
    }

    /// Waits for a signal to stop; a reload is only logged.
    pub(super) async fn stop(&mut self) {
        while self.reload().await {
            tracing::warn!("stopping; the configuration is not read again");
        }
    }
}
