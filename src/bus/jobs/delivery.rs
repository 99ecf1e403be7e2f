//! A job as the work queue delivers it, and what its acknowledgement subject tells (ADR-15).

use std::rc::Rc;
use std::time::Duration;

use async_nats::Message;
use time::OffsetDateTime;
use tokio::sync::OwnedSemaphorePermit;

use crate::bus::commands::Request;

/// The longest id of a job, in bytes.
pub const LONGEST_ID: usize = 256;

/// A job that was fetched. Its room among the fetched jobs is free again when it is dropped.
pub struct Delivery {
    /// The operation, the headers and the body.
    pub request: Rc<Request>,
    /// The subject to acknowledge it on.
    pub ack: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the stream stored it.
    pub stored: OffsetDateTime,
    /// Whether it may have been sent by a process whose intents are not known here.
    pub suspect: bool,
    /// How many jobs of the instance wait in the stream behind it.
    pub pending: u64,
    pub(super) _room: OwnedSemaphorePermit,
}

impl Delivery {
    /// What the job is called where it must not be taken for another: by its sequence, and by its time, as the sequences of
    /// a stream that is created again begin at 1.
    pub fn key(&self) -> String {
        let nanoseconds = self.stored.unix_timestamp_nanos();
        format!("{nanoseconds:x}-{}", self.sequence)
    }

    /// Its id: the `Nats-Msg-Id` of its publisher, or its key.
    pub fn id(&self) -> String {
        let given = self.request.header("Nats-Msg-Id").filter(|id| (1..=LONGEST_ID).contains(&id.len()));
        given.map_or_else(|| self.key(), str::to_owned)
    }

    /// How long ago the stream stored it.
    pub fn age(&self, now: OffsetDateTime) -> Duration {
        // The clock of the server may be ahead of ours.
        Duration::try_from(now - self.stored).unwrap_or_default()
    }
}

/// What an acknowledgement subject tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ack {
    /// How often the job was delivered, this time included.
    pub(super) delivered: u64,
    pub(super) sequence: u64,
    pub(super) stored: OffsetDateTime,
    pub(super) pending: u64,
}

/// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<timestamp>.<pending>`; there may be
/// a domain and the hash of an account before the stream, and more behind. `None` if it is another subject: on an inbox,
/// anything can arrive, and what is written to this subject must be an acknowledgement of our consumer.
pub(super) fn ack(message: &Message, stream: &str, consumer: &str) -> Option<Ack> {
    let subject = message.reply.as_ref()?.as_str().strip_prefix("$JS.ACK.")?;
    let tokens: Vec<&str> = subject.split('.').collect();
    let own = [stream, consumer];
    let numbers = match tokens.as_slice() {
        [first, second, numbers @ ..] if numbers.len() == 5 && [*first, *second] == own => numbers,
        [_, _, first, second, numbers @ ..] if numbers.len() >= 5 && [*first, *second] == own => numbers,
        _ => return None,
    };
    let number = |place: usize| numbers.get(place)?.parse::<u64>().ok();
    let stored = OffsetDateTime::from_unix_timestamp_nanos(number(3)?.into()).ok()?;
    Some(Ack { delivered: number(0)?, sequence: number(1)?, stored, pending: number(4)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reply: &str) -> Option<Ack> {
        let message = Message {
            subject: "pontoon.job.sub0.shop.call.x".into(),
            reply: Some(reply.into()),
            payload: "{}".into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        ack(&message, "JOBS", "shop")
    }

    #[test]
    fn the_subject_of_an_acknowledgement_is_read_and_no_other_is_written_to() {
        let stored = OffsetDateTime::from_unix_timestamp(7).unwrap();
        let wanted = Ack { delivered: 2, sequence: 3, stored, pending: 5 };
        assert_eq!(read("$JS.ACK.JOBS.shop.2.3.4.7000000000.5"), Some(wanted));
        assert!(read("$JS.ACK.hub.x7.JOBS.shop.2.3.4.7000000000.5.more").is_some());
        for wrong in [
            "$JS.ACK.JOBS.other.2.3.4.7000000000.5",
            "$JS.ACK.EVENTS.shop.2.3.4.7000000000.5",
            "$JS.ACK.JOBS.shop.2.3.4.7000000000",
            "$JS.ACK.JOBS.shop.2.x.4.7000000000.5",
            "$JS.ACK.JOBS.shop.2.3.4.-7.5",
            "$JS.API.STREAM.PURGE.EV",
            "_INBOX.a",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
