//! Which of the numbered events were received, in which order, and how late.

use std::time::{Duration, Instant};

/// The first event's number. All have ten digits, so that a frame's length never changes.
pub(crate) const FIRST: u64 = 1_000_000_000;
/// How many digits a number has.
pub(crate) const DIGITS: usize = 10;
/// How much may stand behind the number in a body.
const BEHIND: usize = 16;

/// When each event of a paced run was to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// The number of the first.
    pub(crate) first: u64,
    /// When it was to be sent.
    pub(crate) start: Instant,
    /// How long after it the next was.
    pub(crate) interval: Duration,
}

impl Schedule {
    /// When this event was to be sent; `None` if it is not one of the run.
    pub(crate) fn due(&self, number: u64) -> Option<Instant> {
        let place = number.checked_sub(self.first)?;
        Some(self.start + Duration::from_nanos(self.interval.as_nanos() as u64 * place))
    }
}

/// An event as it is published, to compare what contenders make of the same message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) subject: String,
    /// Names only, sorted.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl Form {
    /// What is different in the other.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        if self.subject != other.subject {
            return Some(format!("subject {} instead of {}", other.subject, self.subject));
        }
        if self.headers != other.headers {
            return Some(format!("headers {:?} instead of {:?}", other.headers, self.headers));
        }
        (self.body != other.body).then(|| format!("body {} instead of {}", other.body, self.body))
    }
}

/// What was received.
#[derive(Debug)]
pub(crate) struct Tally {
    /// One bit for each number from [`FIRST`].
    seen: Vec<u64>,
    /// The highest number of each link; number n is sent over link n modulo their count.
    highest: Vec<u64>,
    pub(crate) distinct: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    /// Without a number.
    pub(crate) strange: u64,
    pub(crate) last_at: Option<Instant>,
    /// That of the first event.
    pub(crate) form: Option<Form>,
    /// The headers of the first event.
    pub(crate) headers: Vec<(String, String)>,
    schedule: Option<Schedule>,
    /// In nanoseconds.
    latencies: Vec<u64>,
}

impl Tally {
    /// Nothing yet, of so many links.
    pub(crate) fn new(links: usize) -> Self {
        Self {
            seen: Vec::new(),
            highest: vec![0; links.max(1)],
            distinct: 0,
            doubled: 0,
            reordered: 0,
            strange: 0,
            last_at: None,
            form: None,
            headers: Vec::new(),
            schedule: None,
            latencies: Vec::new(),
        }
    }

    /// Measures how late events are from now on.
    pub(crate) fn measure(&mut self, schedule: Schedule) {
        self.schedule = Some(schedule);
    }

    /// The body of an event was received at this time.
    pub(crate) fn received(&mut self, body: &[u8], at: Instant) {
        self.last_at = Some(at);
        let Some(number) = number(body).filter(|number| *number >= FIRST) else {
            self.strange += 1;
            return;
        };
        let place = (number - FIRST) as usize;
        let (word, bit) = (place / 64, 1 << (place % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.doubled += 1;
            return;
        }
        self.seen[word] |= bit;
        self.distinct += 1;
        let link = place % self.highest.len();
        let highest = &mut self.highest[link];
        if number < *highest {
            self.reordered += 1;
        }
        *highest = number.max(*highest);
        if let Some(due) = self.schedule.as_ref().and_then(|schedule| schedule.due(number)) {
            self.latencies.push(at.saturating_duration_since(due).as_nanos() as u64);
        }
    }

    /// A header of the first event.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What is wrong, if anything is, where so many events were sent.
    pub(crate) fn fault(&self, sent: u64) -> Option<String> {
        let lost = sent.saturating_sub(self.distinct);
        let faults = [
            (lost, "lost"),
            (self.doubled, "doubled"),
            (self.reordered, "reordered"),
            (self.strange, "without a number"),
        ];
        let faults: Vec<_> = faults
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!faults.is_empty()).then(|| faults.join(", "))
    }

    /// The latencies that were measured, in microseconds, sorted.
    pub(crate) fn latencies(&self) -> Vec<f64> {
        sorted(self.latencies.iter().map(|nanoseconds| *nanoseconds as f64 / 1e3).collect())
    }
}

/// Sorts figures.
pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which this part of the sorted values is, 0 to 1; 0 if there are none.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(place).copied().unwrap_or_default()
}

/// The number of an event: the last digits of its body, whatever stands behind them.
pub(crate) fn number(body: &[u8]) -> Option<u64> {
    let behind = body.iter().rev().take(BEHIND).position(u8::is_ascii_digit)?;
    let end = body.len() - behind;
    let digits = body.get(end.checked_sub(DIGITS)?..end)?;
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(links: usize, numbers: &[u64]) -> Tally {
        let mut tally = Tally::new(links);
        for number in numbers {
            tally.received(format!("{{\"x\":{}}}", FIRST + number).as_bytes(), Instant::now());
        }
        tally
    }

    #[test]
    fn a_number_is_found_in_every_form() {
        assert_eq!(number(br#"{"raw":{"text":"7","x":1000000123}}"#), Some(FIRST + 123));
        assert_eq!(number(br#"{"raw":"{\"x\":1000000123}"}"#), Some(FIRST + 123));
        assert_eq!(number(br#"{"x":123}"#), None);
        assert_eq!(number(b"{}"), None);
    }

    #[test]
    fn what_is_lost_doubled_and_reordered_is_counted() {
        assert_eq!(tally(1, &[0, 1, 2]).fault(3), None);
        assert_eq!(tally(1, &[0, 2]).fault(3).unwrap(), "1 lost");
        assert_eq!(tally(1, &[0, 1, 1, 2]).fault(3).unwrap(), "1 doubled");
        assert_eq!(tally(1, &[0, 2, 1]).fault(3).unwrap(), "1 reordered");
    }

    #[test]
    fn order_holds_for_each_link() {
        assert_eq!(tally(2, &[1, 0, 3, 2]).fault(4), None);
        assert_eq!(tally(2, &[1, 2, 3, 0]).fault(4).unwrap(), "1 reordered");
    }

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 0.99), 3.0);
    }
}
