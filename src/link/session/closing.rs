//! The end of a connection: what the service sent before it is still read, and the closing handshake is performed.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use pontoon_sdk::End;
use pontoon_sdk::connector::Frame;
use time::OffsetDateTime;
use tokio::time::sleep_until;

use super::Connection;
use super::ends::CLOSING;
use crate::link::pending::over;
use crate::transport::{Read, deadline};

/// How long nothing may be received, once nothing can be written, before the rest is given up.
const QUIET: Duration = Duration::from_secs(1);
/// How long is read at the most once nothing can be written, as a peer may send for ever.
const READ_REMAINING: Duration = Duration::from_secs(10);

impl<F: Frame, R: Read<F>> Connection<'_, F, R> {
    /// The next connection is made: this one is closed, and read to its end. Or it cannot be made, and is made as after a break.
    pub(super) fn moved(&mut self, made: Result<(), String>) -> Result<(), End> {
        let reason = self.moving.take().map(|moving| moving.reason).unwrap_or_default();
        self.has_moved = made.is_ok();
        self.interrupted |= self.has_moved;
        Err(match made {
            Ok(()) => End::closed(None, reason),
            Err(why) => End::disconnected(format!("{reason}; it could not be made beside this one: {why}")),
        })
    }

    /// Closes the connection, and handles what comes until the service has closed it too: what it has sent before is not
    /// lost, and where another link is opened in the place of this one, the service would count both. Returns whether all of
    /// it was read.
    pub(super) async fn close_and_read(&mut self) -> bool {
        self.ends.outbound.close();
        // Where the next connection is made already, there is time to read this one to its end.
        let limit = if self.has_moved { READ_REMAINING } else { CLOSING };
        let until = tokio::time::Instant::now() + limit;
        while !self.context.spool.is_full() {
            let is_ahead = self.context.spool.is_ahead();
            let step = tokio::select! {
                Some(outcome) = self.ends.outcomes.next() => self.outcome(outcome),
                () = self.context.spool.caught_up(), if is_ahead => Ok(()),
                read = deadline::by(until, self.ends.reader.read()), if !is_ahead => match read {
                    Some(read) => self.handle_burst(read),
                    None => return false,
                },
            };
            match step {
                Err(end) => return self.is_lost && end.orderly,
                Ok(()) if self.write_error.is_some() => return false,
                Ok(()) => {}
            }
        }
        false
    }

    /// Nothing can be written any more, but what was received before, the service's close among it, can still be read.
    pub(super) async fn read_remaining(&mut self, error: End) -> End {
        self.is_broken = true;
        if let Err(end) = self.handle_held() {
            return end;
        }
        let until = tokio::time::Instant::now() + READ_REMAINING;
        loop {
            let backpressure = self.pending.backpressure(Instant::now());
            let (is_full, overflow) = (self.context.spool.is_full(), self.context.spool.deadline());
            let is_ahead = !is_full && self.context.spool.is_ahead();
            if is_full || is_ahead || backpressure.is_some() {
                self.link.gaps.received.pause(OffsetDateTime::now_utc());
            }
            let step = tokio::select! {
                biased;
                _ = &mut self.interrupt => {
                    self.interrupted = true;
                    return error;
                }
                () = self.context.spool.room(), if is_full => Ok(()),
                () = self.context.spool.caught_up(), if is_ahead => Ok(()),
                () = sleep_until(overflow.unwrap_or_else(Instant::now).into()), if overflow.is_some() => {
                    self.context.spool.overflow()
                }
                () = over(backpressure.as_ref()), if backpressure.is_some() => Ok(()),
                read = deadline::within(QUIET, self.ends.reader.read()), if backpressure.is_none() && !is_full && !is_ahead => match read {
                    Some(read) => self.receive(read).and_then(|()| self.handle_held()),
                    None => return error,
                },
                () = sleep_until(until) => return error,
            };
            if let Err(end) = step {
                return if end.code.is_some() { end } else { error };
            }
        }
    }
}
