//! Keys that are kept elsewhere than in memory, so that a command is not carried out twice though the daemon was restarted in
//! between: each is written before its command is sent, and again with its answer.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use pontoon_sdk::{Code, Error};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::disk::{Directory, Journal};
use crate::metrics::Outcome;
use crate::reply::Begin;
use crate::reply::answer::{Answer, compose};
use crate::settings::Durability;

/// A digest of what a command requests, so that two can be compared.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint(pub(super) [u8; 32]);

impl Fingerprint {
    /// By the tokens that name the operation, the body, and the headers that change what is done.
    pub fn new<'a>(tokens: &str, body: &str, headers: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        headers.sort_unstable();
        let mut digest = Sha256::new();
        let mut add = |part: &str| {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        };
        add(tokens);
        add(body);
        for (name, value) in headers {
            add(&name);
            add(value);
        }
        Self(digest.finalize().into())
    }
}

/// Where keys are kept: on disk, or in NATS.
pub trait KeyStore {
    /// Sets the value of a key. Returns at once.
    fn put(&self, key: &str, value: &[u8]);
    /// Removes a key. Returns at once.
    fn remove(&self, key: &str);
    /// Waits until every change so far is over: why the last of them failed, if it did.
    fn written(&self) -> LocalBoxFuture<'static, Result<(), String>>;
}

impl KeyStore for Rc<Journal> {
    fn put(&self, key: &str, value: &[u8]) {
        Journal::put(self, key, value);
    }

    fn remove(&self, key: &str) {
        Journal::remove(self, key);
    }

    fn written(&self) -> LocalBoxFuture<'static, Result<(), String>> {
        let journal = self.clone();
        Box::pin(async move { Journal::written(&journal).await })
    }
}

/// The keys of one instance, as they are kept.
pub struct KeyRecord {
    store: Box<dyn KeyStore>,
    /// What an earlier run has left, the oldest first.
    pub(super) left: Vec<(String, Saved)>,
}

/// A key on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) fingerprint: [u8; 32],
    /// When its command began, or was answered: seconds since 1970.
    pub(super) at: i64,
    /// The command's id in replies.
    id: String,
    /// How it ended; `None` while it is under way.
    answer: Option<SavedAnswer>,
}

#[derive(Serialize, Deserialize)]
struct SavedAnswer {
    outcome: String,
    error: Option<(u16, String)>,
    body: Vec<u8>,
}

impl KeyRecord {
    /// Reads the keys in this folder. To be called in the `LocalSet` in which they are used.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub async fn open(directory: Arc<Directory>, durability: Durability) -> io::Result<Self> {
        let mut left = Vec::new();
        let journal = Journal::open(directory, "keys", durability, |key, value| left.push((key, value)));
        let journal = Rc::new(journal.await?);
        Ok(Self::new(Box::new(journal), left))
    }

    /// Keeps keys here, where these are already.
    pub fn new(store: Box<dyn KeyStore>, left: Vec<(String, Vec<u8>)>) -> Self {
        // One of another version is forgotten.
        let read = |(key, value): (String, Vec<u8>)| Some((key, postcard::from_bytes::<Saved>(&value).ok()?));
        let mut left: Vec<_> = left.into_iter().filter_map(read).collect();
        left.sort_by_key(|(_, saved)| saved.at);
        Self { store, left }
    }

    /// Writes that the command of this key may be sent from now on. Its id is that in replies.
    pub(super) fn begin(&self, key: &str, fingerprint: &Fingerprint, id: &str) -> Begin {
        self.put(key, fingerprint, id, None);
        let written = self.store.written();
        Box::pin(async move {
            let error = |error| {
                let text = format!("the Idempotency-Key cannot be kept: {error}");
                Error::rejected(Code::SpoolFull, text)
            };
            written.await.map_err(error)
        })
    }

    /// Writes how the command of this key has ended.
    pub(super) fn keep(&self, key: &str, fingerprint: &Fingerprint, answer: &Answer) {
        let Answer { outcome, error, body, id, .. } = answer;
        let Some(outcome) = outcome.map(|outcome| outcome.as_str().to_owned()) else { return };
        let answer = SavedAnswer { outcome, error: error.clone(), body: body.to_vec() };
        self.put(key, fingerprint, id, Some(answer));
    }

    pub(super) fn remove(&self, key: &str) {
        self.store.remove(key);
    }

    /// Waits until everything is written.
    pub(super) async fn written(&self) {
        // What could not be written is in the log, or concerns this run alone.
        let _ = self.store.written().await;
    }

    fn put(&self, key: &str, fingerprint: &Fingerprint, id: &str, answer: Option<SavedAnswer>) {
        let at = OffsetDateTime::now_utc().unix_timestamp();
        let saved = Saved { fingerprint: fingerprint.0, at, id: id.to_owned(), answer };
        if let Ok(value) = postcard::to_allocvec(&saved) {
            self.store.put(key, &value);
        }
    }
}

impl Saved {
    /// The answer to further commands with this key. If the daemon was ended while the command was under way, that is not
    /// known.
    pub(super) fn answer(self) -> Option<Rc<Answer>> {
        let Some(SavedAnswer { outcome, error, body }) = self.answer else {
            let text =
                "the daemon was ended while the command was under way, which may have been carried out";
            let error = Error::rejected(Code::NoAnswer, text);
            return compose(&self.id, Some(Outcome::Unknown), None, Some(&error));
        };
        let outcome = Outcome::ALL.into_iter().find(|known| known.as_str() == outcome)?;
        let (outcome, body) = (Some(outcome), body.into());
        Some(Rc::new(Answer { outcome, error, id: self.id, body, repeated: false }))
    }
}
