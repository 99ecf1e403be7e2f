//! The lease of one instance in the bucket of leases: taken where there is none, renewed by compare-and-set, and deleted when
//! it is given up. Its revision grows with every change by any member, and so is an epoch.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::bus::bucket::{self, Entry, LEASES, lost};
use crate::bus::jetstream::{JetStream, StreamError};
use crate::fence::now;

/// The value of a lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Holder {
    /// The member.
    pub owner: String,
    /// This run of it.
    pub run: String,
}

/// Where the leases of a daemon are.
#[derive(Clone, Copy)]
pub struct Leases<'a> {
    /// The connection.
    pub js: JetStream<'a>,
    /// `nats.prefix`
    pub prefix: &'a str,
    /// Who takes them.
    pub holder: &'a Holder,
}

/// What was found out about a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is ours, by a message that was sent at this time or later.
    Ours {
        /// Its revision.
        revision: u64,
        /// When the message was sent, as [`now`] counts.
        sent: Duration,
        /// Whether its last holder has given it up.
        released: bool,
    },
    /// Another one has it.
    Theirs,
}

impl Leases<'_> {
    fn subject(&self, instance: &str) -> String {
        bucket::subject(LEASES, self.prefix, instance)
    }

    fn value(&self) -> Bytes {
        serde_json::to_vec(self.holder).unwrap_or_default().into()
    }

    /// Renews the lease with this revision, or takes it if none has it; 0 if it is not ours yet.
    ///
    /// # Errors
    /// See [`StreamError`]: it is not known whether it is ours.
    pub async fn take(self, instance: &str, revision: u64) -> Result<Found, StreamError> {
        match self.set(instance, revision).await? {
            Some(found) => Ok(found),
            None => self.take_over(instance).await,
        }
    }

    /// Gives the lease up.
    ///
    /// # Errors
    /// See [`StreamError`]: if it is still there, it ends by age.
    pub async fn release(self, instance: String, revision: u64) -> Result<(), StreamError> {
        bucket::set(self.js, self.subject(&instance), None, revision).await.map(|_| ())
    }

    /// Takes a lease that has another revision than was expected, if it is free or ours.
    async fn take_over(self, instance: &str) -> Result<Found, StreamError> {
        let (expected, released) = match bucket::get(self.js, LEASES, &self.subject(instance)).await? {
            Entry::Missing => (0, false),
            Entry::Deleted(revision) => (revision, true),
            // The confirmation of an earlier attempt did not arrive.
            Entry::Value(revision, value) if self.is_ours(&value) => (revision, false),
            Entry::Value(..) => return Ok(Found::Theirs),
        };
        match self.set(instance, expected).await? {
            Some(Found::Ours { revision, sent, .. }) => Ok(Found::Ours { revision, sent, released }),
            _ => Ok(Found::Theirs),
        }
    }

    fn is_ours(self, value: &[u8]) -> bool {
        serde_json::from_slice::<Holder>(value).is_ok_and(|holder| holder.run == self.holder.run)
    }

    /// `None` if the lease has another revision than this.
    async fn set(self, instance: &str, expected: u64) -> Result<Option<Found>, StreamError> {
        let sent = now();
        match bucket::set(self.js, self.subject(instance), Some(self.value()), expected).await {
            Ok(revision) => Ok(Some(Found::Ours { revision, sent, released: false })),
            Err(error) if lost(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
