//! What a session asks for while it handles a frame, a command or a timer: it is done here, in order.

use pontoon_sdk::connector::Frame;
use pontoon_sdk::{Action, CommandId, End, Error, EventType, Joined, Result};
use time::OffsetDateTime;

use super::Connection;
use super::asks::ask;
use super::moving::Moving;
use super::observe::{service_error, show};
use crate::feed::{Passed, cut};
use crate::transport::Read;
use crate::transport::writer::Refused;

impl<F: Frame, R: Read<F>> Connection<'_, F, R> {
    /// Does all that the session wants done, and then ends if anything of it ends the connection. `read` is when the frame
    /// was read that it comes from, if it comes from one.
    pub(super) fn perform_read(&mut self, read: Option<OffsetDateTime>) -> Result<(), End> {
        let read_at = self.outbox.now();
        // A session that is ready before a frame has not seen yet what the service asks of it.
        let by_frame = read.is_some();
        // Most commands only send a frame, which needs no time of day.
        let read = || read.unwrap_or_else(OffsetDateTime::now_utc);
        let rejoins = if self.ready { Joined::default() } else { self.outbox.rejoins().clone() };
        self.has_sent |= !self.ready && self.outbox.has_sends();
        let mut end = None;
        let mut unsent: Vec<(CommandId, Error)> = Vec::new();
        loop {
            for action in self.outbox.drain() {
                match action {
                    Action::Publish(mut event) => {
                        self.pending.trace(&mut event);
                        self.redact.event(&mut event);
                        if event.kind == EventType::ErrorRaised {
                            service_error(self.link, &event);
                        }
                        let stored = Some(&self.stored.0);
                        self.context.spool.offer_noting(&self.link.key, event, read_at, read(), stored);
                    }
                    Action::Reply(command, reply) => {
                        self.pending.reply(command, self.redact.reply(reply));
                    }
                    Action::Duplicate => self.context.spool.duplicate(),
                    Action::DeliveryLevel(command, delivery) => {
                        let lowered = self.pending.lower(command, delivery);
                        unsent.extend(lowered.err().map(|error| (command, error)));
                    }
                    // Nothing of a command is sent once it was refused.
                    Action::Send(_, Some(command)) if unsent.iter().any(|(known, _)| *known == command) => {}
                    Action::Send(frame, command) => {
                        show(self.link, &self.redact, Passed::Sent, &frame);
                        match (self.ends.outbound.push(frame, command), command) {
                            (Ok(ticket), Some(command)) => self.pending.queued(command, ticket),
                            // What the session sends without a command is of no use to a service that is gone.
                            (Ok(_) | Err(Refused::Closed), None) => {}
                            (Err(refused), Some(command)) => unsent.push((command, refused.error())),
                            (Err(refused), None) => {
                                end.get_or_insert_with(|| refused.error().into());
                            }
                        }
                    }
                    Action::Ask { number, subject, body } => {
                        ask(&self.asks, &self.context, number, subject, &body);
                    }
                    Action::Remember(join) => self.link.remember(join),
                    Action::Forget(key) => self.link.forget(&key),
                    Action::Ready => {
                        if !std::mem::replace(&mut self.ready, true) {
                            self.link.ready(read(), &rejoins, self.has_sent || !by_frame);
                        }
                    }
                    Action::Log(text) => {
                        let (instance, link) = (&self.context.instance, &self.link.key);
                        let text = cut(&self.redact.text(&text));
                        tracing::debug!(instance, %link, text, "the connector logs");
                    }
                    Action::Finish => {
                        if self.link.queue.is_empty() {
                            self.link.queue.close();
                            self.finished = true;
                            end.get_or_insert_with(|| End::disconnected("the link is not needed any more"));
                        }
                    }
                    Action::Move(reason) => match self.mover.take() {
                        Some(mover) => self.moving = Some(Moving { next: mover(), reason }),
                        None if self.moving.is_some() || self.has_moved => {}
                        None => _ = end.get_or_insert_with(|| End::disconnected(reason)),
                    },
                    Action::Close(reason) => {
                        end.get_or_insert_with(|| End::disconnected(reason));
                    }
                }
            }
            if unsent.is_empty() {
                return end.map_or(Ok(()), Err);
            }
            for (command, error) in unsent.drain(..) {
                let sent = self.pending.unsent(command, &error);
                self.abandoned(command, sent);
            }
        }
    }
}
