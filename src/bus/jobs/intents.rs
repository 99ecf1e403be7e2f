//! Which jobs may have been sent to the service, and whose record that is.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use pontoon_sdk::{Code, Error};

use crate::disk::Intents;

/// How many ended jobs are remembered, with a folder over restarts, too: a copy of a job that was delivered twice may come
/// behind its end, and a server that was killed delivers jobs again whose acknowledgements it had confirmed.
const ENDED: usize = 4_096;
/// What the record's own name begins with in it.
const OWNER: &str = "owner:";
/// The mark of a job whose result is stored.
const ANSWERED: &str = "/answered";

/// The jobs of an instance that were begun and are not ended. They outlive the process if the instance has a folder.
pub struct JobIntents {
    record: Rc<Intents>,
    owner: String,
    /// What was begun and is not ended, in this run and before.
    open: RefCell<HashSet<String>>,
    ended: RefCell<VecDeque<String>>,
}

impl JobIntents {
    /// Reads what an earlier run has left, and gives the record a name if it has none. What it has of jobs that were stored
    /// before `oldest`, in nanoseconds since 1970, is forgotten: no stream has them any more.
    pub async fn new(record: Rc<Intents>, oldest: i128) -> Self {
        let mut unfinished: HashSet<String> = record.unfinished().iter().cloned().collect();
        let owner = unfinished.iter().find_map(|id| id.strip_prefix(OWNER)).map(str::to_owned);
        let owner = match owner.filter(|_| record.is_complete()) {
            Some(owner) => owner,
            None => {
                // Of a damaged record it is not known what is missing: what was taken under its name is suspect.
                record.unfinished().iter().filter(|id| id.starts_with(OWNER)).for_each(|id| record.end(id));
                let owner = format!("{:016x}", rand::random::<u64>());
                let begun = record.begin(&format!("{OWNER}{owner}")).await;
                if let Err(error) = begun {
                    tracing::warn!(%error, "the record of jobs gets no name: after a restart, what was taken is unknown");
                }
                owner
            }
        };
        unfinished.retain(|id| {
            let kept = stored(id).is_none_or(|stored| stored >= oldest);
            if !kept {
                record.end(id);
            }
            kept
        });
        let answered = record.unfinished().iter().filter(|id| unfinished.contains(*id));
        let ended = answered.filter_map(|id| id.strip_suffix(ANSWERED)).map(str::to_owned).collect();
        Self { record, owner, open: RefCell::new(unfinished), ended: RefCell::new(ended) }
    }

    /// The name of the record. Another one knows nothing of the jobs that were taken under this name.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Writes that this job may be sent from now on.
    ///
    /// # Errors
    /// `Rejected` with 507 if it cannot be written: the job must not be sent.
    pub async fn begin(&self, job: &str) -> Result<(), Error> {
        self.open.borrow_mut().insert(job.to_owned());
        let begun = self.record.begin(job).await;
        begun.map_err(|error| Error::rejected(Code::SpoolFull, error.to_string()))
    }

    /// Whether the job may have been sent, in this run or before.
    pub fn is_open(&self, job: &str) -> bool {
        self.open.borrow().contains(job)
    }

    /// The job was certainly not sent.
    pub fn withdraw(&self, job: &str) {
        self.open.borrow_mut().remove(job);
        self.record.end(job);
    }

    /// The result of the job is stored. If that cannot be written, the stream of results still refuses a second one for
    /// some minutes.
    pub async fn answer(&self, job: &str) {
        let _ = self.begin(&answered(job)).await;
    }

    /// Whether the result of the job is stored.
    pub fn is_answered(&self, job: &str) -> bool {
        self.is_open(&answered(job)) || self.ended.borrow().iter().any(|ended| ended == job)
    }

    /// The job is not in the work queue any more.
    pub fn end(&self, job: &str) {
        self.withdraw(job);
        let mut ended = self.ended.borrow_mut();
        if ended.iter().any(|ended| ended == job) {
            return;
        }
        ended.push_back(job.to_owned());
        if ended.len() > ENDED
            && let Some(oldest) = ended.pop_front()
        {
            self.withdraw(&answered(&oldest));
        }
    }
}

fn answered(job: &str) -> String {
    format!("{job}{ANSWERED}")
}

/// When the stream has stored a job, from its key ([`Delivery::key`](super::Delivery::key)).
fn stored(key: &str) -> Option<i128> {
    i128::from_str_radix(key.split_once('-')?.0, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use pontoon_testkit::{Dir, until_some};

    use super::*;
    use crate::disk::Directory;
    use crate::settings::Durability;

    async fn in_folder(root: &Path, oldest: i128) -> JobIntents {
        // The one before ends in a moment.
        let opened = async || Directory::open(root, "sub0.shop").ok();
        let directory = Arc::new(until_some(Duration::from_secs(30), opened).await);
        let record = Intents::open(Some(directory), Durability::Power).await.unwrap();
        JobIntents::new(Rc::new(record), oldest).await
    }

    #[tokio::test(flavor = "local")]
    async fn what_was_begun_answered_and_ended_is_known_after_a_crash() {
        let root = Dir::new("jobs");
        let first = in_folder(root.path(), 0).await;
        for job in ["a-1", "b-2", "c-3", "d-4", "5-5"] {
            first.begin(job).await.unwrap();
        }
        first.answer("b-2").await;
        first.answer("c-3").await;
        first.end("c-3");
        first.withdraw("d-4");
        assert!(first.is_answered("c-3") && !first.is_answered("a-1") && first.is_open("a-1"));
        first.record.written().await.unwrap();
        let owner = first.owner().to_owned();
        drop(first);
        let second = in_folder(root.path(), 6).await;
        assert_eq!(second.owner(), owner);
        let known = |job| (second.is_open(job), second.is_answered(job));
        assert_eq!(
            ["a-1", "b-2", "c-3", "d-4", "5-5"].map(known),
            [(true, false), (true, true), (false, true), (false, false), (false, false)]
        );
        second.end("b-2");
        assert!(second.is_answered("b-2") && !second.is_open("b-2"));
        second.record.written().await.unwrap();
        drop(second);
        assert!(in_folder(root.path(), 6).await.is_answered("b-2"), "a killed server may deliver it again");
    }

    #[tokio::test(flavor = "local")]
    async fn a_record_in_memory_has_another_name_in_each_run_and_its_memory_is_bounded() {
        let intents = JobIntents::new(Rc::default(), 0).await;
        assert_ne!(JobIntents::new(Rc::default(), 0).await.owner(), intents.owner());
        intents.end("a-1");
        for number in 0..ENDED {
            intents.end(&format!("b-{number}"));
        }
        assert!(!intents.is_answered("a-1") && intents.is_answered("b-0"));
    }
}
