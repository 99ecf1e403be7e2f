//! Judges a history: every event that was sent and that the stream lacks lies inside a gap, every gap has a cause, and
//! nothing is stored twice or out of order.
//!
//! An event that was lost can have been read at any moment of a known interval, which is short as long as the daemon
//! reads: it ends with the answer to the next ping. A gap covers the event if the two have a moment in common. That holds
//! for every daemon that keeps the promise, however slow the machine is. A daemon that begins a gap later than its first
//! lost event was read fails for the events that it had read well before.
//!
//! Where the daemon's clock was set meanwhile, times prove little: there, a gap that stands in the place of the event, behind
//! all stored events that were sent before it and in front of those that were sent after it, covers it too.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use super::history::{Break, Cause, Content, Gap, History, Micros, Sent, Stored};

/// Times in gaps are cut to milliseconds, and the two clocks of the machine (the one that jumps and the one that does not)
/// part by a few milliseconds in a run.
const TOLERANCE: Micros = 5_000;
/// How long after the request a stream is deleted, at most.
const DELETION: Micros = 1_000_000;

/// What is found in a history.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// How many events the service sent.
    pub(crate) sent: usize,
    /// How many the daemon has accepted, as far as it is known.
    pub(crate) accepted: usize,
    /// Those of them that are nowhere, though no one has deleted them.
    pub(crate) lost: Vec<usize>,
    /// How many of them the stream holds.
    pub(crate) stored: usize,
    /// How many it lacks and a gap covers.
    pub(crate) covered: usize,
    /// Those that it lacks and no gap covers.
    pub(crate) uncovered: Vec<usize>,
    /// Those that it holds more than once.
    pub(crate) doubled: Vec<usize>,
    /// Those that it holds behind one that was sent later.
    pub(crate) reordered: Vec<usize>,
    /// How many gaps it holds.
    pub(crate) gaps: usize,
    /// What is wrong with gaps: those without a cause, and those that are impossible.
    pub(crate) bad_gaps: Vec<String>,
    /// What else is wrong.
    pub(crate) other: Vec<String>,
}

impl Verdict {
    /// Whether the promise was kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.uncovered.is_empty()
            && self.lost.is_empty()
            && self.doubled.is_empty()
            && self.reordered.is_empty()
            && self.bad_gaps.is_empty()
            && self.other.is_empty()
    }
}

/// Judges a history.
pub(crate) fn authorize(history: &History) -> Verdict {
    let mut verdict = Verdict { sent: history.sent.len(), ..Verdict::default() };
    let places = order(history, &mut verdict);
    accepted(history, &places, &mut verdict);
    let lost = lost(history, &places, &mut verdict);
    gaps(history, &lost, &mut verdict);
    verdict
}

/// Where the stream holds each event.
fn order(history: &History, verdict: &mut Verdict) -> Vec<Option<usize>> {
    let mut places = vec![None; history.sent.len()];
    let (mut newest, mut sequence) = (None, "");
    for (place, stored) in history.stored.iter().enumerate() {
        if *sequence >= *stored.sequence {
            verdict.other.push(format!("ce-sequence {} follows {sequence}", stored.sequence));
        }
        sequence = &stored.sequence;
        match &stored.content {
            Content::Event(number) => match places.get_mut(*number) {
                None => verdict.other.push(format!("event {number} was never sent")),
                Some(Some(_)) => verdict.doubled.push(*number),
                Some(unknown) => {
                    *unknown = Some(place);
                    verdict.stored += 1;
                    if newest > Some(*number) {
                        verdict.reordered.push(*number);
                    }
                    newest = newest.max(Some(*number));
                }
            },
            Content::Gap(_) => verdict.gaps += 1,
            Content::Answer => {}
            Content::Other(kind) => verdict.other.push(format!("an event of type {kind}")),
        }
    }
    places
}

/// The events that were accepted: those that are stored, and on disk those that the daemon has read long before others.
fn accepted(history: &History, places: &[Option<usize>], verdict: &mut Verdict) {
    // What was stored until then is gone. The time is that of the request, and the stream is there for a moment more.
    let deletions = history.breaks.iter().filter(|cause| cause.cause == Cause::Stream);
    let deleted = deletions.map(|cause| cause.at + DELETION).max().unwrap_or(Micros::MIN);
    for (number, sent) in history.sent.iter().enumerate() {
        let is_full = history.disk_full.iter().any(|(from, to)| sent.latest >= *from && sent.earliest <= *to);
        let is_kept = history.on_disk && history.overflow.is_none() && sent.accepted && !is_full;
        let is_stored = places[number].is_some();
        verdict.accepted += usize::from(is_stored || is_kept);
        if is_kept && !is_stored && sent.earliest > deleted {
            verdict.lost.push(number);
        }
    }
}

/// The events that the stream lacks, each judged.
fn lost(history: &History, places: &[Option<usize>], verdict: &mut Verdict) -> Vec<Sent> {
    let gaps: Vec<_> = history.gaps().collect();
    // For each event, where the next stored event stands.
    let mut after = vec![history.stored.len(); places.len() + 1];
    for number in (0..places.len()).rev() {
        after[number] = places[number].unwrap_or(after[number + 1]);
    }
    let mut lost = Vec::new();
    let (mut before, mut since) = (None, Micros::MIN);
    for (number, sent) in history.sent.iter().enumerate() {
        if let Some(place) = places[number] {
            (before, since) = (before.max(Some(place)), sent.earliest);
            continue;
        }
        lost.push(*sent);
        let in_place = |place: usize, stored: &Stored| {
            history.clock.was_set(since, stored.at) && Some(place) > before && place < after[number]
        };
        let covers = |(place, stored, gap): &(usize, &Stored, &Gap)| {
            history.overlap(gap, sent) || in_place(*place, stored)
        };
        if gaps.iter().any(covers) {
            verdict.covered += 1;
        } else {
            verdict.uncovered.push(number);
        }
    }
    lost
}

/// Finds a cause for each gap. A cause explains one gap.
fn gaps(history: &History, lost: &[Sent], verdict: &mut Verdict) {
    let mut unused: Vec<Break> = history.breaks.clone();
    let mut earlier = HashSet::new();
    for stored in &history.stored {
        let Content::Gap(gap) = &stored.content else {
            if matches!(stored.content, Content::Event(_)) {
                earlier.insert(stored.epoch);
            }
            continue;
        };
        // Whether nothing from an earlier start stands in front of it: only then was it a start that found no events.
        let is_first = earlier.iter().all(|epoch| *epoch == stored.epoch);
        // What an earlier start recorded is not a beginning once the clock was set back.
        let may_be_unknown = is_first || history.clock.was_set(Micros::MIN, stored.at);
        let explains = |cause: Cause| match gap.reason.as_str() {
            "disconnected" => cause == Cause::Link,
            "restarted" | "stream_reset" => match cause {
                Cause::FirstStart => gap.from.is_none() && is_first,
                Cause::Restart => gap.from.is_some() || may_be_unknown,
                Cause::Stream => true,
                Cause::Link => false,
            },
            _ => false,
        };
        let fits = |cause: &Break| cause.at <= stored.at + TOLERANCE && explains(cause.cause);
        // A deletion and a restart may have a gap each.
        let is_reset = gap.reason == "stream_reset";
        let own = unused.iter().position(|cause| (cause.cause == Cause::Stream) == is_reset && fits(cause));
        let cause = own.or_else(|| unused.iter().position(fits));
        let cause = cause.map(|cause| unused.remove(cause));
        // A full buffer is a cause if it has cost anything.
        let is_full = match gap.reason.as_str() {
            "overflow" => history.overflow.is_some(),
            "disconnected" => history.overflow == Some("disconnect"),
            _ => false,
        };
        let costs = || is_full && lost.iter().any(|sent| history.overlap(gap, sent));
        if cause.is_none() && !costs() {
            verdict.bad_gaps.push(format!("{gap:?} has no cause"));
        }
        if gap.from.is_some_and(|from| from > gap.to) {
            verdict.bad_gaps.push(format!("{gap:?} ends before it begins"));
        }
        if history.clock.is_true() && gap.to > stored.at + TOLERANCE {
            verdict.bad_gaps.push(format!("{gap:?} ends after it was stored, at {}", stored.at));
        }
    }
}

impl History {
    fn gaps(&self) -> impl Iterator<Item = (usize, &Stored, &Gap)> {
        self.stored.iter().enumerate().filter_map(|(place, stored)| match &stored.content {
            Content::Gap(gap) => Some((place, stored, gap)),
            _ => None,
        })
    }

    /// Whether the event can have been read within the gap.
    fn overlap(&self, gap: &Gap, sent: &Sent) -> bool {
        self.clock.readings(sent.earliest, sent.latest).any(|(earliest, latest)| {
            gap.to + TOLERANCE >= earliest && gap.from.is_none_or(|from| from <= latest + TOLERANCE)
        })
    }
}
