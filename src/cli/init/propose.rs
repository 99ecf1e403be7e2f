//! What is proposed for a service, from the messages that it has sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use pontoon_generic::mapping::shared_fields;
use pontoon_sdk::{socketio, websocket};
use serde_json::Value;

/// Names of the field that tells frames apart, the likeliest first.
const KINDS: [&str; 14] = [
    "type",
    "event",
    "kind",
    "t",
    "e",
    "op",
    "action",
    "method",
    "cmd",
    "command",
    "message_type",
    "topic",
    "name",
    "stream",
];
/// Names of what an event has, by setting.
const PLACES: [(&str, &[&str]); 6] = [
    ("channel", &["channel", "room", "room_id", "chat", "chat_id", "channel_id", "symbol", "s", "topic"]),
    ("id", &["id", "message_id", "msg_id", "uuid", "_id"]),
    ("sender", &["user_id", "sender_id", "author_id", "from", "sender", "author", "user"]),
    ("sender_name", &["user_name", "username", "nick", "nickname", "display_name"]),
    ("text", &["text", "message", "content", "body", "msg"]),
    ("time", &["time", "timestamp", "ts", "created_at", "at", "date"]),
];
/// How many fields are proposed for a type that the table names.
const MOST_FIELDS: usize = 16;
/// How many kinds are proposed.
const MOST_KINDS: usize = 64;
/// How deep pointers lead.
const DEPTH: usize = 3;

/// Messages, by their kinds; those without one have none.
pub(super) struct Messages {
    /// The type of the connector.
    connector: &'static str,
    /// Where the kind stands, if kinds stand somewhere.
    kind: Option<String>,
    by_kind: BTreeMap<String, Vec<Value>>,
    /// How many are not JSON.
    others: usize,
    count: usize,
}

impl Messages {
    /// Those of a WebSocket service: the field that tells most of them apart is the kind.
    pub(super) fn of_websocket(frames: &[websocket::Frame]) -> Self {
        let documents = frames.iter().filter_map(|frame| frame.json::<Value>().ok()).map(|(value, _)| value);
        let documents: Vec<_> = documents.filter(|value| value.is_object()).collect();
        let kind = kind_of(&documents);
        let mut by_kind: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for document in &documents {
            let found = kind.as_deref().and_then(|kind| document.pointer(kind)).and_then(text);
            if let Some(kind) = found {
                by_kind.entry(kind).or_default().push(document.clone());
            }
        }
        let others = frames.len() - documents.len();
        Self { connector: "websocket", kind, by_kind, others, count: frames.len() }
    }

    /// Those of a Socket.IO service: the name is the kind.
    pub(super) fn of_socketio(frames: &[socketio::Frame]) -> Self {
        let mut by_kind: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for frame in frames {
            if let socketio::Frame::Event(event) = frame {
                let values = event.args.values().iter().filter_map(|value| value.parse::<Value>().ok());
                by_kind.entry(event.name.clone()).or_default().push(values.collect());
            }
        }
        Self { connector: "socketio", kind: None, by_kind, others: 0, count: frames.len() }
    }
}

/// A table to propose.
pub(super) struct Proposal<'a> {
    pub(super) url: &'a str,
    pub(super) name: &'a str,
    pub(super) header: &'a [(String, String)],
    pub(super) query: &'a [(String, String)],
    pub(super) send: &'a [String],
    pub(super) messages: &'a Messages,
}

impl Proposal<'_> {
    /// The table, commented.
    pub(super) fn table(&self) -> String {
        let Messages { connector, kind, by_kind, others, count } = self.messages;
        let mut table = format!(
            "# Proposed from {count} messages; see what each kind means, and rename types and fields.\n\
             [connectors.{}]\ntype = {}\nurl = {}\n",
            self.name,
            quoted(connector),
            quoted(self.url)
        );
        // Writing to a String cannot fail.
        for (setting, named) in [("headers", self.header), ("query", self.query)] {
            for (name, variable) in named {
                writeln!(table, "{setting}.{} = {{ env = {} }}", quoted(name), quoted(variable)).ok();
            }
        }
        if !self.send.is_empty() {
            let texts: Vec<_> = self.send.iter().map(|text| quoted(text)).collect();
            writeln!(table, "send_on_connect = [{}]", texts.join(", ")).ok();
        }
        match kind {
            Some(kind) => writeln!(table, "\n# What tells messages apart.\nkind = {}", quoted(kind)).ok(),
            None if *connector == "websocket" => writeln!(
                table,
                "\n# No field tells messages apart: they are published as frame.unrecognised."
            )
            .ok(),
            None => None,
        };
        if *others > 0 {
            writeln!(
                table,
                "# {others} of the messages are not JSON objects: see text, binary, split, codec and inflate."
            )
            .ok();
        }
        let alive: Vec<_> = by_kind.keys().filter(|kind| is_alive(kind)).map(|kind| quoted(kind)).collect();
        if !alive.is_empty() && *connector == "websocket" {
            writeln!(
                table,
                "# Only signs of life, it seems. One that wants an answer gets it by heartbeat.answer."
            )
            .ok();
            writeln!(table, "heartbeat = {{ ignore = [{}] }}", alive.join(", ")).ok();
        }
        let mapped = by_kind.iter().filter(|(kind, _)| !is_alive(kind)).take(MOST_KINDS);
        let entries: Vec<_> = mapped
            .map(|(kind, messages)| format!("{} = {}\n", quoted(kind), entry(kind, messages)))
            .collect();
        if !entries.is_empty() {
            write!(table, "\n[connectors.{}.events]\n{}", self.name, entries.concat()).ok();
        }
        table
    }
}

/// A text as TOML.
fn quoted(text: &str) -> String {
    // A string of JSON is one of TOML, but for this character.
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A string, a number or a truth value as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Whether a kind is that of signs of life.
fn is_alive(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    ["ping", "pong", "heartbeat", "hb", "ka"].contains(&kind.as_str())
        || kind.contains("keepalive")
        || kind.contains("keep_alive")
}

/// Where the kind of most messages stands: a short text that has few values, by a likely name if there is one.
fn kind_of(documents: &[Value]) -> Option<String> {
    let mut values: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for document in documents {
        for (place, value) in leaves(document, 2) {
            if let Some(text) = value.as_str().filter(|text| is_kind(text)) {
                values.entry(place).or_default().push(text);
            }
        }
    }
    let candidates = values.into_iter().filter_map(|(place, texts)| {
        let distinct = texts.iter().collect::<BTreeSet<_>>().len();
        let name = place.rsplit('/').next().unwrap_or_default();
        let likely = KINDS.iter().position(|known| *known == name);
        let is_common = texts.len() * 2 >= documents.len();
        let is_few = distinct <= MOST_KINDS && (likely.is_some() || distinct * 2 <= texts.len());
        let depth = place.matches('/').count();
        (is_common && is_few).then(|| (likely.is_none(), depth, likely, distinct, place))
    });
    candidates.min().map(|(.., place)| place)
}

fn is_kind(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && !text.contains(char::is_whitespace)
}

/// Strings, numbers and truth values of a message, and where they stand.
fn leaves(value: &Value, depth: usize) -> Vec<(String, &Value)> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (pontoon_sdk::settings::escaped(key), value)).collect()
        }
        Value::Array(items) => {
            items.iter().take(4).enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        Value::Null => return Vec::new(),
        _ => return vec![(String::new(), value)],
    };
    if depth == 0 {
        return Vec::new();
    }
    let further = inner.into_iter().flat_map(|(step, value)| {
        leaves(value, depth - 1).into_iter().map(move |(rest, leaf)| (format!("/{step}{rest}"), leaf))
    });
    further.collect()
}

/// What the messages of a kind become.
fn entry(kind: &str, messages: &[Value]) -> String {
    let mut found: BTreeMap<String, &Value> = BTreeMap::new();
    for (place, value) in messages.iter().flat_map(|message| leaves(message, DEPTH)) {
        found.entry(place).or_insert(value);
    }
    let place_of = |setting: &str| {
        let names = PLACES.iter().find(|(known, _)| *known == setting).map_or(&[][..], |(_, names)| names);
        names.iter().find_map(|name| {
            let mut places: Vec<_> =
                found.keys().filter(|place| place.rsplit('/').next() == Some(name)).collect();
            places.sort_by_key(|place| place.matches('/').count());
            places.first().map(|place| (*place).clone())
        })
    };
    let lower = kind.to_ascii_lowercase();
    let is_message = (lower.contains("message") || lower.contains("msg") || lower.contains("chat"))
        && place_of("text").is_some();
    let kind_type = if is_message {
        "message.created".to_owned()
    } else if lower.contains("error") {
        "error.raised".to_owned()
    } else {
        format!("x-{}.received", noun(&lower))
    };
    let is_custom = kind_type.starts_with("x-");
    let settings: &[&str] = if is_message {
        &["channel", "id", "sender", "sender_name", "text", "time"]
    } else if is_custom {
        &["channel", "time"]
    } else {
        &["text", "time"]
    };
    let mut parts = vec![format!("type = {}", quoted(&kind_type))];
    let mut used = BTreeSet::new();
    for setting in settings {
        let Some(place) = place_of(setting) else { continue };
        let value = found.get(&place).copied().unwrap_or(&Value::Null);
        if *setting == "time" && !is_time(value) {
            continue;
        }
        parts.push(format!("{setting} = {}", quoted(&place)));
        if *setting == "time"
            && let Some(unit) = unit(value)
        {
            parts.push(format!("time_unit = {}", quoted(unit)));
        }
        used.insert(place);
    }
    if is_custom {
        let fields = fields(found.keys().filter(|place| !used.contains(*place)));
        if !fields.is_empty() {
            parts.push(format!("fields = {{ {} }}", fields.join(", ")));
        }
    }
    format!("{{ {} }}", parts.join(", "))
}

/// A name for each place.
fn fields<'a>(places: impl Iterator<Item = &'a String>) -> Vec<String> {
    let shared = shared_fields();
    let mut names = BTreeSet::new();
    let mut fields = Vec::new();
    for place in places.take(MOST_FIELDS) {
        let plain: String = place
            .trim_start_matches('/')
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let short: String = plain.rsplit('_').next().unwrap_or_default().to_owned();
        let free = |name: &String| {
            !name.is_empty() && !names.contains(name) && !shared.contains(name) && !name.starts_with("raw")
        };
        let name = [short, plain.clone(), format!("{plain}_value")].into_iter().find(free);
        if let Some(name) = name.filter(|name| name.len() <= 64) {
            fields.push(format!("{name} = {}", quoted(place)));
            names.insert(name);
        }
    }
    fields
}

/// A kind as a noun of a type.
fn noun(kind: &str) -> String {
    let plain: String =
        kind.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let plain = plain.trim_matches('-');
    if plain.is_empty() { "event".to_owned() } else { plain.to_owned() }
}

fn is_time(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() >= 20 && text.as_bytes().get(10) == Some(&b'T'),
        value => value.as_f64().is_some_and(|number| number >= 1e9),
    }
}

/// What a number counts, if that is not milliseconds, since 1970.
fn unit(value: &Value) -> Option<&'static str> {
    match value.as_f64()? {
        ..1e11 => Some("s"),
        ..1e14 => None,
        ..1e17 => Some("us"),
        _ => Some("ns"),
    }
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format as _, Toml};
    use pontoon_generic::{Socketio, Websocket};
    use pontoon_sdk::Connector;
    use serde_json::json;

    use super::*;

    /// What is proposed, which a connector takes.
    fn proposed<C: Connector>(messages: &Messages) -> Value {
        let header = [("Authorization".to_owned(), "TOKEN".to_owned())];
        let send = ["{\"subscribe\":\"a\\b\"}".to_owned()];
        let send: &[String] = if C::TYPE == "websocket" { &send } else { &[] };
        let url = if C::TYPE == "websocket" { "wss://h/" } else { "https://h/" };
        let table = Proposal { url, name: "service", header: &header, query: &[], send, messages }.table();
        let read = Figment::from(Toml::string(&table)).extract_inner::<Value>("connectors.service");
        let mut settings = read.unwrap_or_else(|error| panic!("{error}: {table}"));
        assert_eq!(settings.as_object_mut().unwrap().remove("type"), Some(C::TYPE.into()));
        let config =
            serde_json::from_value(settings.clone()).unwrap_or_else(|error| panic!("{error}: {table}"));
        if let Err(error) = C::new(config) {
            panic!("{error}: {table}");
        }
        settings
    }

    fn of_websocket(messages: &[Value]) -> Value {
        let frames: Vec<_> =
            messages.iter().map(|message| websocket::Frame::text(message.to_string())).collect();
        proposed::<Websocket>(&Messages::of_websocket(&frames))
    }

    #[test]
    fn kinds_and_places_are_found() {
        let table = of_websocket(&[
            json!({"type": "message", "room": "lobby", "id": 7, "from": "u1", "text": "hi", "at": 1_700_000_000_123_u64}),
            json!({"type": "message", "room": "attic", "id": 8, "from": "u2", "text": "ho", "at": 1_700_000_000_124_u64}),
            json!({"type": "trade", "symbol": "BTC", "data": {"p": 1.5, "code": 2}, "ts": 1_700_000_000}),
            json!({"type": "ping"}),
            json!({"type": "error", "message": "no"}),
        ]);
        assert_eq!(table["kind"], "/type");
        assert_eq!(table["heartbeat"]["ignore"], json!(["ping"]));
        assert_eq!(
            table["events"]["message"],
            json!({"type": "message.created", "channel": "/room", "id": "/id", "sender": "/from", "text": "/text", "time": "/at"})
        );
        let trade = &table["events"]["trade"];
        assert_eq!((&trade["type"], &trade["channel"]), (&json!("x-trade.received"), &json!("/symbol")));
        assert_eq!((&trade["time"], &trade["time_unit"]), (&json!("/ts"), &json!("s")));
        assert_eq!(trade["fields"]["p"], "/data/p");
        assert_eq!(table["events"]["error"], json!({"type": "error.raised", "text": "/message"}));
    }

    #[test]
    fn a_field_that_only_looks_like_a_kind_is_not_one() {
        let feed: Vec<_> =
            (0..20).map(|n| json!({"id": format!("id-{n}"), "side": "buy", "price": n})).collect();
        assert_eq!(of_websocket(&feed)["kind"], "/side");
        let texts: Vec<_> =
            (0..20).map(|n| json!({"id": format!("id-{n}"), "text": format!("text {n}")})).collect();
        assert_eq!(of_websocket(&texts).get("kind"), None);
    }

    #[test]
    fn what_is_odd_is_proposed_so_that_a_connector_takes_it() {
        let kinds =
            ["", "a b", "\"'\\", "é☃", "\u{7f}\u{1}", "raw", "x".repeat(64).as_str(), "MESSAGE", "ERROR"]
                .map(str::to_owned);
        let odd = |kind: &String| {
            json!({"type": kind, "raw": 1, "status": 2, "a/b~c": 3, "": 4, "é": 5, "text": [null], "code": {"code": {"code": {"code": 1}}},
                "deep": [[[[1]]]], "ts": -1, "time": "never"})
        };
        let messages: Vec<_> = kinds.iter().map(odd).collect();
        of_websocket(&messages);
        of_websocket(&[json!([1]), json!(5), json!({}), json!({"type": null})]);
        of_websocket(&[]);
        let many: Vec<_> = (0..200).map(|n| json!({"type": format!("k{n}"), "v": n})).collect();
        of_websocket(&many);
        let wide: serde_json::Map<_, _> = (0..500).map(|n| (format!("field_{n}"), json!(n))).collect();
        of_websocket(&[json!({"type": "wide", "inner": wide})]);
        let event = |name: &String| {
            let args = vec![pontoon_sdk::Raw::json(&odd(name)).unwrap()];
            socketio::Frame::Event(socketio::Event::new(name.clone(), args))
        };
        let frames: Vec<_> = kinds.iter().map(event).collect();
        let table = proposed::<Socketio>(&Messages::of_socketio(&frames));
        assert!(table["events"]["a b"]["type"].as_str().unwrap().starts_with("x-"), "{table}");
    }
}
