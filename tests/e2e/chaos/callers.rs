//! Callers that send commands and jobs all the time, and what they may have claimed: no reply and no result claims more than
//! the service has seen, and each job has one result.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, sleep, timeout};

/// How often a command and a job are sent.
const EVERY: Duration = Duration::from_millis(100);
/// How long a caller waits for a reply, and a publisher of a job for the confirmation.
const ANSWER: Duration = Duration::from_secs(3);
/// How many callers wait at once.
const AT_ONCE: usize = 64;
/// How long the jobs may take once all faults are over.
const JOBS: Duration = Duration::from_secs(120);

pub(crate) struct Callers {
    sending: JoinHandle<()>,
    log: Arc<Mutex<Log>>,
}

/// What the callers know.
#[derive(Debug, Default)]
struct Log {
    /// The status of the reply to each command; `None` if there was none.
    commands: Vec<Option<String>>,
    /// Whether each job was confirmed by the stream.
    jobs: Vec<bool>,
}

/// What was done, by the service's account: commands and jobs by their numbers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Done {
    pub(crate) commands: HashMap<u64, usize>,
    pub(crate) jobs: HashMap<u64, usize>,
}

/// What came of the commands and the jobs.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) commands: usize,
    pub(crate) jobs: usize,
    /// How many jobs the queue still held, each with its result or without.
    pub(crate) left: usize,
    pub(crate) outcomes: BTreeMap<String, usize>,
    pub(crate) wrong: Vec<String>,
}

impl Callers {
    /// Sends to the instance `shop`.
    pub(crate) fn start(client: Client) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let sending = tokio::spawn(send(client, log.clone()));
        Self { sending, log }
    }

    /// Stops, waits until no job is left, but not without end, and judges what was claimed.
    pub(crate) async fn judge(self, client: &Client, done: impl FnOnce() -> Done) -> Calls {
        self.sending.abort();
        let _ = self.sending.await;
        let jetstream = jetstream::new(client.clone());
        let (end, mut left) = (Instant::now() + JOBS, u64::MAX);
        while left > 0 && Instant::now() < end {
            sleep(Duration::from_millis(100)).await;
            let stream = jetstream.get_stream("PONTOON_JOBS").await;
            left = stream.map_or(u64::MAX, |stream| stream.cached_info().state.messages);
        }
        let results = results(&jetstream).await;
        let log = std::mem::take(&mut *self.log.lock().expect("no thread panics with it"));
        Calls { left: usize::try_from(left).unwrap_or(usize::MAX), ..judge(&log, &results, &done()) }
    }
}

async fn send(client: Client, log: Arc<Mutex<Log>>) {
    let jetstream = jetstream::new(client.clone());
    let (mut ticks, mut waiting) = (interval(EVERY), JoinSet::new());
    loop {
        ticks.tick().await;
        while waiting.try_join_next().is_some() {}
        if waiting.len() >= AT_ONCE {
            continue;
        }
        let number = {
            let mut log = log.lock().expect("no thread panics with it");
            log.commands.push(None);
            log.jobs.push(false);
            log.jobs.len() - 1
        };
        let (caller, answers) = (client.clone(), log.clone());
        waiting.spawn(async move {
            let body = json!({ "command": number }).to_string();
            let (subject, inbox) = ("pontoon.command.sub0.shop.call.commands", caller.new_inbox());
            let reply = async {
                let mut replies = caller.subscribe(inbox.clone()).await.ok()?;
                caller.publish_with_reply(subject, inbox, body.into()).await.ok()?;
                replies.next().await
            };
            let Ok(Some(reply)) = timeout(ANSWER, reply).await else { return };
            // Without a status it is from the server: there is no subscriber just now.
            let status = reply.headers.as_ref().and_then(|headers| headers.get("Pontoon-Status"));
            let status = status.map(|status| status.as_str().to_owned());
            answers.lock().expect("no thread panics with it").commands[number] = status;
        });
        let (publisher, confirmed) = (jetstream.clone(), log.clone());
        waiting.spawn(async move {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("job-{number}"));
            headers.insert("Pontoon-Expires", "1h");
            let body = json!({ "job": number }).to_string();
            let subject = "pontoon.job.sub0.shop.call.jobs";
            let stored = async { publisher.publish_with_headers(subject, headers, body.into()).await?.await };
            if matches!(timeout(ANSWER, stored).await, Ok(Ok(_))) {
                confirmed.lock().expect("no thread panics with it").jobs[number] = true;
            }
        });
    }
}

/// The statuses of all results, by the number of the job.
async fn results(jetstream: &jetstream::Context) -> HashMap<usize, Vec<String>> {
    let stream = jetstream.get_stream("PONTOON_RESULTS").await.expect("the stream is there");
    let number = stream.cached_info().state.messages;
    let consumer = stream.create_consumer(OrderedConfig::default()).await.expect("a consumer");
    let mut messages = consumer.messages().await.expect("messages");
    let mut results: HashMap<usize, Vec<String>> = HashMap::new();
    for _ in 0..number {
        let message = timeout(ANSWER * 10, messages.next()).await.expect("in time").expect("more");
        let headers = message.expect("a message").headers.clone().unwrap_or_default();
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        let id = header("Pontoon-Job").expect("an id");
        let job = id.strip_prefix("job-").and_then(|number| number.parse().ok()).expect("one of ours");
        results.entry(job).or_default().push(header("Pontoon-Status").expect("a status"));
    }
    results
}

fn judge(log: &Log, results: &HashMap<usize, Vec<String>>, done: &Done) -> Calls {
    let mut calls = Calls { commands: log.commands.len(), jobs: log.jobs.len(), ..Calls::default() };
    for (number, status) in log.commands.iter().enumerate() {
        let times = done.commands.get(&(number as u64)).copied().unwrap_or(0);
        let status = status.as_deref().unwrap_or("no reply");
        calls.add("command", number, status, times);
    }
    for (number, stored) in log.jobs.iter().enumerate() {
        let times = done.jobs.get(&(number as u64)).copied().unwrap_or(0);
        match results.get(&number).map(Vec::as_slice).unwrap_or_default() {
            [status] => calls.add("job", number, status, times),
            // The confirmation was lost, or the job was never stored.
            [] if !stored && times == 0 => {}
            other => {
                calls.wrong.push(format!("job {number}, stored: {stored}, done {times} times, has {other:?}"))
            }
        }
    }
    calls
}

impl Calls {
    /// One that was done so often ended so.
    fn add(&mut self, kind: &str, number: usize, status: &str, times: usize) {
        *self.outcomes.entry(format!("{kind} {status}")).or_default() += 1;
        let is_true = match status {
            "response" => times == 1,
            "rejected" | "failed" | "expired" => times == 0,
            "unknown" | "no reply" => times <= 1,
            _ => false,
        };
        if !is_true {
            self.wrong.push(format!("{kind} {number} was done {times} times and is {status}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_compared_with_what_the_service_has_seen() {
        for (status, times, is_true) in [
            ("response", 1, true),
            ("response", 0, false),
            ("response", 2, false),
            ("failed", 0, true),
            ("failed", 1, false),
            ("unknown", 0, true),
            ("unknown", 1, true),
            ("unknown", 2, false),
            ("odd", 0, false),
        ] {
            let log = Log { commands: vec![Some(status.to_owned())], jobs: vec![true] };
            let results = HashMap::from([(0, vec![status.to_owned()])]);
            let all = HashMap::from([(0, times)]);
            let wrong = judge(&log, &results, &Done { commands: all.clone(), jobs: all }).wrong;
            assert_eq!(wrong.is_empty(), is_true, "{status} {times}: {wrong:?}");
        }
        let of = |stored, results: &[&str], times| {
            let results = results.iter().map(|status| (*status).to_owned()).collect();
            let done = Done { jobs: HashMap::from([(0, times)]), ..Done::default() };
            judge(&Log { commands: Vec::new(), jobs: vec![stored] }, &HashMap::from([(0, results)]), &done)
                .wrong
                .len()
        };
        assert_eq!(
            [of(true, &[], 0), of(false, &[], 0), of(false, &[], 1), of(true, &["unknown"; 2], 1)],
            [1, 0, 1, 1]
        );
    }
}
