//! Times as RFC 3339 text in UTC. Formatting keeps the second that it wrote last, as events come close together.

use time::OffsetDateTime;

use super::attributes::push_number;

/// Formats times; remembers the last second.
#[derive(Default)]
pub(super) struct Clock {
    second: i64,
    text: String,
}

/// Length of a time up to its seconds.
const SECONDS: usize = "2026-11-21T08:00:00".len();

impl Clock {
    pub(super) fn format(&mut self, time: OffsetDateTime) -> &str {
        if self.text.is_empty() || time.unix_timestamp() != self.second {
            self.second = time.unix_timestamp();
            self.text = seconds(time);
        }
        self.text.truncate(SECONDS);
        self.text.push('.');
        push_number(&mut self.text, time.millisecond().into(), 3);
        self.text.push('Z');
        &self.text
    }
}

/// A time with milliseconds, such as `2026-11-21T08:00:00.123Z`.
pub fn rfc3339(time: OffsetDateTime) -> String {
    Clock::default().format(time).to_owned()
}

/// The time that [`rfc3339`] wrote.
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
}

/// Whether a service's time can be written as RFC 3339 and is not absurd.
pub(super) fn sensible(time: &OffsetDateTime) -> bool {
    (1970..=9998).contains(&time.year())
}

fn seconds(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
}
