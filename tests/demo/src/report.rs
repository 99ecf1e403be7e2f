//! The end: what went where, service by service and side by side, and whether all was as it should be.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use crate::booth::{Booth, hear};
use crate::services::Check;
use crate::stream::Kept;
use crate::view::{GREEN, RED, View, WIDTH};
use crate::voices::Voices;

/// How wide a service's column is.
const COLUMN: usize = 9;
/// What stands where a service has nothing to show.
const NOTHING: &str = "-";

/// Prints the table. Returns whether everything was as it should be. Where the demo was cut short, what was not tried
/// yet need not hold.
pub(crate) fn report(
    view: &View,
    booths: &[Booth],
    kept: &[Kept],
    exit: Option<i32>,
    cut_short: bool,
) -> bool {
    let table = Table { view, width: WIDTH - COLUMN * booths.len() };
    table.counts(booths, kept);
    view.say("checks");
    let checks: Vec<_> = booths.iter().zip(kept).map(|(booth, kept)| checks(booth, kept)).collect();
    let mut whats: Vec<&str> = Vec::new();
    for (what, _) in checks.iter().flatten() {
        if !whats.contains(what) {
            whats.push(what);
        }
    }
    let mut good = exit == Some(0);
    for what in whats {
        let verdict = |checks: &Vec<Check>| {
            let (_, holds) = checks.iter().find(|(name, _)| *name == what)?;
            holds.or((!cut_short).then_some(false))
        };
        let verdicts: Vec<_> = checks.iter().map(verdict).collect();
        good &= !verdicts.contains(&Some(false));
        table.verdicts(what, &verdicts);
    }
    table.verdicts("the daemon drained, and ended with 0", &[Some(exit == Some(0))]);
    for (booth, kept) in booths.iter().zip(kept) {
        explain(view, booth, kept);
    }
    good
}

/// What must hold of every service, and then of this one.
fn checks(booth: &Booth, kept: &Kept) -> Vec<Check> {
    let said = booth.service.said();
    let something = !said.is_empty();
    let called = booth.calls > 0;
    let ids = || booth.ids.iter().eq(kept.events.iter().map(|event| &event.id));
    let mut checks = vec![
        ("all that the service said was seen once, in order", something.then_some(said == booth.heard)),
        ("its stream has all of it once, in order", something.then(|| said == stored(booth, kept))),
        ("its stream has exactly the events that were seen", something.then(ids)),
        ("sequences grow, and every id is unique", something.then(|| kept.grows() && kept.is_unique())),
        ("every call was answered by the service itself", called.then_some(booth.right == booth.calls)),
    ];
    checks.extend(booth.service.checks(&booth.heard));
    checks
}

/// What the stream says that the service said.
fn stored(booth: &Booth, kept: &Kept) -> Voices {
    let mut voices = Voices::default();
    for event in &kept.events {
        hear(&*booth.service, &mut voices, event);
    }
    voices
}

/// Says where what was heard is not what was said.
fn explain(view: &View, booth: &Booth, kept: &Kept) {
    let said = booth.service.said();
    for (place, heard) in [("on NATS", &booth.heard), ("in the stream", &stored(booth, kept))] {
        for difference in said.differences(heard) {
            view.say(&format!("{}, {place}: {difference}", booth.service.name()));
        }
    }
}

/// Rows with a column for each service.
struct Table<'a> {
    view: &'a View,
    /// How wide what is before the columns is.
    width: usize,
}

impl Table<'_> {
    fn counts(&self, booths: &[Booth], kept: &[Kept]) {
        self.view.say("");
        self.row("service", booths.iter().map(|booth| booth.service.name()));
        self.row("instance", booths.iter().map(|booth| booth.service.instance()));
        self.view.say("events");
        self.row("  seen on NATS", booths.iter().map(|booth| count(booth.ids.len())));
        let kinds: BTreeSet<_> = booths.iter().flat_map(|booth| booth.kinds.keys()).collect();
        for kind in kinds {
            let counts = booths.iter().map(|booth| booth.kinds.get(kind).copied().unwrap_or_default());
            self.row(&format!("    {kind}"), counts.map(count));
        }
        self.row(
            "  messages in its stream, PONTOON_<INSTANCE>",
            kept.iter().map(|kept| count(kept.events.len())),
        );
        self.row("    their size", kept.iter().map(|kept| format!("{:.1} kB", kept.bytes as f64 / 1e3)));

        self.view.say("calls");
        self.row("  made", booths.iter().map(|booth| count(booth.calls)));
        let statuses: BTreeSet<_> = booths.iter().flat_map(|booth| booth.statuses.keys()).collect();
        for status in statuses {
            let counts = booths.iter().map(|booth| booth.statuses.get(status).copied().unwrap_or_default());
            self.row(&format!("    answered: {status}"), counts.map(count));
        }
        if booths.iter().any(|booth| booth.parts > 0) {
            self.row("    parts of answers", booths.iter().map(|booth| count(booth.parts)));
        }
        self.row("    median time to the answer", booths.iter().map(|booth| median(&booth.times)));
    }

    fn row(&self, what: &str, columns: impl Iterator<Item = impl Display>) {
        let columns: String = columns.map(|column| format!("{column:>COLUMN$}")).collect();
        self.view.say(&format!("{what:<0$}{columns}", self.width));
    }

    fn verdicts(&self, what: &str, verdicts: &[Option<bool>]) {
        let word = |verdict: &Option<bool>| match verdict {
            Some(true) => self.view.paint(GREEN, &format!("{:>COLUMN$}", "yes")),
            Some(false) => self.view.paint(RED, &format!("{:>COLUMN$}", "NO")),
            None => format!("{NOTHING:>COLUMN$}"),
        };
        let words: String = verdicts.iter().map(word).collect();
        self.view.say(&format!("  {what:<0$}{words}", self.width - 2));
    }
}

fn count(number: usize) -> String {
    if number == 0 { NOTHING.to_owned() } else { number.to_string() }
}

fn median(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    match times.get(times.len() / 2) {
        Some(median) => format!("{:.1} ms", median.as_secs_f64() * 1000.0),
        None => NOTHING.to_owned(),
    }
}
