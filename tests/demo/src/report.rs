//! The end: what went where, service by service and side by side, and whether all was as it should be.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use crate::flows::Flows;
use crate::scenario::{Scenario, record};
use crate::services::Check;
use crate::stream::Kept;
use crate::view::{GREEN, RED, View, WIDTH};

/// How wide a service's column is.
const COLUMN: usize = 9;
/// What stands where a service has nothing to show.
const NOTHING: &str = "-";

/// Prints the table. Returns whether everything was as it should be. Where the demo was cut short, what was not tried
/// yet need not hold.
pub(crate) fn report(
    view: &View,
    scenarios: &[Scenario],
    kept: &[Kept],
    exit: Option<i32>,
    cut_short: bool,
) -> bool {
    let table = Table { view, width: WIDTH - COLUMN * scenarios.len() };
    table.counts(scenarios, kept);
    view.print("checks");
    let checks: Vec<_> = scenarios.iter().zip(kept).map(|(scenario, kept)| checks(scenario, kept)).collect();
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
    for (scenario, kept) in scenarios.iter().zip(kept) {
        explain(view, scenario, kept);
    }
    good
}

/// What must hold of every service, and then of this one.
fn checks(scenario: &Scenario, kept: &Kept) -> Vec<Check> {
    let expected = scenario.service.expected();
    let something = !expected.is_empty();
    let called = scenario.calls > 0;
    let ids = || scenario.ids.iter().eq(kept.events.iter().map(|event| &event.id));
    let mut checks = vec![
        (
            "all that the service sent was seen once, in order",
            something.then_some(expected == scenario.received),
        ),
        ("its stream has all of it once, in order", something.then(|| expected == stored(scenario, kept))),
        ("its stream has exactly the events that were seen", something.then(ids)),
        ("sequences grow, and every id is unique", something.then(|| kept.grows() && kept.is_unique())),
        ("every call was answered by the service itself", called.then_some(scenario.right == scenario.calls)),
    ];
    checks.extend(scenario.service.checks(&scenario.received));
    checks
}

/// What the stream holds of the service.
fn stored(scenario: &Scenario, kept: &Kept) -> Flows {
    let mut flows = Flows::default();
    for event in &kept.events {
        record(&*scenario.service, &mut flows, event);
    }
    flows
}

/// Prints where what was received differs from what was sent.
fn explain(view: &View, scenario: &Scenario, kept: &Kept) {
    let expected = scenario.service.expected();
    for (place, received) in [("on NATS", &scenario.received), ("in the stream", &stored(scenario, kept))] {
        for difference in expected.differences(received) {
            view.print(&format!("{}, {place}: {difference}", scenario.service.name()));
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
    fn counts(&self, scenarios: &[Scenario], kept: &[Kept]) {
        self.view.print("");
        self.row("service", scenarios.iter().map(|scenario| scenario.service.name()));
        self.row("instance", scenarios.iter().map(|scenario| scenario.service.instance()));
        self.view.print("events");
        self.row("  seen on NATS", scenarios.iter().map(|scenario| count(scenario.ids.len())));
        let kinds: BTreeSet<_> = scenarios.iter().flat_map(|scenario| scenario.kinds.keys()).collect();
        for kind in kinds {
            let counts =
                scenarios.iter().map(|scenario| scenario.kinds.get(kind).copied().unwrap_or_default());
            self.row(&format!("    {kind}"), counts.map(count));
        }
        self.row(
            "  messages in its stream, PONTOON_<INSTANCE>",
            kept.iter().map(|kept| count(kept.events.len())),
        );
        self.row("    their size", kept.iter().map(|kept| format!("{:.1} kB", kept.bytes as f64 / 1e3)));

        self.view.print("calls");
        self.row("  made", scenarios.iter().map(|scenario| count(scenario.calls)));
        let statuses: BTreeSet<_> = scenarios.iter().flat_map(|scenario| scenario.statuses.keys()).collect();
        for status in statuses {
            let counts =
                scenarios.iter().map(|scenario| scenario.statuses.get(status).copied().unwrap_or_default());
            self.row(&format!("    answered: {status}"), counts.map(count));
        }
        if scenarios.iter().any(|scenario| scenario.parts > 0) {
            self.row("    parts of answers", scenarios.iter().map(|scenario| count(scenario.parts)));
        }
        self.row("    median time to the answer", scenarios.iter().map(|scenario| median(&scenario.times)));
    }

    fn row(&self, what: &str, columns: impl Iterator<Item = impl Display>) {
        let columns: String = columns.map(|column| format!("{column:>COLUMN$}")).collect();
        self.view.print(&format!("{what:<0$}{columns}", self.width));
    }

    fn verdicts(&self, what: &str, verdicts: &[Option<bool>]) {
        let word = |verdict: &Option<bool>| match verdict {
            Some(true) => self.view.paint(GREEN, &format!("{:>COLUMN$}", "yes")),
            Some(false) => self.view.paint(RED, &format!("{:>COLUMN$}", "NO")),
            None => format!("{NOTHING:>COLUMN$}"),
        };
        let words: String = verdicts.iter().map(word).collect();
        self.view.print(&format!("  {what:<0$}{words}", self.width - 2));
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
