//! Sums over all runs.

use std::collections::BTreeMap;
use std::fmt;

use super::bridge::Outcome;
use super::oracle::{Verdict, authorize};
use super::plan::Plan;

/// How many failed runs are shown in full, and how many events of each are named.
const SHOWN: usize = 5;

/// The sums.
#[derive(Debug, Default)]
pub(crate) struct Report {
    runs: usize,
    sent: usize,
    stored: usize,
    covered: usize,
    uncovered: usize,
    doubled: usize,
    reordered: usize,
    gaps: usize,
    bad_gaps: usize,
    other: usize,
    faults: BTreeMap<&'static str, usize>,
    failed: Vec<u64>,
    shown: Vec<String>,
}

impl Report {
    /// Judges a run, and adds it.
    pub(crate) fn add(&mut self, plan: &Plan, outcome: Result<Outcome, String>) {
        self.runs += 1;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                self.other += 1;
                return self.failed(plan, &error);
            }
        };
        for (fault, number) in outcome.faults {
            *self.faults.entry(fault).or_default() += number;
        }
        let mut faults = String::new();
        for (instance, history) in &outcome.histories {
            let verdict = authorize(history);
            self.sent += verdict.sent;
            self.stored += verdict.stored;
            self.covered += verdict.covered;
            self.uncovered += verdict.uncovered.len();
            self.doubled += verdict.doubled.len();
            self.reordered += verdict.reordered.len();
            self.gaps += verdict.gaps;
            self.bad_gaps += verdict.bad_gaps.len();
            self.other += verdict.other.len();
            if !verdict.is_kept() {
                faults += &shown(instance, &verdict);
                faults += &history.show(&verdict.uncovered);
                faults += "\n";
            }
        }
        if !faults.is_empty() {
            self.failed(plan, &format!("{faults}{}", outcome.log));
        }
    }

    fn failed(&mut self, plan: &Plan, why: &str) {
        self.failed.push(plan.seed);
        if self.shown.len() < SHOWN {
            self.shown.push(format!("{plan}\n{why}"));
        }
    }

    /// Whether every run kept the promise.
    pub(crate) fn is_kept(&self) -> bool {
        self.failed.is_empty()
    }

    /// How often each fault was done.
    pub(crate) fn faults(&self) -> &BTreeMap<&'static str, usize> {
        &self.faults
    }
}

fn shown(instance: &str, verdict: &Verdict) -> String {
    let Verdict { sent, stored, covered, uncovered, doubled, reordered, gaps, bad_gaps, other } = verdict;
    let some = |numbers: &[usize]| {
        let (first, last) = (numbers.first(), numbers.last());
        format!("{} ({:?} to {:?})", numbers.len(), first, last)
    };
    let (uncovered, doubled, reordered) = (some(uncovered), some(doubled), some(reordered));
    format!(
        "{instance}: sent {sent}, stored {stored}, covered {covered}, uncovered {uncovered}, doubled {doubled}, reordered {reordered}, gaps {gaps}, bad gaps {bad_gaps:#?}, other {other:#?}\n"
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shown in &self.shown {
            writeln!(f, "--- failed: {shown}\n")?;
        }
        writeln!(f, "faults")?;
        for (fault, number) in &self.faults {
            writeln!(f, "  {fault:<30} {number:>8}")?;
        }
        writeln!(f, "{} runs, of them failed: {}", self.runs, self.failed.len())?;
        let lost = self.covered + self.uncovered;
        for (name, number) in [
            ("events sent", self.sent),
            ("stored", self.stored),
            ("lost", lost),
            ("  of them inside a gap", self.covered),
            ("  of them without a gap", self.uncovered),
            ("doubled", self.doubled),
            ("reordered", self.reordered),
            ("gaps", self.gaps),
            ("  of them wrong", self.bad_gaps),
            ("other faults of the daemon", self.other),
        ] {
            writeln!(f, "  {name:<30} {number:>8}")?;
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        write!(f, "repeat a run with PONTOON_CHAOS_SEED; those that failed: {:?}", self.failed)
    }
}
