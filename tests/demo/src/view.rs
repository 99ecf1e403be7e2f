//! Lines for a reader: what passes, when, and which way.

use std::env;
use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Instant;

use crate::calls::{Call, Reply};
use crate::event::Event;

/// How wide a line may be.
pub(crate) const WIDTH: usize = 100;
/// How wide the names of services are.
const NAME: usize = 7;
/// Where a line's text begins: after the time, the name and the arrow.
const MARGIN: usize = NAME + 10;
/// Where an event's content begins, after its subject.
const SUBJECT: usize = 51;
/// How long a UUID is as text, how long an id of a document, and how much of their ends is shown.
const UUID: usize = 36;
const DOCUMENT: usize = 24;
const ID_END: usize = 4;

const DIM: &str = "2";
pub(crate) const RED: &str = "31";
pub(crate) const GREEN: &str = "32";
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

    /// Times count from now.
    pub(crate) fn begin(self) -> Self {
        Self { start: Instant::now(), ..self }
    }

    pub(crate) fn print(&self, text: &str) {
        // A reader who has gone away is not a fault of what is shown.
        let _ = writeln!(stdout(), "{text}");
    }

    /// What the arrows mean.
    pub(crate) fn legend(&self) {
        let meanings = [
            (CYAN, "→", "an event on NATS"),
            (MAGENTA, "←", "a request on NATS"),
            (GREEN, "↳", "a reply to it"),
        ];
        let meanings = meanings.map(|(colour, arrow, what)| format!("{} {what}", self.paint(colour, arrow)));
        self.print(&format!("{}   {}", meanings.join("   "), self.paint(DIM, "…1234 ends a long id")));
    }

    pub(crate) fn event(&self, service: &str, event: &Event) {
        let (subject, gist) = (short(&event.subject), short(&event.gist()));
        self.line(service, CYAN, "→", &format!("{subject:<SUBJECT$} "), &gist);
    }

    pub(crate) fn call(&self, service: &str, call: &Call) {
        let subject = short(&call.subject);
        let asks = if call.in_parts { "  Pontoon-Stream: true" } else { "" };
        self.line(service, MAGENTA, "←", &format!("{subject}{asks}  "), &short(&call.body.to_string()));
    }

    pub(crate) fn reply(&self, service: &str, reply: &Reply) {
        let colour = if ["part", "accepted", "sent", "acked", "response"].contains(&reply.status.as_str()) {
            GREEN
        } else {
            RED
        };
        let status = format!("{} after {:.1} ms  ", reply.status, reply.took.as_secs_f64() * 1000.0);
        let room = WIDTH - MARGIN - length(&status);
        let whole = Some(short(&reply.text)).filter(|text| length(text) <= room || !reply.data.is_object());
        let text = cut(&whole.unwrap_or_else(|| short(&reply.gist())), room);
        self.line(service, colour, "↳", &status, &text);
    }

    /// Text in a colour, where there is colour.
    pub(crate) fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What has no room on the line goes to the next one, if it has room there; else as much is shown as there is room.
    fn line(&self, service: &str, colour: &str, arrow: &str, what: &str, text: &str) {
        let time = format!("{:5.1}", self.start.elapsed().as_secs_f64());
        let start = format!("{} {service:<NAME$} {}  ", self.paint(DIM, &time), self.paint(colour, arrow));
        let (room, rest) = (WIDTH - MARGIN, length(text));
        let text = if length(what) + rest <= room || rest > room {
            format!("{what}{}", cut(text, room.saturating_sub(length(what))))
        } else {
            format!("{}\n{:MARGIN$}{text}", what.trim_end(), "")
        };
        self.print(format!("{start}{text}").trim_end());
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, room: usize) -> String {
    if length(text) <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// The text with the ends of long ids only, and without control characters.
fn short(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match id_at_start(rest) {
            Some(id) => {
                shown.push('…');
                shown.push_str(&id[id.len() - ID_END..]);
                id.len()
            }
            None => {
                shown.push(if first.is_control() { ' ' } else { first });
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    shown
}

/// The UUID, or else the id of a document, that a text begins with.
fn id_at_start(text: &str) -> Option<&str> {
    let uuid = text.get(..UUID).filter(|start| is_uuid(start));
    uuid.or_else(|| text.get(..DOCUMENT).filter(|start| start.bytes().all(|byte| byte.is_ascii_hexdigit())))
}

fn is_uuid(text: &str) -> bool {
    text.char_indices().all(|(place, c)| match place {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_are_shortened_and_nothing_else_is() {
        let uuid = "7d0b5a52-8c1e-4a53-9f66-0a1f1a6d3b10";
        assert_eq!(short(&format!("a.{uuid}.b")), "a.…3b10.b");
        assert_eq!(short(&format!("{uuid}{uuid}")), "…3b10…3b10");
        assert_eq!(short("t.68e78d0dc5a4b19a030d03d6: 68e78d0dc5a4b19a"), "t.…03d6: 68e78d0dc5a4b19a");
        assert_eq!(short("7d0b5a52-8c1e ä\u{1b}[31m →"), "7d0b5a52-8c1e ä [31m →");
    }

    #[test]
    fn what_is_too_long_ends_with_an_ellipsis() {
        assert_eq!((cut("äbc", 3), cut("äbcd", 3)), ("äbc".to_owned(), "äb…".to_owned()));
    }
}
