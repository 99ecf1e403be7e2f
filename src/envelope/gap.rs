//! A gap: between which times events may be missing, why, and on which link. It becomes a `gap.detected` event.

use std::time::Duration;

use pontoon_sdk::{Fields, Joined, LinkKey};
use time::OffsetDateTime;

use super::rfc3339;
use crate::metrics::GapReason;

/// What is added to the end of a gap before it is cut to milliseconds.
const ALMOST_A_MILLISECOND: Duration = Duration::from_nanos(999_999);

/// Between which times something may have been missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The link that is concerned; every link of the instance if there is none.
    pub link: Option<LinkKey>,
    /// The beginning.
    pub from: Start,
    /// The end.
    pub to: OffsetDateTime,
    /// Whether the service has sent again what it kept.
    pub recovered: bool,
    /// How many events were dropped, if they were counted.
    pub dropped: Option<u64>,
    /// What the service is asked for again, if anything is.
    pub rejoins: Option<Box<Joined>>,
}

/// When a gap begins. The order is that of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    /// Not known: the gap covers everything before its end.
    Unknown,
    /// When the last event of an earlier run of the instance was recorded, which the stream knows.
    PreviousRun,
    /// At this time.
    At(OffsetDateTime),
}

impl Gap {
    /// A gap that ends now, on one link or on all.
    pub fn new(reason: GapReason, link: Option<LinkKey>, from: Start) -> Self {
        let to = OffsetDateTime::now_utc();
        Self { reason, link, from, to, recovered: false, dropped: None, rejoins: None }
    }

    /// What was missed while no run of the instance received events.
    pub fn restarted(link: Option<LinkKey>) -> Self {
        Self::new(GapReason::Restarted, link, Start::PreviousRun)
    }

    /// How much memory it takes, in bytes, about.
    pub(super) fn size(&self) -> usize {
        let keys = self.rejoins.iter().flat_map(|rejoins| &rejoins.keys);
        size_of::<Self>() + keys.map(|key| size_of::<String>() + key.len()).sum::<usize>()
    }

    /// The fields of its event. A beginning behind the end is left out: the clock was set back in between, so that it is
    /// not known when the gap began.
    pub(super) fn fields(&self, previous: Option<OffsetDateTime>) -> Fields {
        let from = match self.from {
            Start::Unknown => None,
            Start::PreviousRun => previous,
            Start::At(time) => Some(time),
        };
        Fields {
            link: self.link.as_ref().map(|link| link.as_str().to_owned()),
            reason: Some(self.reason.as_str().into()),
            from: from.filter(|from| *from <= self.to).map(rfc3339),
            // Rounded up, since times are cut to milliseconds: what was missed within the last one lies in the gap.
            to: Some(rfc3339(self.to + ALMOST_A_MILLISECOND)),
            recovered: Some(self.recovered),
            dropped: self.dropped,
            rejoins: self.rejoins.clone(),
            ..Fields::default()
        }
    }
}
