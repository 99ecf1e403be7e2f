//! Lines for a reader: what passes, when, and which way.

use std::env;
use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Instant;

use serde_json::Value;

use crate::calls::{Call, Outcome};

/// How much of a body is shown.
const BODY: usize = 72;

const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";
const MAGENTA: &str = "35";

/// Standard output.
pub(crate) struct View {
    start: Instant,
    colour: bool,
}

impl View {
    /// Colour is for terminals whose user has not refused it.
    pub(crate) fn new() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { start: Instant::now(), colour: stdout().is_terminal() && !refused }
    }

    pub(crate) fn say(&self, text: &str) {
        // A reader who has gone away is no fault of what is shown.
        let _ = writeln!(stdout(), "{text}");
    }

    pub(crate) fn event(&self, subject: &str, body: &Value) {
        self.line(CYAN, "Sub0 → NATS", subject, &shown(body, "data"));
    }

    pub(crate) fn call(&self, call: &Call) {
        self.line(MAGENTA, "NATS → Sub0", &call.subject, &call.body.to_string());
    }

    pub(crate) fn answer(&self, outcome: &Outcome) {
        let colour = if outcome.status == "response" { GREEN } else { RED };
        let took = format!("{} after {:.1} ms", outcome.status, outcome.took.as_secs_f64() * 1000.0);
        self.line(colour, "   ↳ reply ", &took, &outcome.data.to_string());
    }

    pub(crate) fn row(&self, name: &str, value: &str) {
        self.say(&format!("  {name:<52} {value:>10}"));
    }

    pub(crate) fn check(&self, what: &str, holds: bool) {
        let word = if holds { self.paint(GREEN, "yes") } else { self.paint(RED, "NO") };
        self.say(&format!("  {what:<60} {word}"));
    }

    fn line(&self, colour: &str, arrow: &str, what: &str, body: &str) {
        let time = format!("{:7.3}", self.start.elapsed().as_secs_f64());
        let body: String = body.chars().take(BODY).collect();
        println!(
            "{} {} {what}  {}",
            self.paint(DIM, &time),
            self.paint(colour, arrow),
            self.paint(DIM, &body)
        );
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A field of the body, or all of it where there is no such field. Control characters are escaped in JSON.
fn shown(body: &Value, field: &str) -> String {
    body.get(field).unwrap_or(body).to_string()
}
