//! An instance's settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pontoon_generic::encoding::{Codec, Encoding, Inflate};
use pontoon_sdk::settings::check;
use pontoon_sdk::{Error, Param, Result, Secret, Size, Span, Subjects};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The largest script, in bytes.
const LARGEST: u64 = 1 << 20;

/// The settings of a `script` instance.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file with the script; a relative path begins at the folder of the configuration.
    pub script: ScriptFile,
    /// What the service speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// Where the service is: `wss://feed.example/ws`, or `https://chat.example` for Socket.IO.
    pub url: String,
    /// Parameters of the URL's query; each a text or a secret.
    #[serde(default)]
    pub query: BTreeMap<String, Param>,
    /// Headers of the opening request; each a text or a secret.
    #[serde(default)]
    pub headers: BTreeMap<String, Param>,
    /// Subprotocols to offer, in order; each a text or a secret. Not for Socket.IO.
    #[serde(default)]
    pub subprotocols: Vec<Param>,
    /// The namespace of Socket.IO; `/` if it is left out.
    pub namespace: Option<String>,
    /// What is sent to be let in by a service that speaks Socket.IO: each field any JSON, or a secret.
    #[serde(default)]
    pub auth: BTreeMap<String, Param<Value>>,
    /// What binary frames hold, which the script gets as JSON text; what it sends that is not a string or bytes is encoded so,
    /// too. Not for Socket.IO.
    #[serde(default)]
    pub codec: Codec,
    /// How binary frames are compressed. Not for Socket.IO.
    pub inflate: Option<Inflate>,
    /// Secrets by name, which the script has as `secrets.name`, and `${name}` in the query and in headers. Looked up at each connect.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// Subjects of NATS that the script may send requests to, as `out.ask`.
    #[serde(default)]
    pub ask: Subjects,
    /// Whatever the script wants to know, which it has as `settings`.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// What the script may use.
    #[serde(default)]
    pub limits: Limits,
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// WebSocket.
    #[default]
    Websocket,
    /// Socket.IO.
    Socketio,
}

/// What a script may use. One that reaches a limit is stopped and starts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long one call may compute.
    pub time: Span,
    /// Its memory.
    pub memory: Size,
    /// What one call may write: frames, events, replies.
    pub output: Size,
}

/// A file with a script.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The name of the file, for messages.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) text: String,
}

/// The path of a script.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct ScriptFile(PathBuf);

// By this format the daemon knows where a relative path begins.
impl JsonSchema for ScriptFile {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ScriptFile".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "path" })
    }
}

impl ScriptFile {
    /// Reads it.
    ///
    /// # Errors
    /// `Config` if it cannot be read, is too large or not UTF-8.
    pub(crate) fn read(&self) -> Result<Source> {
        let path = self.0.display();
        let wrong = |what: String| Error::config(format!("the script {path} {what}")).at("/script");
        let size =
            std::fs::metadata(&self.0).map_err(|error| wrong(format!("cannot be read: {error}")))?.len();
        if size > LARGEST {
            return Err(wrong(format!("is larger than {LARGEST} bytes")));
        }
        let text =
            std::fs::read_to_string(&self.0).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let name = self.0.file_name().unwrap_or(self.0.as_os_str()).to_string_lossy().into_owned();
        Ok(Source { name, text })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Span(Duration::from_millis(100)), memory: Size::mib(32), output: Size::mib(4) }
    }
}

impl Config {
    /// How frames are encoded.
    pub(crate) fn encoding(&self) -> Encoding {
        Encoding { codec: self.codec, inflate: self.inflate }
    }

    /// Checks what belongs to one of the protocols, and the limits.
    ///
    /// # Errors
    /// `Config`, with the place and what to write.
    pub(crate) fn check(&self) -> Result<()> {
        let is_socketio = self.protocol == Protocol::Socketio;
        check(
            !is_socketio || self.subprotocols.is_empty(),
            "/subprotocols",
            "Socket.IO has no subprotocols; leave it out, or write protocol = \"websocket\"",
        )?;
        let only_websocket = |at| {
            check(
                !is_socketio,
                at,
                "Socket.IO has no such frames; leave it out, or write protocol = \"websocket\"",
            )
        };
        if self.codec != Codec::Json {
            only_websocket("/codec")?;
        }
        if self.inflate.is_some() {
            only_websocket("/inflate")?;
        }
        let only_socketio = "only Socket.IO has this; leave it out, or write protocol = \"socketio\"";
        check(is_socketio || self.namespace.is_none(), "/namespace", only_socketio)?;
        check(is_socketio || self.auth.is_empty(), "/auth", only_socketio)?;
        self.ask.check("/ask")?;
        let Limits { time, memory, output } = self.limits;
        let is_time = (1..=1_000).contains(&time.0.as_millis());
        check(is_time, "/limits/time", "write a time from \"1ms\" to \"1s\"")?;
        let mib = Size::mib(1).0..=Size::mib(1_024).0;
        check(mib.contains(&memory.0), "/limits/memory", "write a size from \"1MiB\" to \"1GiB\"")?;
        let kib = Size::kib(1).0..=memory.0;
        check(kib.contains(&output.0), "/limits/output", "write a size from \"1KiB\" up to limits.memory")
    }
}
