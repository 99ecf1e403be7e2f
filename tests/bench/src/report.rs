//! The results as Markdown: a table for each workload, medians with minimum and maximum, and Pontoon's ratio to each other.

use std::fmt::Write as _;

use crate::section::{Row, Section, Spread};

/// Above this part of the generator's rate, a result may be the generator's.
const LIMITED: f64 = 0.7;

/// How much of what is wrong is shown, in characters.
const FAULT: usize = 160;

/// What the results are of.
pub(crate) struct About {
    pub(crate) date: String,
    pub(crate) machine: String,
    pub(crate) versions: Vec<String>,
    /// Before and after.
    pub(crate) load: (String, String),
    /// Contenders that did not run, and why.
    pub(crate) missing: Vec<String>,
    pub(crate) rounds: usize,
    /// How it was started.
    pub(crate) command: String,
}

/// The file.
pub(crate) fn markdown(about: &About, sections: &[Section]) -> String {
    let mut text = String::from("# Results\n\n");
    let others = sections.iter().flat_map(|section| &section.rows).flat_map(|row| &row.samples);
    let others = crate::tally::sorted(others.map(|sample| sample.others * 100.0).collect());
    let (median, most) = (crate::tally::quantile(&others, 0.5), others.last().copied().unwrap_or_default());
    let _ = write!(
        text,
        "Written by `{}` on {}; [README.md](README.md) says what is measured, and how.\n\n\
         * Machine: {}, shared by everything that takes part.\n\
         * Versions: {}.\n\
         * Other processes used {median:.0} % of the machine in the median run and {most:.0} % in the worst; load before {}, after {}.\n",
        about.command,
        about.date,
        about.machine,
        about.versions.join(", "),
        about.load.0,
        about.load.1,
    );
    for missing in &about.missing {
        let _ = writeln!(text, "* Not measured: {missing}.");
    }
    let _ = write!(
        text,
        "\nMedians of {} runs (minimum to maximum), contenders in turn. *Ratio* is Pontoon's figure divided by that of the \
         row: for rates more is better, for all else less. In no run that counts was an event lost, doubled or reordered, or \
         a request answered wrongly.\n",
        about.rounds
    );
    for section in sections {
        text.push_str(&table(section));
    }
    text
}

fn table(section: &Section) -> String {
    let mut text = format!("\n## {}\n\n|", section.title);
    let has_others = section.rows.len() > 1;
    let mut rule = String::from("| --- |");
    text.push_str(" |");
    for metric in &section.metrics {
        let _ = write!(text, " {} |", metric.name);
        rule.push_str(" --- |");
        if has_others {
            text.push_str(" ratio |");
            rule.push_str(" --- |");
        }
    }
    let _ = writeln!(text, "\n{rule}");
    let mut notes = Vec::new();
    for row in &section.rows {
        text.push_str(&line(section, row, has_others));
        let faults = row.faults();
        if let Some(first) = faults.first() {
            let first: String = first.lines().next().unwrap_or_default().chars().take(FAULT).collect();
            notes.push(format!(
                "{}: {} of {} runs are void ({first}).",
                row.name,
                faults.len(),
                row.samples.len()
            ));
        }
    }
    if let Some(ceiling) = section.ceiling {
        notes.push(format!("The generator alone: {}.", figure(ceiling, "/s")));
        let limited = section
            .rows
            .iter()
            .filter(|row| row.spread(0).is_some_and(|rate| rate.median > LIMITED * ceiling));
        notes.extend(limited.map(|row| format!("{}: limited by the generator.", row.name)));
    }
    notes.extend(section.notes.iter().cloned());
    if !notes.is_empty() {
        let _ = writeln!(text, "\n{}", notes.join(" "));
    }
    text
}

fn line(section: &Section, row: &Row, has_others: bool) -> String {
    let mut text = format!("| {} |", row.name);
    for (place, metric) in section.metrics.iter().enumerate() {
        let spread = row.spread(place);
        let _ = write!(text, " {} |", spread.map_or("-".to_owned(), |spread| shown(spread, metric.unit)));
        if has_others {
            let ours = section.rows.first().and_then(|first| first.spread(place));
            let ratio = ours.zip(spread).filter(|(_, spread)| spread.median > 0.0);
            let ratio =
                ratio.map_or("-".to_owned(), |(ours, spread)| format!("{:.2}", ours.median / spread.median));
            let _ = write!(text, " {ratio} |");
        }
    }
    text.push('\n');
    text
}

fn shown(spread: Spread, unit: &str) -> String {
    let Spread { median, least, most } = spread;
    if least == most {
        return figure(median, unit);
    }
    format!("{} ({} to {})", figure(median, unit), number(least), number(most))
}

/// A figure with its unit.
pub(crate) fn figure(value: f64, unit: &str) -> String {
    if unit == "/s" { format!("{}/s", number(value)) } else { format!("{} {unit}", number(value)) }
}

/// Three digits, and commas between thousands.
fn number(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        small if small < 100.0 => format!("{value:.1}"),
        small if small < 1_000.0 => format!("{value:.0}"),
        large => {
            let step = 10_f64.powf(large.log10().floor() - 2.0).max(1.0);
            let digits = format!("{:.0}", (value / step).round() * step);
            let mut text = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && (digits.len() - place).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let shown = [1.234, 12.34, 123.4, 1_234.0, 123_456.0, 1_234_567.0].map(number);
        assert_eq!(shown, ["1.23", "12.3", "123", "1,230", "123,000", "1,230,000"]);
    }
}
