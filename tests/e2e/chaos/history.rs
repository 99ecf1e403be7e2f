//! What happened to one instance in a run: what the service sent, what the streams hold, what broke, and how the clock of
//! the daemon went.

/// Microseconds since 1970.
pub(crate) type Micros = i64;

/// Everything that the oracle judges by. Times are those of the machine unless a field's comment names another clock.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The events that the service sent, by their number.
    pub(crate) sent: Vec<Sent>,
    /// What the stream holds at the end, in its order.
    pub(crate) stored: Vec<Stored>,
    /// What may have cost events, in the order of time.
    pub(crate) breaks: Vec<Break>,
    /// The clock of the daemon.
    pub(crate) clock: DaemonClock,
    /// Whether what was accepted outlives the daemon.
    pub(crate) on_disk: bool,
    /// When what was read was in memory only, as there was no room on the disk.
    pub(crate) disk_full: Vec<(Micros, Micros)>,
    /// `delivery.overflow`, where the buffer was small.
    pub(crate) overflow: Option<&'static str>,
}

/// When the daemon can have read an event: not before it was sent, and not after the daemon answered a ping that was sent
/// behind it, or after the connection ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// Not before.
    pub(crate) earliest: Micros,
    /// Not after.
    pub(crate) latest: Micros,
    /// Whether the daemon must have accepted it: it has read so many later ones.
    pub(crate) accepted: bool,
}

/// A message of the stream.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The start of the instance that published it: the first part of `ce-id`.
    pub(crate) epoch: u64,
    /// `ce-sequence`, which sorts as text.
    pub(crate) sequence: String,
    /// When the server stored it.
    pub(crate) at: Micros,
    /// What it is.
    pub(crate) content: Content,
}

/// What a message of the stream is.
#[derive(Debug)]
pub(crate) enum Content {
    /// The event with this number.
    Event(usize),
    /// A `gap.detected`.
    Gap(Gap),
    /// A service's answer to a command or a job.
    Answer,
    /// An event of another type, which no service here sends.
    Other(String),
}

/// The fields of a `gap.detected`. Its times are those of the daemon's clock.
#[derive(Debug, Clone)]
pub(crate) struct Gap {
    /// `reason`
    pub(crate) reason: String,
    /// `from`; without it, the gap covers everything before `to`.
    pub(crate) from: Option<Micros>,
    /// `to`
    pub(crate) to: Micros,
}

/// Something that may cost events, and so explains a gap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Break {
    /// What it was.
    pub(crate) cause: Cause,
    /// When it began, at the earliest.
    pub(crate) at: Micros,
}

/// The causes of gaps. A full buffer is not among them: its gap is explained by what is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The daemon was started for the first time. Whether it was the first, the daemon cannot know: a gap from its
    /// beginning on is due where the stream holds nothing.
    FirstStart,
    /// The daemon was started again; what it had not published is lost.
    Restart,
    /// The connection to the service was broken.
    Link,
    /// The stream was deleted.
    Stream,
}

/// How far the daemon's clock is ahead of the machine's, over time.
#[derive(Debug, Clone)]
pub(crate) struct DaemonClock(Vec<Offset>);

#[derive(Debug, Clone)]
struct Offset {
    /// It may apply from here on.
    maybe: Micros,
    /// It applies for certain from here on, and the one before it no more.
    certainly: Micros,
    ahead: Micros,
}

impl Default for DaemonClock {
    /// A clock that goes as the machine's does.
    fn default() -> Self {
        Self(vec![Offset { maybe: Micros::MIN, certainly: Micros::MIN, ahead: 0 }])
    }
}

impl DaemonClock {
    /// The clock was set, at some moment between these two.
    pub(crate) fn set(&mut self, before: Micros, after: Micros, ahead: Micros) {
        self.0.push(Offset { maybe: before, certainly: after, ahead });
    }

    /// Whether it is the machine's.
    pub(crate) fn is_true(&self) -> bool {
        self.0.len() == 1
    }

    /// What it can have shown in this time, as one or more intervals.
    pub(crate) fn readings(
        &self,
        earliest: Micros,
        latest: Micros,
    ) -> impl Iterator<Item = (Micros, Micros)> + '_ {
        let ends = self.0.iter().skip(1).map(|next| next.certainly).chain([Micros::MAX]);
        self.0.iter().zip(ends).filter_map(move |(offset, end)| {
            let (from, to) = (earliest.max(offset.maybe), latest.min(end));
            (from <= to).then_some((from + offset.ahead, to + offset.ahead))
        })
    }

    /// Whether it was set in this time.
    pub(crate) fn was_set(&self, earliest: Micros, latest: Micros) -> bool {
        self.0.iter().skip(1).any(|offset| offset.certainly >= earliest && offset.maybe <= latest)
    }
}

impl History {
    /// Gaps and breaks, and the times of the first and the last of these events.
    pub(crate) fn show(&self, events: &[usize]) -> String {
        let mut lines = Vec::new();
        for (place, stored) in self.stored.iter().enumerate() {
            if let Content::Gap(gap) = &stored.content {
                lines.push(format!("  {place}: {gap:?}, stored at {}, epoch {}", stored.at, stored.epoch));
            }
        }
        lines.extend(self.breaks.iter().map(|cause| format!("  {cause:?}")));
        lines.extend(
            events.first().into_iter().chain(events.last()).map(|n| format!("  {n}: {:?}", self.sent[*n])),
        );
        lines.join("\n")
    }
}
