//! What is received: frames are read in bursts, and each is given to the session.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use pontoon_sdk::connector::Frame;
use pontoon_sdk::{End, Event, EventType, Kind, Raw, Result};
use time::OffsetDateTime;
use tokio::task::coop::has_budget_remaining;

use super::Connection;
use super::observe::show;
use crate::feed::Passed;
use crate::link::redact::excerpt;
use crate::transport::{self, Read};

/// How many frames are handled before anything else gets its turn.
const BURST: usize = 64;
/// How long a burst may take, beside its last frames: one frame may hold much, as where it is compressed.
const BURST_TIME: Duration = Duration::from_millis(10);

impl<F: Frame, R: Read<F>> Connection<'_, F, R> {
    /// Handles what was read, unless other links have used the room for parts while this one waited for it.
    pub(super) fn receive(&mut self, read: Result<transport::Received<F>, End>) -> Result<(), End> {
        match read {
            Ok(transport::Received::Message(frame))
                if self.pending.backpressure(Instant::now()).is_some() =>
            {
                self.held = Some(frame);
                Ok(())
            }
            read => self.handle_burst(read),
        }
    }

    /// Handles a frame that was held, if there is one.
    pub(super) fn handle_held(&mut self) -> Result<(), End> {
        self.held.take().map_or(Ok(()), |frame| self.handle_burst(Ok(transport::Received::Message(frame))))
    }

    /// Handles a frame, and those that are there already behind it.
    pub(super) fn handle_burst(&mut self, first: Result<transport::Received<F>, End>) -> Result<(), End> {
        // The end of a connection is not received: a silent peer may have been gone for long.
        let first_is_frame = first.is_ok();
        let mut next = Some(first);
        let (mut left, began) = (BURST, Instant::now());
        let read = OffsetDateTime::now_utc();
        if first_is_frame {
            self.link.gaps.received.begin(read);
        }
        while let Some(message) = next {
            let message = message.inspect_err(|_| self.is_lost = true)?;
            let now = Instant::now();
            self.last_message = now;
            match message {
                transport::Received::Message(frame) => self.handle_frame(&frame, now, read)?,
                transport::Received::TooLarge(size) => self.publish_too_large(size, read),
            }
            left -= 1;
            let spool = &self.context.spool;
            let waits = spool.is_full() || spool.is_ahead() || self.pending.backpressure(now).is_some();
            let reads = left > 0 && !waits && now.saturating_duration_since(began) < BURST_TIME;
            next = if reads { self.ends.reader.read().now_or_never() } else { None };
            if next.is_some() {
                continue;
            }
            // The runtime also reports that nothing is there when this task has used its budget.
            if reads && has_budget_remaining() {
                self.link.gaps.received.is_empty();
            } else {
                self.link.gaps.received.is_behind(read);
            }
        }
        self.keep();
        // Seconds since 1970 fit a float exactly.
        self.context.metrics.link_last_message_timestamp.set(read.unix_timestamp() as f64);
        Ok(())
    }

    /// Keeps what outlives the daemon besides events, now that all that was read is handled.
    pub(super) fn keep(&mut self) {
        // Nothing is kept of a link that a command closes.
        let may_be_closed = self.interrupted && !self.context.ends.get();
        if self.context.checkpoints.is_kept() && !may_be_closed {
            self.link.keep_position(self.ends.reader.position());
            if let Some(memory) = self.session.memory() {
                self.link.keep_memory(memory);
            }
        }
    }

    fn handle_frame(&mut self, frame: &F, now: Instant, read: OffsetDateTime) -> Result<(), End> {
        self.context.metrics.frames_received.increment(1);
        self.context.metrics.bytes_received.increment(u64::try_from(frame.size()).unwrap_or(u64::MAX));
        show(self.link, &self.redact, Passed::Received, frame);
        if !self.ready {
            self.last_frame = Some(excerpt(&self.redact, frame));
        }
        self.outbox.advance(now);
        let decoded = self.session.decode(frame, &mut self.outbox);
        match decoded {
            Err(error) if error.kind() == Kind::Protocol => {
                let performed = self.perform_read(Some(read));
                self.publish_unrecognised(frame, error.message(), now, read);
                performed
            }
            Err(error) => {
                let performed = self.perform_read(Some(read));
                if error.kind() == Kind::Internal {
                    self.publish_unrecognised(frame, error.message(), now, read);
                }
                performed?;
                Err(error.into())
            }
            Ok(()) => self.perform_read(Some(read)),
        }
    }

    /// A message over the limit was discarded: that is published like any other loss.
    fn publish_too_large(&mut self, size: u64, read: OffsetDateTime) {
        self.context.metrics.frames_received.increment(1);
        self.context.metrics.bytes_received.increment(size);
        let mut event = Event::new(EventType::FrameUnrecognised, Raw::null());
        let limit = self.context.transport.config.message_limit.0;
        event.fields.reason =
            Some(format!("a message of {size} bytes is over transport.message_limit ({limit} bytes)"));
        event.discarded = Some(size);
        self.context.spool.offer(&self.link.key, Box::new(event), Instant::now(), read);
    }

    fn publish_unrecognised(&mut self, frame: &F, reason: &str, now: Instant, read: OffsetDateTime) {
        let mut event = Event::new(EventType::FrameUnrecognised, frame.raw());
        event.fields.reason = Some(reason.to_owned());
        self.redact.event(&mut event);
        self.context.spool.offer(&self.link.key, Box::new(event), now, read);
    }
}
