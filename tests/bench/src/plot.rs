//! The results as a plot (SVG): bars for the workloads at full speed. Its colours are readable on light and on dark.

use std::fmt::Write as _;

use crate::report::{About, figure};
use crate::section::{Row, Section};

const WIDTH: f64 = 860.0;
const NAMES: f64 = 170.0;
/// How wide the longest bar of a panel is.
const BAR: f64 = 200.0;
const PANEL: f64 = (WIDTH - NAMES) / 2.0;
const LINE: f64 = 22.0;
const GAP: f64 = 44.0;
const TOP: f64 = 58.0;

/// Sections at full speed, whose figures are a rate and CPU.
pub(crate) fn svg(about: &About, sections: &[Section]) -> String {
    let plotted: Vec<(&Section, usize, usize)> = sections
        .iter()
        .filter(|section| section.rows.len() > 1)
        .filter_map(|section| {
            let place = |name: &str| section.metrics.iter().position(|metric| metric.name.starts_with(name));
            let rate = section.metrics.iter().position(|metric| metric.unit == "/s")?;
            Some((section, rate, place("CPU per")?))
        })
        .collect();
    let lines: usize = plotted.iter().map(|(section, ..)| section.rows.len()).sum();
    let height = TOP + lines as f64 * LINE + plotted.len() as f64 * GAP + 12.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"13\">\n\
         <style>\n  text {{ fill: #6e7781; }}\n  .title {{ font-weight: 600; }}\n  .ours {{ fill: #2f81f7; }}\n  .theirs {{ fill: #8c959f; }}\n  \
         @media (prefers-color-scheme: dark) {{ text {{ fill: #9da7b3; }} .theirs {{ fill: #6e7681; }} }}\n</style>\n"
    );
    let _ = writeln!(
        text,
        "<title>Pontoon beside what people would write instead</title>\n\
         <text x=\"0\" y=\"16\">{}; {}</text>\n\
         <text class=\"title\" x=\"{NAMES}\" y=\"42\">rate, more is better</text>\n\
         <text class=\"title\" x=\"{}\" y=\"42\">CPU, less is better</text>",
        escaped(&about.date),
        escaped(&about.machine),
        NAMES + PANEL
    );
    let mut y = TOP;
    for (section, rate, cpu) in plotted {
        y += GAP - LINE;
        let _ = writeln!(text, "<text class=\"title\" x=\"0\" y=\"{y}\">{}</text>", escaped(&section.title));
        y += LINE / 2.0;
        for (place, row) in section.rows.iter().enumerate() {
            let class = if place == 0 { "ours" } else { "theirs" };
            let _ = writeln!(text, "<text x=\"12\" y=\"{:.1}\">{}</text>", y + 14.0, escaped(&row.name));
            for (x, metric) in [(NAMES, rate), (NAMES + PANEL, cpu)] {
                text.push_str(&bar(section, row, metric, (x, y), class));
            }
            y += LINE;
        }
        y += LINE / 2.0;
    }
    text.push_str("</svg>\n");
    text
}

/// A bar with its figure, as long as it is beside the longest of its section.
fn bar(section: &Section, row: &Row, metric: usize, (x, y): (f64, f64), class: &str) -> String {
    let value = |row: &Row| row.spread(metric).map(|spread| spread.median);
    let most = section.rows.iter().filter_map(value).fold(f64::MIN_POSITIVE, f64::max);
    let unit = section.metrics.get(metric).map_or("", |metric| metric.unit);
    let (length, label) = match value(row) {
        Some(value) => ((value / most * BAR).max(1.0), figure(value, unit)),
        None => (0.0, "void".to_owned()),
    };
    format!(
        "<rect class=\"{class}\" x=\"{x}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"14\" rx=\"2\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
        y + 3.0,
        x + length + 6.0,
        y + 14.0,
        escaped(&label)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
