//! What is larger than NATS takes: it is published without its payload, or else as a gap and a dead letter.

use pontoon_sdk::Size;

use crate::bus::protocol::Publish;
use crate::bus::shared_connection::Channel;
use crate::bus::spool::{Reduced, Spool};
use crate::log::Throttle;
use crate::metrics::DropReason;

/// An event that cannot be published.
pub(super) struct TooLarge {
    pub(super) sequence: u64,
    /// In bytes; 0 if only the stream knows.
    pub(super) size: usize,
    pub(super) limit: Limit,
    /// The lines of its headers.
    pub(super) headers: Vec<u8>,
}

/// What an event is too large for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// `transport.message_limit`: it stands for a message that was discarded.
    Message,
    /// `max_payload` of the server.
    Server,
    /// `max_msg_size` of the stream.
    Stream,
}

/// Publishes what can be of events that are too large.
pub(super) struct DeadLetters {
    /// `transport.message_limit`.
    message_limit: Size,
    throttle: Throttle,
}

impl DeadLetters {
    /// With the limit of the transport.
    pub(super) fn new(message_limit: Size) -> Self {
        Self { message_limit, throttle: Throttle::default() }
    }

    /// Makes an event smaller that NATS does not take because of its size. If a gap takes its place, it is dead-lettered.
    pub(super) fn reduce(&self, spool: &Spool, connection: &mut Channel, too_large: TooLarge) {
        let TooLarge { sequence, size, limit, .. } = too_large;
        match spool.reduce(sequence) {
            None => {}
            Some(Reduced::Smaller) => {
                let instance = &spool.instance;
                tracing::debug!(
                    instance,
                    sequence,
                    size,
                    "an event is published without raw or rejoins, as NATS takes no more"
                );
            }
            Some(Reduced::Gap { headers, body }) => {
                let size = size.max(body.len());
                // What was discarded is not here any more.
                let body = if limit == Limit::Message { &[][..] } else { &body };
                self.publish(spool, connection, TooLarge { size, headers, ..too_large }, body);
            }
            Some(Reduced::Removed) => self.publish(spool, connection, too_large, &[]),
        }
    }

    /// Publishes an event that is lost to the dead-letter subject, with its body if the server takes that, and with size and
    /// reason.
    fn publish(&self, spool: &Spool, connection: &mut Channel, lost: TooLarge, body: &[u8]) {
        let TooLarge { sequence, size, limit, headers } = lost;
        let instance = spool.instance.clone();
        let detail = match limit {
            Limit::Message => {
                let limit = self.message_limit;
                format!("a message of {size} bytes was discarded; transport.message_limit is {limit}")
            }
            Limit::Server => "an event is larger than NATS takes; raise its max_payload".to_owned(),
            Limit::Stream => "an event is larger than the stream takes; raise its max_msg_size".to_owned(),
        };
        let reason = DropReason::TooLarge.as_str();
        let own = format!("Pontoon-Detail: {detail}\r\nPontoon-Size: {size}\r\nPontoon-Reason: {reason}\r\n");
        self.throttle.log(move |count| {
            tracing::warn!(instance, sequence, size, count, detail, "an event is not published");
        });
        let subject = spool.envelope.subjects().dead(reason);
        let headers = &[headers.as_slice(), own.as_bytes()];
        let mut publish = Publish { subject: subject.as_bytes(), reply: None, headers, expected: None, body };
        if publish.size() > connection.max_payload() {
            publish.body = b"";
        }
        connection.publish(&publish);
    }
}
