//! What a hostile Socket.IO server sends: a list of packets as data, `hostile.txt`.

use std::collections::BTreeSet;

use base64::Engine as _;
use bytes::Bytes;

use crate::websocket::Connection;

/// One block of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct HostileCase {
    /// Its name, which no other has.
    pub name: String,
    /// Its line in the file.
    pub line: usize,
    /// What is sent, in order.
    pub messages: Vec<HostileMessage>,
    /// What must follow, in order; empty if nothing may. Answers and events have an order of their own each.
    pub expected: Vec<HostileOutcome>,
    /// The file says that nothing is published.
    ignored: bool,
}

/// Something that is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum HostileMessage {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// Bytes instead of a WebSocket frame.
    Bytes(Bytes),
}

/// Something that must follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostileOutcome {
    /// The client sends this text.
    Answer(String),
    /// An event of this name is published.
    Event(String),
    /// What came is published as `frame.unrecognised`.
    Unrecognised,
    /// A gap is published in the place of a message over the limit.
    Discarded,
    /// The link ends, and is dialled again.
    Ends,
}

impl HostileCase {
    /// The list.
    ///
    /// # Panics
    /// If there is something wrong with it; the message names the line.
    pub fn all() -> Vec<Self> {
        Self::parse(include_str!("hostile.txt")).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// Reads such a list; the file's head describes what it may hold.
    ///
    /// # Errors
    /// The number of a line, and what is wrong there.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let mut cases: Vec<Self> = Vec::new();
        let mut names = BTreeSet::new();
        for (number, line) in (1..).zip(text.lines()) {
            let place = |wrong: String| format!("hostile.txt:{number}: {wrong}");
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with(' ') {
                let case =
                    cases.last_mut().ok_or_else(|| place("a block begins with its name".to_owned()))?;
                case.step(line.trim_start()).map_err(place)?;
                continue;
            }
            if let Some(case) = cases.last() {
                case.check()?;
            }
            if !names.insert(line) {
                return Err(place(format!("there is a block of the name {line} already")));
            }
            let (messages, expected) = (Vec::new(), Vec::new());
            cases.push(Self { name: line.to_owned(), line: number, messages, expected, ignored: false });
        }
        if let Some(case) = cases.last() {
            case.check()?;
        }
        Ok(cases)
    }

    /// Sends it.
    pub fn send(&self, connection: &Connection) {
        for message in &self.messages {
            match message {
                HostileMessage::Text(text) => connection.send_text(text),
                HostileMessage::Binary(data) => connection.send_binary(data),
                HostileMessage::Bytes(bytes) => connection.send_bytes(bytes.clone()),
            }
        }
    }

    /// Whether the link must end.
    pub fn ends(&self) -> bool {
        self.expected.contains(&HostileOutcome::Ends)
    }

    fn step(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let message = match word {
            "text" => Some(HostileMessage::Text(spelt(rest)?)),
            "binary" => Some(HostileMessage::Binary(decoded(rest)?)),
            "bytes" => Some(HostileMessage::Bytes(decoded(rest)?)),
            "zeros" => {
                let count = rest.parse().map_err(|_| format!("\"{rest}\" is not a number"))?;
                Some(HostileMessage::Binary(Bytes::from(vec![0; count])))
            }
            _ => None,
        };
        if let Some(message) = message {
            if !self.expected.is_empty() || self.ignored {
                return Err("what is sent stands before what must follow".to_owned());
            }
            self.messages.push(message);
            return Ok(());
        }
        let outcome = match word {
            "answer" => HostileOutcome::Answer(spelt(rest)?),
            "event" => HostileOutcome::Event(spelt(rest)?),
            "unrecognised" => HostileOutcome::Unrecognised,
            "discarded" => HostileOutcome::Discarded,
            "ends" => HostileOutcome::Ends,
            "ignored" => {
                self.ignored = true;
                return Ok(());
            }
            _ => return Err(format!("\"{word}\" begins no line")),
        };
        self.expected.push(outcome);
        Ok(())
    }

    /// Whether the block is whole.
    fn check(&self) -> Result<(), String> {
        let (name, line) = (&self.name, self.line);
        let wrong = |what: &str| Err(format!("hostile.txt:{line}: {name} {what}"));
        let is_told = self.expected.iter().any(|outcome| !matches!(outcome, HostileOutcome::Answer(_)));
        match (self.messages.is_empty(), is_told, self.ignored) {
            (true, ..) => wrong("sends nothing"),
            (false, false, false) => {
                wrong("does not list what must follow; write `ignored` if nothing is published")
            }
            (false, true, true) => wrong("is ignored, and something is published"),
            _ => Ok(()),
        }
    }
}

/// A text as the list writes it.
fn spelt(text: &str) -> Result<String, String> {
    if text.starts_with('"') {
        return serde_json::from_str(text).map_err(|error| format!("this is not a JSON string: {error}"));
    }
    repeated(text)
}

fn decoded(text: &str) -> Result<Bytes, String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(repeated(text)?);
    bytes.map(Bytes::from).map_err(|error| format!("this is not base64: {error}"))
}

/// Writes out every `${3*ab}`.
fn repeated(mut text: &str) -> Result<String, String> {
    let mut whole = String::new();
    while let Some((before, rest)) = text.split_once("${") {
        let wrong = || format!("this is not a repetition: ${{{rest}");
        let (count, rest) = rest.split_once('*').ok_or_else(wrong)?;
        let count = count.parse().map_err(|_| wrong())?;
        let first = rest.chars().next().ok_or_else(wrong)?.len_utf8();
        let end = rest.get(first..).and_then(|behind| behind.find('}')).ok_or_else(wrong)? + first;
        let (part, after) = rest.split_at(end);
        whole.push_str(before);
        whole.push_str(&part.repeat(count));
        text = after.strip_prefix('}').unwrap_or(after);
    }
    whole.push_str(text);
    Ok(whole)
}
