//! Reads a transcript's text.

use pontoon_sdk::error::Kind;
use pontoon_sdk::units::Span;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::steps::{CommandStep, EventStep, ReplyStep, Status, Step, StepKind, Transcript};

impl Transcript {
    /// Reads a transcript; `name` stands in messages.
    ///
    /// # Errors
    /// The name, the number of the line, and what is wrong there.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut reader = Reader { config: None, link: None, steps: Vec::new(), labels: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                reader.line(number + 1, line).map_err(|wrong| format!("{name}:{}: {wrong}", number + 1))?;
            }
        }
        let config = reader.config.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        Ok(Self { name: name.to_owned(), config, link: reader.link, steps: reader.steps })
    }
}

struct Reader {
    config: Option<Value>,
    link: Option<String>,
    steps: Vec<Step>,
    labels: Vec<String>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        let (word, rest) = split(line);
        if matches!(word, "config" | "link") {
            if !self.steps.is_empty() {
                return Err(format!("`{word}` stands before all else"));
            }
            match word {
                "config" => self.config = Some(json(rest)?),
                _ => self.link = Some(nonempty(rest, "the link's name")?),
            }
            return Ok(());
        }
        let kind = self.step(word, rest)?;
        if self.steps.is_empty() && kind != StepKind::Open {
            self.steps.push(Step { line: number, kind: StepKind::Open });
        }
        self.steps.push(Step { line: number, kind });
        Ok(())
    }

    fn step(&mut self, word: &str, rest: &str) -> Result<StepKind, String> {
        Ok(match word {
            "up" => return up(rest),
            "bus" => match split(rest) {
                ("<-", rest) => StepKind::Command(self.command(rest)?),
                ("->", rest) => StepKind::Event(event(rest)?),
                _ => return Err("`bus` is followed by `<-` or `->`".to_owned()),
            },
            "reply" => StepKind::Reply(self.reply(rest)?),
            "sent" => StepKind::Sent(self.only_label(rest)?),
            "timeout" => StepKind::Timeout(self.only_label(rest)?),
            "wait" => StepKind::Wait(rest.parse::<Span>()?.0),
            "ready" => StepKind::Ready,
            "ends" => StepKind::Ends(kind(rest)?),
            "join" => {
                let (key, data) = split(rest);
                let data = if data.is_empty() { None } else { Some(json(data)?) };
                StepKind::Join { key: nonempty(key, "the join's key")?, data }
            }
            "ask" => match split(rest) {
                ("->", rest) => {
                    let (subject, body) = split(rest);
                    StepKind::Ask { subject: nonempty(subject, "the subject")?, body: json(body)? }
                }
                ("<-", body) => StepKind::Answer(Ok(body.to_owned())),
                ("failed", words) => StepKind::Answer(Err(words.to_owned())),
                _ => return Err("`ask` is followed by `->`, `<-` or `failed`".to_owned()),
            },
            "forget" => StepKind::Forget(nonempty(rest, "the join's key")?),
            _ => {
                return Err(format!(
                    "\"{word}\" begins no line; lines begin with config, link, up, bus, reply, sent, wait, timeout, \
                     ready, ends, join, forget or ask"
                ));
            }
        })
    }

    fn command(&mut self, rest: &str) -> Result<CommandStep, String> {
        let (operation, rest) = split(rest);
        let operation = nonempty(operation, "the operation")?;
        let (body, rest) = body(rest)?;
        let (label, rest) = label(rest);
        let label = label.map_or_else(|| (self.labels.len() + 1).to_string(), str::to_owned);
        if self.labels.contains(&label) {
            return Err(format!("there is a command #{label} already"));
        }
        self.labels.push(label.clone());
        Ok(CommandStep { label, operation, body: body.to_owned(), headers: attributes(rest)? })
    }

    fn reply(&self, rest: &str) -> Result<ReplyStep, String> {
        let (label, rest) = self.known_label(rest)?;
        let (word, mut text) = split(rest);
        let status = Status::ALL.into_iter().find(|status| status.as_str() == word).ok_or_else(|| {
            let known = Status::ALL.map(Status::as_str).join(", ");
            format!("\"{word}\" is no status of a reply; write one of {known}")
        })?;
        let mut code = None;
        if status.has_data() {
            if !text.is_empty() {
                json::<Value>(text)?;
            }
        } else {
            let (number, words) = split(text);
            let number = number.parse().map_err(|_| format!("`{word}` is followed by the error's code"))?;
            (code, text) = (Some(number), words);
        }
        Ok(ReplyStep { label, status, code, text: text.to_owned() })
    }

    fn only_label(&self, rest: &str) -> Result<String, String> {
        match self.known_label(rest)? {
            (label, "") => Ok(label),
            (_, more) => Err(format!("nothing may stand here: {more}")),
        }
    }

    fn known_label<'a>(&self, rest: &'a str) -> Result<(String, &'a str), String> {
        match label(rest) {
            (Some(label), _) if !self.labels.iter().any(|known| known == label) => {
                Err(format!("there is no command #{label} above"))
            }
            (Some(label), rest) => Ok((label.to_owned(), rest)),
            (None, rest) => match self.labels.last() {
                Some(latest) => Ok((latest.clone(), rest)),
                None => Err("there is no command above".to_owned()),
            },
        }
    }
}

fn up(rest: &str) -> Result<StepKind, String> {
    Ok(match split(rest) {
        ("<-", frame) => StepKind::FromService(frame.to_owned()),
        ("->", frame) => StepKind::ToService(frame.to_owned()),
        ("open", "") => StepKind::Open,
        ("close", words) => StepKind::Close(words.to_owned()),
        ("closed", rest) => {
            let (first, more) = split(rest);
            match first.parse() {
                Ok(code) => StepKind::Closed { code: Some(code), reason: more.to_owned() },
                Err(_) => StepKind::Closed { code: None, reason: rest.to_owned() },
            }
        }
        _ => return Err("`up` is followed by `<-`, `->`, `open`, `closed` or `close`".to_owned()),
    })
}

fn event(rest: &str) -> Result<EventStep, String> {
    let (kind, rest) = split(rest);
    let kind = kind.parse().map_err(|error: pontoon_sdk::Error| error.to_string())?;
    let (fields, rest) = body(rest)?;
    let fields: Value = json(fields)?;
    if !fields.is_object() {
        return Err("an event's fields are a JSON object".to_owned());
    }
    let mut step = EventStep { kind, fields, scope: None, upstream: None };
    for (key, value) in attributes(rest)? {
        match key.as_str() {
            "scope" => step.scope = Some(if value == "_" { None } else { Some(value) }),
            "upstream" => step.upstream = Some(value),
            _ => return Err(format!("an event has no \"{key}\"; it has scope and upstream")),
        }
    }
    Ok(step)
}

fn kind(word: &str) -> Result<Kind, String> {
    const KINDS: [Kind; 7] = [
        Kind::Config,
        Kind::Auth,
        Kind::Protocol,
        Kind::Rejected,
        Kind::Disconnected,
        Kind::Throttled,
        Kind::Internal,
    ];
    KINDS
        .into_iter()
        .find(|kind| kind_word(*kind) == word)
        .ok_or_else(|| format!("\"{word}\" is no kind; write one of {}", KINDS.map(kind_word).join(", ")))
}

/// The kind as transcripts write it.
pub(super) fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Config => "config",
        Kind::Auth => "auth",
        Kind::Protocol => "protocol",
        Kind::Rejected => "rejected",
        Kind::Disconnected => "disconnected",
        Kind::Throttled => "throttled",
        Kind::Internal => "internal",
    }
}

/// The first word, and the rest.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

/// `#label` at the beginning, and the rest.
fn label(text: &str) -> (Option<&str>, &str) {
    let (word, rest) = split(text);
    match word.strip_prefix('#') {
        Some(label) if !label.is_empty() => (Some(label), rest),
        _ => (None, text.trim_start()),
    }
}

/// A JSON value at the beginning, `{}` where there is none, and the rest.
fn body(text: &str) -> Result<(&str, &str), String> {
    let (word, _) = split(text);
    let begins = word.starts_with(['{', '[', '"', '-']) || word.starts_with(|c: char| c.is_ascii_digit());
    if !begins && !matches!(word, "true" | "false" | "null") {
        return Ok(("{}", text));
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    match values.next() {
        Some(Ok(value)) => {
            let rest = text.get(values.byte_offset()..).unwrap_or_default();
            Ok((value.get(), rest.trim_start()))
        }
        Some(Err(error)) => Err(format!("this is no JSON: {error}")),
        None => Ok(("{}", "")),
    }
}

/// `key=value …`; a value with white space in it is written as a JSON string.
fn attributes(mut text: &str) -> Result<Vec<(String, String)>, String> {
    let mut attributes = Vec::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once('=').ok_or_else(|| format!("this is no key=value: {text}"))?;
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(format!("this is no key=value: {text}"));
        }
        let (value, rest) = if rest.starts_with('"') {
            let (value, rest) = body(rest)?;
            (json(value)?, rest)
        } else {
            // A value may be empty, so the white space after it must not be skipped before it is read.
            let (value, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            (value.to_owned(), rest.trim_start())
        };
        attributes.push((key.to_owned(), value));
        text = rest;
    }
    Ok(attributes)
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("this is no JSON that fits here: {error}"))
}

fn nonempty(text: &str, what: &str) -> Result<String, String> {
    if text.is_empty() { Err(format!("{what} is missing")) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<StepKind> {
        Transcript::parse("t", text).unwrap().steps.into_iter().map(|step| step.kind).collect()
    }

    fn wrong(text: &str) -> String {
        Transcript::parse("t.txt", text).unwrap_err()
    }

    #[test]
    fn a_command_has_a_body_a_label_and_headers() {
        let text = r#"bus <- call.a/b {"x": [1]} #slow Pontoon-Action=balance Note="two words""#;
        let StepKind::Command(command) = steps(text).remove(1) else { panic!("no command") };
        assert_eq!((command.operation.as_str(), command.body.as_str()), ("call.a/b", r#"{"x": [1]}"#));
        assert_eq!(command.label, "slow");
        let headers = [("Pontoon-Action", "balance"), ("Note", "two words")];
        assert_eq!(command.headers, headers.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn all_but_the_operation_may_be_left_out() {
        let StepKind::Command(command) = steps("bus <- status").remove(1) else { panic!("no command") };
        assert_eq!((command.label.as_str(), command.body.as_str()), ("1", "{}"));
        assert!(command.headers.is_empty());
    }

    #[test]
    fn open_is_understood_and_comments_are_skipped() {
        let transcript = Transcript::parse("t", "# hello\n\nconfig {\"a\":1}\nlink chat\nready\n").unwrap();
        assert_eq!(transcript.config, serde_json::json!({"a": 1}));
        assert_eq!(transcript.link.as_deref(), Some("chat"));
        let ready = [StepKind::Open, StepKind::Ready].map(|kind| Step { line: 5, kind });
        assert_eq!(transcript.steps, ready);
        assert_eq!(steps("up open\nup <- x").len(), 2);
    }

    #[test]
    fn a_line_without_a_label_speaks_of_the_latest_command() {
        let all = steps("bus <- a #x\nbus <- b\nsent\nreply #x failed 502 not now\ntimeout #2");
        assert_eq!(all[3], StepKind::Sent("2".into()));
        let text = "not now".to_owned();
        let reply = ReplyStep { label: "x".into(), status: Status::Failed, code: Some(502), text };
        assert_eq!(all[4], StepKind::Reply(reply));
        assert_eq!(all[5], StepKind::Timeout("2".into()));
    }

    #[test]
    fn a_closed_connection_may_give_code_and_reason() {
        let closed = |code, reason: &str| StepKind::Closed { code, reason: reason.into() };
        let all = steps("up closed\nup closed 1001\nup closed 4001 bad token\nup closed gone");
        assert_eq!(
            all[1..],
            [closed(None, ""), closed(Some(1001), ""), closed(Some(4001), "bad token"), closed(None, "gone")]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, words) in [
            ("\nhello", "t.txt:2: \"hello\" begins no line"),
            ("ready\nconfig {}", "t.txt:2: `config` stands before all else"),
            ("config {", "t.txt:1: this is no JSON"),
            ("bus -> message.made {}", "t.txt:1: \"message.made\" is no event type"),
            ("bus -> log.entry []", "fields are a JSON object"),
            ("bus -> log.entry {} colour=red", "an event has no \"colour\""),
            ("bus <- a {\"x\":", "this is no JSON"),
            ("bus <- a #1\nbus <- b #1", "t.txt:2: there is a command #1 already"),
            ("reply response {}", "there is no command above"),
            ("bus <- a\nreply #7 response {}", "there is no command #7 above"),
            ("bus <- a\nreply maybe", "\"maybe\" is no status"),
            ("bus <- a\nreply failed soon", "followed by the error's code"),
            ("wait long", "is not a duration"),
            ("up down", "`up` is followed by"),
            ("ends badly", "is no kind"),
        ] {
            assert!(wrong(text).contains(words), "{text}: {}", wrong(text));
        }
    }
}
