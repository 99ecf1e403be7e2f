//! Messages that come in parts: what is new in each part, its number and the length so far.
//!
//! Services send a part as what is new ([`Mode::Delta`]) or as all of the text so far ([`Mode::Cumulative`]). Events and
//! replies hold only what is new, so all parts of an answer together are about as large as the answer, however many they
//! are. A surrogate pair may be split between two parts: its first half is held back until the second one comes.

mod piece;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::event::Fields;

pub use piece::Piece;

/// The longest text that is kept to find out what the parts of an answer are ([`Mode::Auto`]), in bytes.
const MAX_UNDECIDED: usize = 1024 * 1024;

/// How many parts must begin with all of the parts before to decide that every part does.
const SURE: u8 = 2;

/// What a part of a text is. It can be a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What is new.
    Delta,
    /// All of the text so far.
    Cumulative,
    /// The one or the other: the first parts decide it for the answer.
    Auto,
}

/// A text that comes in parts.
///
/// In [`Mode::Cumulative`] it keeps the text so far, which was one frame of the service; in [`Mode::Delta`] only a length.
#[derive(Debug)]
pub(crate) struct Accumulator {
    mode: Mode,
    state: State,
    /// Number of the next part.
    index: u64,
    /// Characters of the text so far; `None` if not all of it was received.
    length: Option<u64>,
    /// The first half of a surrogate pair, at the end of the last part.
    half: Option<u16>,
    /// Whether the next part belongs to another text than the one before.
    replaced: bool,
}

/// What the parts of an answer are, as far as it is known.
#[derive(Debug)]
enum State {
    Delta,
    /// With the text so far.
    Cumulative(String),
    Undecided {
        /// The text so far if parts are cumulative, which is what was published.
        published: String,
        /// The text so far if parts are deltas; `None` if it is too long.
        sum: Option<String>,
        /// How many parts made the text longer and began with all of it.
        grown: u8,
    },
}

impl Accumulator {
    /// For a text of which nothing was received.
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, state: State::of(mode), index: 0, length: Some(0), half: None, replaced: false }
    }

    /// Another text begins in place of this one; its parts are numbered on. Its first part has `reset` set.
    pub(crate) fn replace(&mut self) {
        let index = self.index;
        *self = Self { index, replaced: index > 0, ..Self::new(self.mode) };
    }

    /// Bytes of the text that is kept.
    pub(crate) fn kept(&self) -> usize {
        match &self.state {
            State::Delta => 0,
            State::Cumulative(text) => text.len(),
            State::Undecided { published, sum, .. } => published.len() + sum.as_ref().map_or(0, String::len),
        }
    }

    /// Takes one more part. Returns the fields of its event.
    pub(crate) fn push(&mut self, piece: Piece) -> Fields {
        let (delta, reset) = self.take(piece);
        let reset = reset || std::mem::take(&mut self.replaced);
        let added = delta.chars().count() as u64;
        self.length = if reset { Some(added) } else { self.length.map(|length| length + added) };
        let index = Some(self.index);
        self.index += 1;
        let (delta, reset) = (Some(delta), reset.then_some(true));
        Fields { delta, index, length: self.length, reset, ..Fields::default() }
    }

    /// Takes one more part, which the service has numbered from 0. If its number is not the next one, a part is missing:
    /// the length is not known from then on.
    pub(crate) fn push_numbered(&mut self, mut piece: Piece, number: Option<u64>) -> Fields {
        if number != Some(self.index) {
            self.length = None;
            // The other half of the pair may be in what is missing.
            piece.close_start();
        }
        Fields { index: number, ..self.push(piece) }
    }

    /// What is new in a part, and whether it replaces all that was before.
    fn take(&mut self, piece: Piece) -> (String, bool) {
        let (delta, reset, state) = match &mut self.state {
            State::Delta => return (piece.join(&mut self.half), false),
            State::Cumulative(text) => return replace(text, piece.into_text()),
            State::Undecided { published, sum, grown } => {
                // A text that begins with the second half of a pair continues the one before.
                let continues = self.half.is_some() && piece.starts_with_half();
                let whole = piece.clone().into_text();
                let added = piece.join(&mut self.half);
                *sum = sum.take().map(|sum| sum + &added).filter(|sum| sum.len() <= MAX_UNDECIDED);
                if !continues && whole.starts_with(published.as_str()) {
                    *grown += u8::from(!published.is_empty() && whole.len() > published.len());
                    let (delta, reset) = replace(published, whole);
                    let sure = *grown >= SURE;
                    (delta, reset, sure.then(|| State::Cumulative(std::mem::take(published))))
                } else {
                    let (delta, reset) = match sum.take() {
                        Some(sum) => replace(published, sum),
                        None => {
                            self.length = None;
                            (added, false)
                        }
                    };
                    (delta, reset, Some(State::Delta))
                }
            }
        };
        if let Some(state) = state {
            if matches!(state, State::Cumulative(_)) {
                self.half = None;
            }
            self.state = state;
        }
        (delta, reset)
    }
}

impl State {
    fn of(mode: Mode) -> Self {
        match mode {
            Mode::Delta => Self::Delta,
            Mode::Cumulative => Self::Cumulative(String::new()),
            Mode::Auto => Self::Undecided { published: String::new(), sum: Some(String::new()), grown: 0 },
        }
    }
}

/// Puts a text in the place of the one before. Returns what is new in it, and whether that is all of it because the text
/// does not begin with the one before.
fn replace(before: &mut String, text: String) -> (String, bool) {
    match text.strip_prefix(before.as_str()) {
        Some(delta) => {
            let delta = delta.to_owned();
            *before = text;
            (delta, false)
        }
        None => {
            before.clone_from(&text);
            (text, true)
        }
    }
}

#[cfg(test)]
mod tests;
