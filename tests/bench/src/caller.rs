//! Requests on NATS: so many at a time, each answered before its place makes the next.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::nats::Connection;
use crate::tally::{DIGITS, FIRST, number, sorted};

/// How long answers may take.
const PATIENCE: Duration = Duration::from_secs(10);
const INBOX: &str = "_INBOX.bench";

/// What came of it.
pub(crate) struct Calls {
    pub(crate) count: u64,
    took: Duration,
    /// In microseconds, sorted.
    pub(crate) latencies: Vec<f64>,
    /// What is wrong, if anything is.
    pub(crate) fault: Option<String>,
}

impl Calls {
    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// One request at a time.
struct Slot {
    number: u64,
    sent: Option<Instant>,
}

/// Makes requests for so long, and waits for all answers. `expected` is a header that each must have.
pub(crate) fn call(
    nats: SocketAddr,
    subject: &str,
    in_flight: usize,
    time: Duration,
    expected: &[u8],
) -> io::Result<Calls> {
    let mut connection = Connection::subscribe(nats, &[&format!("{INBOX}.*")])?;
    let mut slots: Vec<Slot> = (0..in_flight).map(|_| Slot { number: 0, sent: None }).collect();
    let mut free: Vec<usize> = (0..in_flight).collect();
    let (mut next, mut count, mut wrong) = (FIRST, 0, 0);
    let mut latencies = Vec::new();
    let mut lines = Vec::new();
    let start = Instant::now();
    let mut last = start;
    loop {
        let now = Instant::now();
        if now.duration_since(start) < time {
            lines.clear();
            for place in free.drain(..) {
                let body = body(next);
                write!(lines, "PUB {subject} {INBOX}.{place} {}\r\n{body}\r\n", body.len())?;
                slots[place] = Slot { number: next, sent: Some(now) };
                next += 1;
            }
            connection.send(&lines)?;
        } else if free.len() == in_flight || now.duration_since(last) > PATIENCE {
            break;
        }
        connection.receive(|message, at| {
            let place = message.subject.rsplit(|byte| *byte == b'.').next();
            let place = place.and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok());
            let Some((place, slot)) = place.and_then(|place| Some((place, slots.get_mut(place)?))) else {
                return;
            };
            let Some(sent) = slot.sent.take() else {
                // A second answer.
                wrong += 1;
                return;
            };
            let has_header = message.headers.windows(expected.len()).any(|at| at == expected);
            if number(message.body) != Some(slot.number) || !has_header {
                wrong += 1;
            }
            latencies.push(at.saturating_duration_since(sent).as_nanos() as f64 / 1e3);
            count += 1;
            last = at;
            free.push(place);
        })?;
    }
    let missing = slots.iter().filter(|slot| slot.sent.is_some()).count();
    let fault = (missing + wrong > 0).then(|| format!("{missing} without an answer, {wrong} wrong answers"));
    Ok(Calls { count, took: last.duration_since(start), latencies: sorted(latencies), fault })
}

/// Answers requests without any service, to see how fast the caller and the server are. Ends with `stop`.
pub(crate) fn answer(
    nats: SocketAddr,
    subject: &str,
    stop: &std::sync::atomic::AtomicBool,
) -> io::Result<()> {
    let mut connection = Connection::subscribe(nats, &[subject])?;
    let mut lines = Vec::new();
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        lines.clear();
        connection.receive(|message, _| {
            lines.extend_from_slice(b"HPUB ");
            lines.extend_from_slice(message.reply);
            let headers = b"NATS/1.0\r\nPontoon-Status: response\r\n\r\n";
            let (headers_size, size) = (headers.len(), headers.len() + message.body.len());
            let _ = write!(lines, " {headers_size} {size}\r\n");
            lines.extend_from_slice(headers);
            lines.extend_from_slice(message.body);
            lines.extend_from_slice(b"\r\n");
        })?;
        connection.send(&lines)?;
    }
    Ok(())
}

/// A request's body, whose last field is its number.
fn body(number: u64) -> String {
    const TEXT: &str = "What is the balance of the account, and since when?";
    debug_assert_eq!(number.to_string().len(), DIGITS);
    format!(r#"{{"method":"balance","params":{{"text":"{TEXT}","x":{number}}}}}"#)
}
