//! Values of `Idempotency-Key` in a bucket of JetStream, so that they hold across the owners of an instance.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::bucket::{self, Entry, KEYS};
use super::jetstream::JetStream;
use crate::fence::{Fence, NOT_CERTAIN};
use crate::reply::idempotency::KeyStore;
use crate::settings::Delivery;

/// How long NATS may take to store a key.
const STORED: Duration = Duration::from_secs(2);
/// How many keys are read at once.
const READ_AHEAD: usize = 64;
/// How many numbers of changes are remembered that could not be stored.
const FAILED: usize = 4_096;

/// Where the keys of an instance are.
pub struct KeyBucket {
    /// The connection.
    pub client: Client,
    /// What subjects of the JetStream API begin with.
    pub api: String,
    /// `nats.prefix`, and the instance.
    pub prefix: String,
    /// The instance.
    pub instance: String,
    /// Nothing is written while it is closed.
    pub fence: Fence,
}

/// A key and its value, as they were put.
pub type KeyValue = (String, Vec<u8>);

/// The keys, once they were read.
struct Keys {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    pending: RefCell<VecDeque<(String, Option<Vec<u8>>)>>,
    /// How many changes were made, and how many of them are over.
    made: Cell<u64>,
    over: Cell<u64>,
    /// The numbers of those that could not be stored, and why.
    failed: RefCell<VecDeque<(u64, String)>>,
    changed: Notify,
    done: Notify,
}

impl KeyBucket {
    /// Finds or creates the bucket, whose keys go away after `age`, and reads the keys of the instance. Returns where
    /// further ones are put: as a task of the `LocalSet` in which this is called.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn open(
        self,
        age: Duration,
        delivery: &Delivery,
    ) -> Result<(Box<dyn KeyStore>, Vec<KeyValue>), String> {
        let js = JetStream { client: &self.client, api: &self.api };
        let setting = ("commands.idempotency_time", age);
        bucket::ensure(js, KEYS, setting, delivery.provision, delivery.replicas).await?;
        let error = |error| format!("the bucket {KEYS} cannot be read: {error}");
        let filter = bucket::subject(KEYS, &self.prefix, &format!("{}.*", self.instance));
        let subjects = js.subjects(&bucket::stream(KEYS), &filter).await.map_err(error)?;
        let mut reading = stream::iter(subjects)
            .map(|subject| async move { bucket::get(js, KEYS, &subject).await })
            .buffer_unordered(READ_AHEAD);
        let mut left = Vec::new();
        while let Some(entry) = reading.next().await {
            if let Entry::Value(_, value) = entry.map_err(error)? {
                // One that cannot be read is not ours.
                left.extend(postcard::from_bytes::<KeyValue>(&value).ok());
            }
        }
        drop(reading);
        let shared = Rc::<Shared>::default();
        let task = spawn_local(self.run(shared.clone()));
        Ok((Box::new(Keys { shared, task }), left))
    }

    /// Stores what is put, one after the other, without end.
    async fn run(self, shared: Rc<Shared>) {
        loop {
            let next = shared.pending.borrow_mut().pop_front();
            let Some((key, value)) = next else {
                shared.changed.notified().await;
                continue;
            };
            let stored = timeout(STORED, self.store(&key, value)).await;
            let stored = stored.unwrap_or_else(|_| Err("NATS does not answer".to_owned()));
            let number = shared.over.get() + 1;
            if let Err(error) = stored {
                let mut failed = shared.failed.borrow_mut();
                failed.push_back((number, error));
                if failed.len() > FAILED {
                    failed.pop_front();
                }
            }
            shared.over.set(number);
            shared.done.notify_waiters();
        }
    }

    async fn store(&self, key: &str, value: Option<Vec<u8>>) -> Result<(), String> {
        if !self.fence.is_open() {
            return Err(NOT_CERTAIN.to_owned());
        }
        let js = JetStream { client: &self.client, api: &self.api };
        let digest =
            Sha256::digest(key).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let subject = bucket::subject(KEYS, &self.prefix, &format!("{}.{digest}", self.instance));
        let stored = match value {
            None => bucket::delete(js, subject).await,
            Some(value) => {
                let value = postcard::to_allocvec(&(key, value)).map_err(|error| error.to_string())?;
                bucket::put(js, subject, Bytes::from(value)).await
            }
        };
        stored.map_err(|error| error.to_string())
    }
}

impl Keys {
    fn change(&self, key: &str, value: Option<Vec<u8>>) {
        self.shared.pending.borrow_mut().push_back((key.to_owned(), value));
        self.shared.made.set(self.shared.made.get() + 1);
        self.shared.changed.notify_one();
    }
}

impl KeyStore for Keys {
    fn put(&self, key: &str, value: &[u8]) {
        self.change(key, Some(value.to_owned()));
    }

    fn remove(&self, key: &str) {
        self.change(key, None);
    }

    fn written(&self) -> LocalBoxFuture<'static, Result<(), String>> {
        let (shared, last) = (self.shared.clone(), self.shared.made.get());
        async move {
            loop {
                let done = shared.done.notified();
                if shared.over.get() >= last {
                    let failed = shared.failed.borrow();
                    let failed = failed.iter().find(|(number, _)| *number == last);
                    return failed.map_or(Ok(()), |(_, error)| Err(error.clone()));
                }
                done.await;
            }
        }
        .boxed_local()
    }
}

/// What is not stored yet is given up: await [`KeyStore::written`] before.
impl Drop for Keys {
    fn drop(&mut self) {
        self.task.abort();
    }
}
