//! `pontoon asyncapi`: the subjects of this configuration as an AsyncAPI 3.0 document
//! (<https://www.asyncapi.com/docs/reference/specification/v3.0.0>).
//!
//! The application that it describes is the daemon: it sends events and states, and receives commands, which it replies to.

use std::collections::BTreeSet;
use std::io::{Write as _, stdout};
use std::process::ExitCode;

use pontoon_sdk::{EventType, Fields, Operation};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Outcome;
use crate::config::{self, Loaded, Sources};
use crate::registry::Registry;
use crate::settings::{Config, EventMode};

/// Prints the document.
pub(super) fn print(registry: &Registry, sources: &Sources) -> Outcome {
    let Loaded { config, instances, .. } = config::load(registry, sources)?;
    let mut document = Document::new(&config);
    for instance in &instances {
        let subjects = Subjects { config: &config, kind: instance.run.kind(), instance: &instance.name };
        let settings = config.connectors.get(&instance.name).map(|instance| &instance.settings);
        let own = settings.into_iter().flat_map(|settings| settings.values()).flat_map(own_types).collect();
        document.add(&subjects, &own, &instance.run.operations(config.admin.commands));
    }
    writeln!(stdout(), "{:#}", document.finish())?;
    Ok(ExitCode::SUCCESS)
}

/// The document in the making.
struct Document {
    servers: Map<String, Value>,
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    schemas: Map<String, Value>,
    /// The schema of the body of every event.
    payload: Value,
}

/// Where an instance publishes and subscribes.
struct Subjects<'a> {
    config: &'a Config,
    kind: &'a str,
    instance: &'a str,
}

impl Subjects<'_> {
    fn subject(&self, what: &str, rest: &str) -> String {
        format!("{}.{what}.{}.{}{rest}", self.config.nats.prefix, self.kind, self.instance)
    }
}

impl Document {
    /// With what does not depend on the instances.
    fn new(config: &Config) -> Self {
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let mut generator = settings.into_generator();
        let fields = generator.subschema_for::<Fields>().to_value();
        let schemas = generator.take_definitions(false);
        let data = json!({ "allOf": [fields, { "type": "object", "properties": { "raw": {
            "description": "The payload exactly as it was received; absent with events.raw = false"
        } } }] });
        let payload = match config.events.mode {
            EventMode::Binary => data,
            EventMode::Structured => json!({
                "type": "object", "required": ["specversion", "id", "source", "type", "data"],
                "properties": { "specversion": { "const": "1.0" }, "data": data },
            }),
        };
        let mut messages = Map::new();
        messages.insert("reply".to_owned(), reply());
        messages.insert("result".to_owned(), reply());
        messages.insert("state".to_owned(), json!({ "payload": { "type": "object" } }));
        messages.insert(
            "dead".to_owned(),
            json!({ "summary": "The headers of an event that could not be published" }),
        );
        let servers = config.nats.url.list().into_iter().enumerate().map(|(index, url)| {
            // A user and a password do not belong here.
            let host = url.rsplit(['/', '@']).next().unwrap_or(url);
            (format!("nats{index}"), json!({ "host": host, "protocol": "nats" }))
        });
        let channels = json!({ "reply": {
            "address": null, "description": "The reply subject of the request",
            "messages": { "reply": reference("messages", "reply") },
        } });
        Self {
            servers: servers.collect(),
            channels: object(channels),
            operations: Map::new(),
            messages,
            schemas,
            payload,
        }
    }

    /// Adds an instance. `own` are the types of events that its configuration names.
    fn add(&mut self, subjects: &Subjects<'_>, own: &BTreeSet<&str>, operations: &[Operation]) {
        let instance = subjects.instance;
        for word in EventType::ALL.iter().map(|event| event.as_str()).chain(own.iter().copied()) {
            let message = self.event(&format!("pontoon.{word}.v1"));
            self.messages.entry(word).or_insert(message);
            let address = subjects.subject("event", &format!(".{word}.{{scope}}"));
            let scope = "The conversation or resource, with every byte outside [A-Za-z0-9_-] as =HH; _ if there is none";
            let parameters = json!({ "scope": { "description": scope } });
            self.sends(&format!("{instance}.event.{word}"), &address, word, parameters);
        }
        self.sends(&format!("{instance}.state"), &subjects.subject("state", ""), "state", json!({}));
        let parameters = json!({ "reason": { "description": "Why they could not be published" } });
        self.sends(&format!("{instance}.dead"), &subjects.subject("dead", ".{reason}"), "dead", parameters);
        let jobs = subjects.config.jobs.are_taken(subjects.config.delivery.mode);
        for operation in operations {
            self.receives(subjects, operation);
            if jobs {
                self.takes(subjects, operation);
            }
        }
    }

    fn event(&self, ce_type: &str) -> Value {
        json!({
            "name": ce_type, "contentType": "application/json", "payload": self.payload,
            "traits": [reference("messageTraits", "cloudEvents")],
        })
    }

    fn sends(&mut self, id: &str, address: &str, message: &str, parameters: Value) {
        let channel = json!({
            "address": address, "parameters": parameters,
            "messages": { message: reference("messages", message) },
        });
        self.channels.insert(id.to_owned(), channel);
        let channel = json!({ "$ref": format!("#/channels/{id}") });
        self.operations.insert(id.to_owned(), json!({ "action": "send", "channel": channel }));
    }

    fn receives(&mut self, subjects: &Subjects<'_>, operation: &Operation) {
        let Operation { name, summary, body, delivery, idempotent, .. } = operation;
        let id = format!("{}.command.{name}", subjects.instance);
        let message = format!("{}.{name}", subjects.kind);
        let (rest, parameters) = rest(operation);
        let payload = self.hoisted(body.as_value().clone(), &message);
        self.messages.insert(
            message.clone(),
            json!({
                "name": message, "summary": summary, "contentType": "application/json", "payload": payload,
                "traits": [reference("messageTraits", "command")],
            }),
        );
        let address = subjects.subject("command", &rest);
        let messages = json!({ "command": reference("messages", &message) });
        let channel = json!({ "address": address, "parameters": parameters, "messages": messages });
        self.channels.insert(id.clone(), channel);
        let repeat = if *idempotent { "may be repeated" } else { "not to be repeated" };
        let operation = json!({
            "action": "receive", "channel": { "$ref": format!("#/channels/{id}") }, "summary": summary,
            "description": format!("Replies confirm up to \"{}\"; {repeat}.", delivery.as_str()),
            "reply": { "channel": { "$ref": "#/channels/reply" } },
        });
        self.operations.insert(id, operation);
    }

    /// The same operation as a job, and its result.
    fn takes(&mut self, subjects: &Subjects<'_>, operation: &Operation) {
        let Operation { name, summary, .. } = operation;
        let id = format!("{}.job.{name}", subjects.instance);
        let (command, message) =
            (format!("{}.{name}", subjects.kind), format!("{}.job.{name}", subjects.kind));
        let mut job = self.messages.get(&command).cloned().unwrap_or_default();
        job["name"] = message.clone().into();
        job["traits"] = json!([reference("messageTraits", "command"), reference("messageTraits", "job")]);
        self.messages.insert(message.clone(), job);
        let (rest, parameters) = rest(operation);
        let channel = json!({
            "address": subjects.subject("job", &rest), "parameters": parameters,
            "messages": { "job": reference("messages", &message) },
        });
        self.channels.insert(id.clone(), channel);
        let operation = json!({
            "action": "receive", "channel": { "$ref": format!("#/channels/{id}") }, "summary": summary,
            "description": "Kept by a stream until it has a result",
        });
        self.operations.insert(id, operation);
        let address = subjects.subject("result", &rest);
        self.sends(&format!("{}.result.{name}", subjects.instance), &address, "result", parameters);
    }

    /// A schema whose definitions are among the components.
    fn hoisted(&mut self, mut schema: Value, name: &str) -> Value {
        let definitions = schema.as_object_mut().and_then(|schema| {
            schema.remove("$schema");
            schema.remove("$defs")
        });
        let place = format!("#/components/schemas/{name}.");
        rewrite(&mut schema, &place);
        for (key, mut definition) in definitions.map(object).unwrap_or_default() {
            rewrite(&mut definition, &place);
            self.schemas.insert(format!("{name}.{key}"), definition);
        }
        schema
    }

    fn finish(self) -> Value {
        let Self { servers, channels, operations, messages, schemas, .. } = self;
        json!({
            "asyncapi": "3.0.0",
            "info": {
                "title": "Pontoon", "version": env!("CARGO_PKG_VERSION"),
                "description": "Services behind persistent sockets, bridged to NATS",
            },
            "defaultContentType": "application/json",
            "servers": servers, "channels": channels, "operations": operations,
            "components": {
                "messages": messages, "schemas": schemas,
                "messageTraits": { "cloudEvents": cloud_events(), "command": command(), "job": job() },
            },
        })
    }
}

/// The headers of events (CloudEvents, NATS protocol binding).
fn cloud_events() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({ "headers": { "type": "object", "properties": {
        "ce-id": text("Identifies the event together with ce-source"),
        "ce-source": text("The instance"),
        "ce-type": text("pontoon.<noun>.<verb>.v1"),
        "ce-specversion": { "const": "1.0" },
        "ce-sequence": text("Grows with every event of the instance, in the order of texts"),
        "ce-time": text("The service's time if it sends one, else when the frame was read"),
        "ce-recordedtime": text("When the frame was read"),
        "ce-subject": text("The conversation or resource"),
        "ce-link": text("The link that it was read from"),
        "ce-upstreamevent": text("The service's name for it"),
        "ce-pontoonlate": text("true: published behind events of a newer owner (only in a cluster)"),
    } } })
}

/// The headers of commands.
fn command() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({ "headers": { "type": "object", "properties": {
        "Pontoon-Wait": { "enum": ["accepted", "sent", "acked", "response"] },
        "Pontoon-Timeout": text("How long the caller waits, such as 5s"),
        "Pontoon-Stream": text("true: an answer that the service sends in pieces is passed on in parts"),
        "Idempotency-Key": text("Commands with one key are carried out once"),
        "traceparent": text("W3C Trace Context"),
    } } })
}

/// The headers that jobs have besides.
fn job() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({ "headers": { "type": "object", "properties": {
        "Nats-Msg-Id": text("The id of the job, in its result, too"),
        "Pontoon-Expires": text("How long after it was stored it may be sent to the service, such as 10m"),
        "Pontoon-Repeat": text("true: it may be sent again if it may have been carried out"),
        "Pontoon-Scope": text("Which jobs go one after the other"),
    } } })
}

/// The end of the subjects of an operation, and its parameters.
fn rest(operation: &Operation) -> (String, Value) {
    let Operation { name, argument, .. } = operation;
    match argument {
        Some(argument) => (
            format!(".{name}.{{{argument}}}"),
            json!({ *argument: { "description": "What the rest of the subject names" } }),
        ),
        None => (format!(".{name}"), json!({})),
    }
}

fn reply() -> Value {
    let statuses =
        ["accepted", "sent", "acked", "response", "part", "rejected", "failed", "expired", "unknown"];
    json!({ "payload": { "type": "object", "required": ["status", "id"], "properties": {
        "status": { "enum": statuses },
        "id": { "type": "string" },
        "data": {},
        "error": { "type": "object", "properties": {
            "code": { "type": "integer" }, "message": { "type": "string" },
        } },
    } } })
}

/// The types of events that a setting names, such as `x-trade.executed`.
fn own_types(setting: &Value) -> Vec<&str> {
    match setting {
        Value::String(text) => match text.parse::<EventType>() {
            Ok(EventType::Custom(_)) => vec![text],
            _ => Vec::new(),
        },
        Value::Array(values) => values.iter().flat_map(own_types).collect(),
        Value::Object(map) => map.values().flat_map(own_types).collect(),
        _ => Vec::new(),
    }
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Has the references to definitions of a schema lead to this place.
fn rewrite(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().and_then(|text| text.strip_prefix("#/$defs/")).filter(|_| key == "$ref")
                {
                    Some(name) => *value = format!("{place}{name}").into(),
                    None => rewrite(value, place),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rewrite(value, place)),
        _ => {}
    }
}
