//! Histories made by hand: which the oracle must let pass, and which it must not.

use super::*;
use crate::chaos::history::DaemonClock;

const MS: Micros = 1_000;

/// A history in which event number `n` was sent at `n` x 10 ms and read within 2 ms.
struct Story {
    history: History,
    epoch: u64,
}

impl Story {
    fn sent(number: usize) -> Self {
        let sent = |n: usize| {
            let earliest = n as Micros * 10 * MS;
            Sent { earliest, latest: earliest + 2 * MS, accepted: false }
        };
        let mut story = Self { history: History::default(), epoch: 1 };
        story.history.sent = (0..number).map(sent).collect();
        story.broken(Cause::FirstStart, -100)
    }

    fn push(mut self, at: Micros, content: Content) -> Self {
        let sequence = format!("{:03}-{:05}", self.epoch, self.history.stored.len());
        self.history.stored.push(Stored { epoch: self.epoch, sequence, at: at * MS, content });
        self
    }

    /// These events stand in the stream, stored soon after they were sent.
    fn stored(self, numbers: impl IntoIterator<Item = usize>) -> Self {
        numbers
            .into_iter()
            .fold(self, |story, number| story.push(number as Micros * 10 + 3, Content::Event(number)))
    }

    /// A gap stands in the stream, stored when it ends.
    fn gap(self, reason: &str, from: Option<Micros>, to: Micros) -> Self {
        let gap = Gap { reason: reason.into(), from: from.map(|from| from * MS), to: to * MS };
        self.push(to, Content::Gap(gap))
    }

    fn broken(mut self, cause: Cause, at: Micros) -> Self {
        self.history.breaks.push(Break { cause, at: at * MS });
        self
    }

    /// The daemon was killed and started, so that the instance has a new epoch.
    fn restarted(mut self, at: Micros) -> Self {
        self.epoch += 1;
        self.broken(Cause::Restart, at)
    }

    /// The daemon's clock was set at this time.
    fn clock(mut self, at: Micros, ahead: Micros) -> Self {
        self.history.clock.set(at * MS, at * MS + MS, ahead * MS);
        self
    }

    fn verdict(&self) -> Verdict {
        authorize(&self.history)
    }

    #[track_caller]
    fn passes(&self) {
        let verdict = self.verdict();
        assert!(verdict.is_kept(), "{verdict:?}");
    }

    #[track_caller]
    fn misses(&self, numbers: impl IntoIterator<Item = usize>) {
        let verdict = self.verdict();
        assert_eq!(verdict.uncovered, numbers.into_iter().collect::<Vec<_>>(), "{verdict:?}");
    }

    #[track_caller]
    fn has_a_bad_gap(&self) {
        let verdict = self.verdict();
        assert_eq!((verdict.bad_gaps.len(), verdict.uncovered.len()), (1, 0), "{verdict:?}");
    }
}

#[test]
fn everything_stored_in_order_passes_with_and_without_a_gap_at_the_very_first_start() {
    Story::sent(10).stored(0..10).passes();
    Story::sent(10).gap("restarted", None, -50).stored(0..10).passes();
    Story::sent(10).stored(0..3).gap("restarted", None, 25).stored(3..10).passes();
}

#[test]
fn an_event_without_a_gap_is_missed() {
    Story::sent(10).stored((0..10).filter(|n| *n != 4)).misses([4]);
    Story::sent(10).stored(0..7).restarted(75).misses(7..10);
    Story::sent(5).misses(0..5);
}

#[test]
fn a_gap_from_the_last_event_that_is_stored_covers_what_was_read_after_it() {
    Story::sent(20).stored(0..5).restarted(95).gap("restarted", Some(41), 120).stored(12..20).passes();
}

#[test]
fn a_gap_that_begins_when_the_last_event_was_stored_misses_what_was_read_before() {
    // NATS was frozen from 30 to 90 ms; event 3 was read at 30 and stored at 91.
    let story = Story::sent(20).stored(0..4).restarted(95).gap("restarted", Some(91), 120).stored(12..20);
    story.misses(4..9);
}

#[test]
fn a_gap_that_ends_too_soon_misses_what_came_after_it() {
    let story = Story::sent(20).stored(0..5).restarted(60).gap("restarted", Some(40), 70).stored(12..20);
    story.misses(8..12);
}

#[test]
fn an_event_that_may_have_waited_in_the_socket_is_covered_by_a_gap_that_begins_later() {
    let mut story =
        Story::sent(10).stored(0..5).broken(Cause::Link, 90).gap("disconnected", Some(80), 95).stored([9]);
    story.misses([5, 6, 7]);
    for sent in &mut story.history.sent[5..9] {
        sent.latest = 90 * MS;
    }
    story.passes();
}

#[test]
fn a_gap_without_a_beginning_covers_what_was_before_its_end_and_nothing_behind() {
    let story = Story::sent(20).broken(Cause::Stream, 65).stored(5..8).gap("stream_reset", None, 80);
    story.stored([8, 9, 15, 16, 17, 18, 19]).misses(10..15);
}

#[test]
fn a_gap_without_a_beginning_behind_events_of_an_earlier_start_is_too_wide() {
    let story = |from| Story::sent(10).stored(0..5).restarted(60).gap("restarted", from, 70).stored(8..10);
    story(Some(41)).passes();
    story(None).has_a_bad_gap();
    // Where the stream was new, it is all that can be known.
    Story::sent(10).restarted(60).gap("restarted", None, 70).stored(8..10).passes();
}

#[test]
fn a_gap_needs_a_cause_of_its_kind_that_came_before_it() {
    Story::sent(5).stored(0..5).gap("disconnected", Some(40), 60).has_a_bad_gap();
    Story::sent(5).stored(0..5).gap("restarted", Some(40), 60).has_a_bad_gap();
    Story::sent(5).stored(0..5).gap("internal", Some(40), 60).broken(Cause::Link, 45).has_a_bad_gap();
    Story::sent(5).stored(0..5).gap("disconnected", Some(40), 60).broken(Cause::Stream, 45).has_a_bad_gap();
    Story::sent(5).stored(0..5).gap("disconnected", Some(40), 60).broken(Cause::Link, 80).has_a_bad_gap();
    Story::sent(5).stored(0..5).gap("disconnected", Some(40), 60).broken(Cause::Link, 45).passes();
}

#[test]
fn a_cause_explains_one_gap() {
    let story = Story::sent(5).stored(0..5).broken(Cause::Link, 45).gap("disconnected", Some(40), 60);
    story.gap("disconnected", Some(40), 61).has_a_bad_gap();
}

#[test]
fn a_deletion_while_the_daemon_was_down_and_its_restart_have_a_gap_each() {
    let story = Story::sent(10).stored(2..4).broken(Cause::Stream, 45).restarted(50);
    story.gap("restarted", Some(31), 60).gap("stream_reset", None, 61).stored(6..10).passes();
}

#[test]
fn a_full_buffer_explains_a_gap_by_what_it_cost() {
    let story = |reason, overflow, numbers: &[usize]| {
        let mut story =
            Story::sent(10).stored(numbers.iter().copied()).gap(reason, Some(40), 60).stored(7..10);
        story.history.overflow = overflow;
        story
    };
    let (some, all) = ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6]);
    story("overflow", Some("drop_newest"), &some).passes();
    story("overflow", Some("drop_newest"), &all).has_a_bad_gap();
    story("overflow", None, &some).has_a_bad_gap();
    story("disconnected", Some("disconnect"), &some).passes();
    story("disconnected", Some("disconnect"), &all).has_a_bad_gap();
    story("disconnected", Some("drop_oldest"), &some).has_a_bad_gap();
}

#[test]
fn a_gap_neither_ends_before_it_begins_nor_after_it_was_stored() {
    let story = Story::sent(5).stored(0..5).broken(Cause::Link, 45).gap("disconnected", Some(60), 50);
    story.has_a_bad_gap();
    let mut story = Story::sent(5).stored(0..5).broken(Cause::Link, 45).gap("disconnected", Some(40), 50);
    story.history.stored[5].at = 43 * MS;
    story.history.breaks[1].at = 42 * MS;
    story.has_a_bad_gap();
}

#[test]
fn doubled_reordered_unknown_and_unsorted_events_are_found() {
    assert_eq!(Story::sent(5).stored([0, 1, 2, 2, 3, 4]).verdict().doubled, [2]);
    assert_eq!(Story::sent(5).stored([0, 2, 1, 3, 4]).verdict().reordered, [1]);
    assert_eq!(Story::sent(5).stored([0, 1, 2, 3, 4, 5]).verdict().other, ["event 5 was never sent"]);
    let mut story = Story::sent(3).stored(0..3);
    story.history.stored[2].sequence = story.history.stored[0].sequence.clone();
    assert_eq!(story.verdict().other.len(), 1);
    let story = Story::sent(1).stored([0]).push(9, Content::Other("pontoon.error.raised.v1".into()));
    assert!(!story.verdict().is_kept());
}

#[test]
fn times_of_a_clock_that_was_set_are_those_of_the_daemon() {
    const HOUR: Micros = 3_600_000;
    // One hour ahead from 20 ms on: the gap is where the events are, in the daemon's time.
    let story = |from, to| {
        let story = Story::sent(20).clock(20, HOUR).stored(0..5).restarted(95);
        let gap = Gap { reason: "restarted".into(), from: Some(from * MS), to: to * MS };
        story.push(120, Content::Gap(gap)).stored(12..20)
    };
    story(HOUR + 41, HOUR + 120).passes();
    story(HOUR + 91, HOUR + 120).misses(5..9);
    story(41, 120).misses(5..12);
}

#[test]
fn where_the_clock_was_set_a_gap_in_the_place_of_the_event_covers_it() {
    const HOUR: Micros = 3_600_000;
    // The clock goes back by an hour while the daemon is down: the end of the gap proves nothing.
    let story = |place: usize| {
        let story = Story::sent(20).stored(0..5).clock(100, -HOUR).restarted(105);
        let gap = Gap { reason: "restarted".into(), from: Some(41 * MS), to: 41 * MS };
        story.stored(12..place).push(120, Content::Gap(gap)).stored(place..20)
    };
    story(12).passes();
    story(13).misses(5..12);
}

#[test]
fn a_clock_that_was_set_at_another_time_excuses_nothing() {
    let story = |at| {
        let story = Story::sent(20).clock(at, 50).stored(0..14).restarted(175);
        let gap = Gap { reason: "restarted".into(), from: Some(240 * MS), to: 250 * MS };
        story.push(200, Content::Gap(gap)).stored([19])
    };
    story(20).misses(14..19);
    story(180).passes();
}

#[test]
fn readings_of_a_clock_that_is_just_being_set_are_both() {
    let mut clock = DaemonClock::default();
    clock.set(100, 110, 1_000);
    let readings = |from, to| clock.readings(from, to).collect::<Vec<_>>();
    assert_eq!(readings(10, 20), [(10, 20)]);
    assert_eq!(readings(90, 105), [(90, 105), (1_100, 1_105)]);
    assert_eq!(readings(120, 130), [(1_120, 1_130)]);
    assert!(clock.was_set(105, 200) && clock.was_set(0, 100) && !clock.was_set(111, 200));
}

#[test]
fn what_was_accepted_and_is_nowhere_is_lost_unless_it_was_deleted() {
    let story = |change: &dyn Fn(&mut History)| {
        let mut story =
            Story::sent(20).stored(0..5).restarted(95).gap("restarted", Some(41), 120).stored(12..20);
        story.history.on_disk = true;
        story.history.sent[6].accepted = true;
        change(&mut story.history);
        (story.verdict().accepted, story.verdict().lost)
    };
    assert_eq!(story(&|_| {}), (14, vec![6]));
    assert_eq!(story(&|history| history.on_disk = false), (13, vec![]));
    assert_eq!(story(&|history| history.disk_full.push((62 * MS, 70 * MS))), (13, vec![]));
    assert_eq!(story(&|history| history.disk_full.push((63 * MS, 70 * MS))), (14, vec![6]));
    let deleted = Break { cause: Cause::Stream, at: 70 * MS };
    assert_eq!(story(&|history| history.breaks.push(deleted)), (14, vec![]));
}
