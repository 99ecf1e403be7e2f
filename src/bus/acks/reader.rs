//! Reads back what a stream has stored: where an earlier run ended, and which of our events it holds after an error.

use std::collections::BTreeSet;
use std::pin::pin;

use async_nats::jetstream::stream::Info;
use futures_util::{Stream, StreamExt as _, stream};

use crate::bus::jetstream::{JetStream, Stored, StreamError};
use crate::bus::spool::{Position, Spool, WINDOW};

/// How many messages are requested at once.
const READ_AHEAD: usize = 32;
/// How many messages of the stream are read to find what an earlier run has left: more than can have been on the wire.
const RECOVERED: u64 = 4_096;

/// Reads the stream.
pub(super) struct Reader<'a> {
    pub(super) js: JetStream<'a>,
    pub(super) stream: &'a str,
    pub(super) spool: &'a Spool,
    /// Whether other daemons own the instance at other times: their events are not those of strangers.
    pub(super) is_leased: bool,
}

/// What the stream has stored since it was last accounted for.
#[derive(Default)]
pub(super) struct ReadBack {
    /// Messages that are not of this run.
    pub(super) foreign: u64,
    /// Events of ours that will stand behind newer ones.
    pub(super) reordered: u64,
    /// The latest epoch of another writer, if it is later than ours.
    pub(super) later_epoch: Option<u64>,
}

impl Reader<'_> {
    /// The first look at the stream in this run: its last event shows where an earlier run ended. Returns its epoch.
    pub(super) async fn first_look(&self, info: &Info) -> Result<Option<u64>, String> {
        let (mut recorded, mut epoch) = (None, None);
        if info.state.messages > 0 {
            let subject = self.spool.envelope.subjects().all_events();
            let last = self.js.last_message(self.stream, &subject).await;
            if let Some(stored) = last.map_err(|error| self.unreadable(&error))? {
                if let Some((last, _)) = self.id(&stored) {
                    // Also where the clock was set back since: sequences and ids must grow over all runs.
                    self.spool.follow_epoch(last);
                    epoch = Some(last);
                }
                recorded = Some(stored.covered_until());
            }
        }
        self.spool.previous_run(recorded);
        Ok(epoch)
    }

    /// Reads what the stream has stored since, and confirms every event of ours that it holds. Only as many messages are read
    /// as can have been on the wire: an event that was stored stands no further behind.
    pub(super) async fn read_back(&self, accounted: u64, last: u64) -> Result<ReadBack, String> {
        let spool = self.spool;
        let window = u64::try_from(WINDOW).unwrap_or(u64::MAX);
        let end = last.min(accounted.saturating_add(window));
        let beyond = (last > end).then_some(last);
        let (mut newest, mut gone, mut known) = (None, 0_usize, 0_u64);
        let mut read = ReadBack::default();
        let mut messages = pin!(self.messages((accounted + 1..=end).chain(beyond)));
        while let Some(found) = messages.next().await {
            let Some(stored) = found.map_err(|error| self.unreadable(&error))? else {
                gone += 1;
                continue;
            };
            match self.id(&stored) {
                Some(id) if spool.is_own_epoch(id.0) => {
                    known += 1;
                    newest = newest.max(Some(id));
                    spool.confirm_stored(id);
                }
                Some((epoch, _)) if epoch > spool.envelope.epoch() => {
                    read.later_epoch = read.later_epoch.max(Some(epoch))
                }
                Some(_) if self.is_leased => known += 1,
                _ => {}
            }
        }
        let gone_here = u64::try_from(gone).unwrap_or(u64::MAX);
        read.foreign = (last - accounted).saturating_sub(known + gone_here);
        if read.foreign > 0 {
            read.reordered = newest.map_or(0, |newest| spool.passed_over(newest, self.stream));
        } else if gone > 0 {
            self.confirm_gone(newest, gone);
        }
        Ok(read)
    }

    /// There is no other writer, so messages that were stored and are gone again were ours: all before the newest that is
    /// there, or that many of the oldest if none is.
    fn confirm_gone(&self, newest: Option<(u64, u64)>, gone: usize) {
        let spool = self.spool;
        let newest = newest.or_else(|| spool.nth_id(gone - 1));
        while let Some(oldest) = spool.nth_id(0).filter(|oldest| Some(*oldest) <= newest) {
            spool.confirm(oldest.1);
        }
    }

    fn messages(
        &self,
        sequences: impl Iterator<Item = u64>,
    ) -> impl Stream<Item = Result<Option<Stored>, StreamError>> {
        stream::iter(sequences).map(|sequence| self.js.message(self.stream, sequence)).buffered(READ_AHEAD)
    }

    /// Finds out which of the events that an earlier run has left on the disk are stored. `left` is what the stream had
    /// confirmed when that was saved last.
    pub(super) async fn recover(
        &self,
        left: Option<Position>,
        info: &Info,
        strict: bool,
    ) -> Result<(), String> {
        let last = info.state.last_sequence;
        let left = left.filter(|left| left.stream == self.stream);
        if left.as_ref().is_some_and(|left| left.created != info.created || last < left.accounted) {
            self.spool.stream_reset();
            return Ok(());
        }
        let accounted = left.as_ref().map_or(0, |left| left.accounted);
        let start = accounted.max(last.saturating_sub(RECOVERED));
        // What was on the wire then stands here, however much other daemons have published since.
        let then = if self.is_leased { start.min(accounted.saturating_add(RECOVERED)) } else { accounted };
        let (mut ids, mut gone, mut foreign) = (BTreeSet::new(), 0_u64, 0_u64);
        let mut messages = pin!(self.messages((accounted + 1..=then).chain(start + 1..=last)));
        while let Some(found) = messages.next().await {
            match found.map_err(|error| self.unreadable(&error))?.map(|stored| self.id(&stored)) {
                None => gone += 1,
                Some(Some(id)) if self.spool.is_own_epoch(id.0) => drop(ids.insert(id)),
                Some(_) => foreign += 1,
            }
        }
        // In strict order, what the stream has stored has everything before it there, or had.
        let through = match (ids.first(), left) {
            _ if !strict => 0,
            (Some((_, oldest)), _) if gone > 0 || start > accounted => oldest.saturating_sub(1),
            (None, Some(left)) if foreign == 0 => (left.front + (last - accounted)).saturating_sub(1),
            _ => 0,
        };
        self.spool.confirm_left(through, ids);
        Ok(())
    }

    /// Epoch and sequence of an event of this instance.
    fn id(&self, stored: &Stored) -> Option<(u64, u64)> {
        let Stored { message_id, source, id, .. } = stored;
        self.spool.envelope.parse_id(message_id.as_deref(), source.as_deref(), id.as_deref())
    }

    fn unreadable(&self, error: &StreamError) -> String {
        format!("the stream {} cannot be read back: {error}", self.stream)
    }
}
