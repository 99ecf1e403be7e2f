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
    accepted: usize,
    stored: usize,
    lost: usize,
    covered: usize,
    uncovered: usize,
    doubled: usize,
    reordered: usize,
    gaps: usize,
    bad_gaps: usize,
    other: usize,
    faults: BTreeMap<&'static str, usize>,
    commands: usize,
    jobs: usize,
    left: usize,
    wrong: usize,
    outcomes: BTreeMap<String, usize>,
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
            self.accepted += verdict.accepted;
            self.lost += verdict.lost.len();
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
                let events = if verdict.uncovered.is_empty() { &verdict.lost } else { &verdict.uncovered };
                faults += &history.show(events);
                faults += "\n";
            }
        }
        if let Some(calls) = outcome.calls {
            self.commands += calls.commands;
            self.jobs += calls.jobs;
            self.left += calls.left;
            self.wrong += calls.wrong.len();
            for (outcome, number) in calls.outcomes {
                *self.outcomes.entry(outcome).or_default() += number;
            }
            for wrong in calls.wrong.iter().take(SHOWN) {
                faults += &format!("{wrong}\n");
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
    let Verdict {
        sent,
        accepted,
        lost,
        stored,
        covered,
        uncovered,
        doubled,
        reordered,
        gaps,
        bad_gaps,
        other,
    } = verdict;
    let some = |numbers: &[usize]| {
        let (first, last) = (numbers.first(), numbers.last());
        format!("{} ({:?} to {:?})", numbers.len(), first, last)
    };
    let [lost, uncovered, doubled, reordered] = [lost, uncovered, doubled, reordered].map(|all| some(all));
    format!(
        "{instance}: sent {sent}, accepted {accepted}, lost {lost}, stored {stored}, covered {covered}, uncovered {uncovered}, doubled {doubled}, reordered {reordered}, gaps {gaps}, bad gaps {bad_gaps:#?}, other {other:#?}\n"
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
        writeln!(f, "outcomes")?;
        for (outcome, number) in &self.outcomes {
            writeln!(f, "  {outcome:<30} {number:>8}")?;
        }
        writeln!(f, "{} runs, of them failed: {}\n", self.runs, self.failed.len())?;
        writeln!(f, "| what | number |\n| --- | ---: |")?;
        for (name, number) in [
            ("faults", self.faults.values().sum()),
            ("events sent", self.sent),
            ("accepted, as far as it is known", self.accepted),
            ("stored", self.stored),
            ("accepted and lost", self.lost),
            ("doubled", self.doubled),
            ("reordered", self.reordered),
            ("not stored, inside a gap", self.covered),
            ("not stored, outside of a gap", self.uncovered),
            ("gaps", self.gaps),
            ("gaps that are wrong", self.bad_gaps),
            ("commands", self.commands),
            ("jobs", self.jobs),
            ("jobs that the queue still held at the end", self.left),
            ("commands and jobs with a wrong status", self.wrong),
            ("other faults of the daemon", self.other),
        ] {
            writeln!(f, "| {name} | {number} |")?;
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        write!(f, "repeat a run with PONTOON_CHAOS_SEED; those that failed: {:?}", self.failed)
    }
}
