//! An answer that comes in parts: the text so far, and what is new in each part.

use serde::Serialize;

use crate::config::TextMode;

/// The longest text that is remembered, in bytes. Of a longer one, what has to be remembered is not told.
pub(crate) const MAX_TEXT: usize = 1024 * 1024;

/// How many updates must have grown out of the ones before to say that all will.
const SURE: u8 = 2;

/// An answer as it is read.
pub(crate) struct Reading {
    mode: TextMode,
    /// The message that the updates name, where they do.
    message: Option<String>,
    /// The text as it was told last; `None` once it is too long.
    told: Option<String>,
    manner: Manner,
    /// How many parts were read.
    parts: u64,
}

/// What the updates of an answer are.
enum Manner {
    Cumulative,
    Delta,
    /// It is not known yet. `sum` is the text if they are deltas, unless it is too long; `grown` is how many look as
    /// if they were none.
    Either {
        sum: Option<String>,
        grown: u8,
    },
}

/// One more part, as callers are told. What is not known is absent.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    /// The text so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// What is new in it. Absent where the service wrote the text anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<String>,
    /// The part's number in the answer, from 0.
    pub(crate) index: u64,
}

impl Reading {
    /// Of an answer of which nothing was read.
    pub(crate) fn new(mode: TextMode) -> Self {
        Self { mode, message: None, told: Some(String::new()), manner: Manner::of(mode), parts: 0 }
    }

    /// Reads the text of one more update; `message` is the message that it names, if it does.
    pub(crate) fn read(&mut self, message: Option<&str>, update: &str) -> Part {
        if let Some(message) = message
            && self.message.as_deref() != Some(message)
        {
            // An agent may write more than one message before it is done.
            if self.message.is_some() {
                (self.told, self.manner) = (Some(String::new()), Manner::of(self.mode));
            }
            self.message = Some(message.to_owned());
        }
        let (text, delta) = self.take(update);
        let index = self.parts;
        self.parts += 1;
        Part { text, delta, index }
    }

    fn take(&mut self, update: &str) -> (Option<String>, Option<String>) {
        let told = self.told.take();
        let grown = |text: &str| told.as_deref().and_then(|told| text.strip_prefix(told)).map(str::to_owned);
        let (text, delta) = match &mut self.manner {
            Manner::Cumulative => (Some(update.to_owned()), grown(update)),
            Manner::Delta => (told.map(|told| told + update), Some(update.to_owned())),
            Manner::Either { sum, grown: times } => match (grown(update), &told) {
                (_, None) => (None, None),
                (Some(delta), Some(told)) => {
                    *times += u8::from(!told.is_empty() && !delta.is_empty());
                    if *times >= SURE {
                        self.manner = Manner::Cumulative;
                    } else {
                        *sum = sum.take().map(|sum| sum + update).filter(|sum| sum.len() <= MAX_TEXT);
                    }
                    (Some(update.to_owned()), Some(delta))
                }
                (None, Some(_)) => {
                    let text = sum.take().map(|sum| sum + update);
                    let delta = text.as_deref().map_or_else(|| Some(update.to_owned()), grown);
                    self.manner = Manner::Delta;
                    (text, delta)
                }
            },
        };
        self.told = text.clone().filter(|text| text.len() <= MAX_TEXT);
        (text, delta)
    }
}

impl Manner {
    fn of(mode: TextMode) -> Self {
        match mode {
            TextMode::Cumulative => Self::Cumulative,
            TextMode::Delta => Self::Delta,
            TextMode::Auto => Self::Either { sum: Some(String::new()), grown: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of each update: the text so far, `+` and what is new, or `~` where that is not told.
    fn told(mode: TextMode, updates: &[&str]) -> Vec<String> {
        let mut reading = Reading::new(mode);
        let shown = updates.iter().enumerate().map(|(index, update)| {
            let part = reading.read(None, update);
            assert_eq!(part.index, index as u64);
            let delta = part.delta.map_or_else(|| "~".to_owned(), |delta| format!("+{delta}"));
            format!("{}{delta}", part.text.unwrap_or_default())
        });
        shown.collect()
    }

    #[test]
    fn a_cumulative_text_grows_or_is_written_anew() {
        use TextMode::Cumulative;
        assert_eq!(told(Cumulative, &["I", "I found", "I found"]), ["I+I", "I found+ found", "I found+"]);
        assert_eq!(told(Cumulative, &["I found", "We"]), ["I found+I found", "We~"]);
    }

    #[test]
    fn deltas_are_put_together() {
        assert_eq!(told(TextMode::Delta, &["ha", "ha", "!"]), ["ha+ha", "haha+ha", "haha!+!"]);
    }

    #[test]
    fn the_manner_is_told_by_the_beginnings() {
        use TextMode::Auto;
        assert_eq!(told(Auto, &["I", "I found", "I found it"])[2], "I found it+ it");
        assert_eq!(told(Auto, &["I", " found", " it"]), ["I+I", "I found+ found", "I found it+ it"]);
        // Once it is sure, a text that begins otherwise is one that was written anew.
        assert_eq!(told(Auto, &["I", "I f", "I fo", "We"])[3], "We~");
        // Until then, what was told too short is made up for.
        assert_eq!(told(Auto, &["*", "**", "bold"]), ["*+*", "**+*", "***bold+*bold"]);
        assert_eq!(told(Auto, &["ha", "ha", "!"]), ["ha+ha", "ha+", "haha!+ha!"]);
        assert_eq!(told(Auto, &["", "", "x"])[2], "x+x");
    }

    #[test]
    fn another_message_begins_with_nothing_and_counts_on() {
        let mut reading = Reading::new(TextMode::Delta);
        reading.read(Some("m1"), "a");
        assert_eq!(reading.read(None, "b").text.as_deref(), Some("ab"));
        let part = reading.read(Some("m2"), "c");
        assert_eq!((part.text.as_deref(), part.index), (Some("c"), 2));
    }

    #[test]
    fn a_text_that_is_too_long_is_not_remembered() {
        let long = "x".repeat(MAX_TEXT);
        let mut reading = Reading::new(TextMode::Delta);
        assert_eq!(reading.read(None, &long).text.as_deref().map(str::len), Some(MAX_TEXT));
        reading.read(None, "y");
        let part = reading.read(None, "z");
        assert_eq!(part, Part { text: None, delta: Some("z".into()), index: 2 });

        let mut reading = Reading::new(TextMode::Cumulative);
        reading.read(None, &format!("{long}y"));
        let part = reading.read(None, &format!("{long}yz"));
        assert_eq!((part.text.map(|text| text.len()), part.delta), (Some(MAX_TEXT + 2), None));

        let mut reading = Reading::new(TextMode::Auto);
        reading.read(None, &format!("{long}y"));
        assert_eq!(reading.read(None, "z"), Part { text: None, delta: None, index: 1 });
    }
}
