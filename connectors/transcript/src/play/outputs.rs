//! What the session did and no line expected yet.

use std::collections::VecDeque;

use pontoon_sdk::Join;
use pontoon_sdk::command::Reply;
use pontoon_sdk::error::{Code, Error, Kind};
use pontoon_sdk::event::{Event, EventType};
use serde_json::Value;

use crate::frame_text::FrameText;
use crate::parse::kind_word;
use crate::pattern::Names;
use crate::steps::{EventStep, ReplyStep, Status};

pub(super) struct Outputs<F> {
    pub(super) names: Names,
    /// The last line that caused something.
    line: usize,
    frames: VecDeque<F>,
    events: VecDeque<Published>,
    replies: VecDeque<Replied>,
    joins: VecDeque<(String, Option<Value>)>,
    closes: VecDeque<String>,
    asks: VecDeque<(String, Value)>,
    pub(super) ready: bool,
    pub(super) ended: Option<Kind>,
}

struct Published {
    kind: EventType,
    scope: Option<String>,
    upstream: Option<String>,
    body: Value,
}

struct Replied {
    label: String,
    status: Status,
    code: Option<u16>,
    text: String,
    /// Sent by the daemon itself; a transcript may leave it out.
    by_daemon: bool,
}

impl<F> Default for Outputs<F> {
    fn default() -> Self {
        Self {
            names: Names::default(),
            line: 0,
            frames: VecDeque::new(),
            events: VecDeque::new(),
            replies: VecDeque::new(),
            joins: VecDeque::new(),
            closes: VecDeque::new(),
            asks: VecDeque::new(),
            ready: false,
            ended: None,
        }
    }
}

impl<F: FrameText> Outputs<F> {
    /// A line is about to cause something.
    pub(super) fn begin(&mut self, line: usize) {
        self.line = line;
        self.replies.clear();
        self.ready = false;
        self.ended = None;
    }

    /// Whether a line expected everything that must be.
    pub(super) fn settled(&self) -> Result<(), String> {
        match self.unexpected().as_slice() {
            [] => Ok(()),
            unexpected => Err(format!(
                "expected nothing more from line {}; got, and no line expects it:\n  {}",
                self.line,
                unexpected.join("\n  ")
            )),
        }
    }

    fn unexpected(&self) -> Vec<String> {
        let frames = self.frames.iter().map(|frame| format!("up -> {}", frame.to_text()));
        let events = self.events.iter().map(Published::show);
        let replies = self.replies.iter().filter(|replied| !replied.by_daemon).map(Replied::show);
        let joins = self.joins.iter().map(|(key, data)| show_join(key, data.as_ref()));
        let closes = self.closes.iter().map(|words| format!("up close {words}"));
        let asks = self.asks.iter().map(|(subject, body)| format!("ask -> {subject} {body}"));
        frames.chain(events).chain(replies).chain(joins).chain(closes).chain(asks).collect()
    }

    /// "expected …; got …", with what else is there if the thing itself is not.
    fn differs(&self, expected: &str, got: Option<String>) -> String {
        let got = got.unwrap_or_else(|| match self.unexpected().as_slice() {
            [] => format!("nothing of the kind from line {}", self.line),
            unexpected => {
                format!("nothing of the kind from line {}, but\n  {}", self.line, unexpected.join("\n  "))
            }
        });
        format!("expected {expected}; got {got}")
    }

    pub(super) fn frame(&mut self, frame: F) {
        self.frames.push_back(frame);
    }

    pub(super) fn expect_frame(&mut self, expected: &str) -> Result<(), String> {
        let wanted = F::from_text(expected)?;
        match self.frames.pop_front() {
            Some(frame) if frame.is(&wanted, &mut self.names) => Ok(()),
            frame => Err(self.differs(expected, frame.map(|frame| frame.to_text()))),
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        let mut body = serde_json::to_value(&event.fields).unwrap_or_default();
        if let (Value::Object(fields), Some(raw)) = (&mut body, &event.raw) {
            fields.insert(
                "raw".to_owned(),
                raw.parse().unwrap_or_else(|_| String::from_utf8_lossy(raw.as_bytes()).into()),
            );
        }
        let upstream = event.upstream.map(std::borrow::Cow::into_owned);
        self.events.push_back(Published { kind: event.kind, scope: event.scope, upstream, body });
    }

    pub(super) fn expect_event(&mut self, expected: &EventStep) -> Result<(), String> {
        let Some(got) = self.events.pop_front() else {
            return Err(self.differs(&format!("{} {}", expected.kind.as_str(), expected.fields), None));
        };
        let same_scope = match (&expected.scope, &got.scope) {
            (None, _) | (Some(None), None) => true,
            (Some(Some(expected)), Some(got)) => self.names.matches_text(expected, got),
            (Some(_), _) => false,
        };
        let same_upstream = expected.upstream.as_ref().is_none_or(|expected| {
            got.upstream.as_ref().is_some_and(|got| self.names.matches_text(expected, got))
        });
        if expected.kind == got.kind
            && same_scope
            && same_upstream
            && self.names.matches_fields(&expected.fields, &got.body)
        {
            return Ok(());
        }
        let wanted = Published {
            kind: expected.kind,
            scope: expected.scope.clone().flatten(),
            upstream: expected.upstream.clone(),
            body: expected.fields.clone(),
        };
        Err(self.differs(&wanted.show(), Some(got.show())))
    }

    pub(super) fn reply(&mut self, label: String, reply: &Reply) {
        let (status, value) = match reply {
            Reply::Part(value) => (Status::Part, value),
            Reply::Acked(value) => (Status::Acked, value),
            Reply::Response(value) => (Status::Response, value),
            Reply::Failed(error) => return self.reply_error(label, Status::Failed, error),
            Reply::Unknown(error) => return self.reply_error(label, Status::Unknown, error),
        };
        let text = value.get().to_owned();
        self.replies.push_back(Replied { label, status, code: None, text, by_daemon: false });
    }

    pub(super) fn reply_error(&mut self, label: String, status: Status, error: &Error) {
        let code = Some(error.code().number());
        self.replies.push_back(Replied { label, status, code, text: error.to_string(), by_daemon: false });
    }

    pub(super) fn daemon_replies(&mut self, label: String, status: Status) {
        let code = match status {
            Status::Unknown => Some(Code::NoAnswer),
            Status::Failed => Some(Code::NotConnected),
            Status::Expired => Some(Code::Expired),
            _ => None,
        };
        let code = code.map(Code::number);
        self.replies.push_back(Replied { label, status, code, text: String::new(), by_daemon: true });
    }

    pub(super) fn expect_reply(&mut self, expected: &ReplyStep) -> Result<(), String> {
        // A reply of the daemon may be left out, so it does not count before a reply of the session.
        let skipped = |replied: &&Replied| replied.by_daemon && replied.label != expected.label;
        let position = self.replies.iter().take_while(skipped).count();
        let replied = self.replies.remove(position);
        let same = replied.as_ref().is_some_and(|replied| {
            let text = if expected.status.has_data() {
                expected.text.is_empty() || self.names.matches(&expected.text, &replied.text)
            } else {
                replied.by_daemon || replied.text.contains(&expected.text)
            };
            let code = replied.code == expected.code;
            replied.label == expected.label && replied.status == expected.status && code && text
        });
        if same {
            return Ok(());
        }
        let wanted = Replied {
            label: expected.label.clone(),
            status: expected.status,
            code: expected.code,
            text: expected.text.clone(),
            by_daemon: false,
        };
        Err(self.differs(&wanted.show(), replied.as_ref().map(Replied::show)))
    }

    pub(super) fn join(&mut self, join: &Join) {
        let data = serde_json::from_str(join.data.get()).unwrap_or_default();
        self.joins.push_back((join.key.clone(), Some(data)));
    }

    pub(super) fn forget(&mut self, key: String) {
        self.joins.push_back((key, None));
    }

    pub(super) fn expect_join(&mut self, key: &str, data: Option<&Value>) -> Result<(), String> {
        let got = self.joins.pop_front();
        if let Some((got_key, Some(got_data))) = &got
            && self.names.matches_text(key, got_key)
            && data.is_none_or(|data| self.names.matches_json(data, got_data))
        {
            return Ok(());
        }
        let got = got.map(|(key, data)| show_join(&key, data.as_ref()));
        Err(self.differs(&show_join(key, Some(data.unwrap_or(&Value::Null))), got))
    }

    pub(super) fn expect_forget(&mut self, key: &str) -> Result<(), String> {
        let got = self.joins.pop_front();
        if let Some((got_key, None)) = &got
            && self.names.matches_text(key, got_key)
        {
            return Ok(());
        }
        let got = got.map(|(key, data)| show_join(&key, data.as_ref()));
        Err(self.differs(&show_join(key, None), got))
    }

    pub(super) fn ask(&mut self, subject: String, body: Value) {
        self.asks.push_back((subject, body));
    }

    pub(super) fn expect_ask(&mut self, subject: &str, body: &Value) -> Result<(), String> {
        match self.asks.pop_front() {
            Some((got, got_body)) if got == subject && self.names.matches_json(body, &got_body) => Ok(()),
            got => {
                let got = got.map(|(subject, body)| format!("ask -> {subject} {body}"));
                Err(self.differs(&format!("ask -> {subject} {body}"), got))
            }
        }
    }

    pub(super) fn close(&mut self, words: String) {
        self.closes.push_back(words);
    }

    pub(super) fn expect_close(&mut self, words: &str) -> Result<(), String> {
        match self.closes.pop_front() {
            Some(got) if got.contains(words) => Ok(()),
            got => Err(self.differs(&format!("the session to close: {words}"), got)),
        }
    }

    pub(super) fn expect_ready(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.ready) {
            return Ok(());
        }
        Err(self.differs("the session to become ready", None))
    }

    pub(super) fn expect_end(&mut self, kind: Kind) -> Result<(), String> {
        match self.ended {
            Some(got) if got == kind => Ok(()),
            got => Err(self.differs(kind_word(kind), got.map(|got| kind_word(got).to_owned()))),
        }
    }
}

impl Published {
    fn show(&self) -> String {
        let mut text = format!("bus -> {} {}", self.kind.as_str(), self.body);
        if let Some(scope) = &self.scope {
            text.push_str(&format!(" scope={scope}"));
        }
        if let Some(upstream) = &self.upstream {
            text.push_str(&format!(" upstream={upstream}"));
        }
        text
    }
}

impl Replied {
    fn show(&self) -> String {
        let code = self.code.map(|code| format!(" {code}")).unwrap_or_default();
        format!("reply #{} {}{code} {}", self.label, self.status.as_str(), self.text)
    }
}

fn show_join(key: &str, data: Option<&Value>) -> String {
    match data {
        Some(data) => format!("join {key} {data}"),
        None => format!("forget {key}"),
    }
}
