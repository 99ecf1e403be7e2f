//! An instance's settings, and the endpoint they make.

use std::borrow::Cow;
use std::collections::BTreeSet;

use pontoon_sdk::settings::text_or_table;
use pontoon_sdk::socketio::Endpoint;
use pontoon_sdk::{Error, Param, Result, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::uuid::Uuid;

/// The settings of an `elizaos` instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the server is, such as `http://localhost:3000`.
    pub url: String,
    /// Which of its two dialects the server speaks.
    #[serde(default)]
    pub dialect: Dialect,
    /// The entity that this instance writes as. If absent, it is derived from `url` and `name`, and so stays the same.
    pub entity_id: Option<Uuid>,
    /// The key that the server's sockets ask for (`SERVER_API_KEY`); looked up at each connect.
    pub api_key: Option<Secret>,
    /// The name that others see.
    #[serde(default = "name", deserialize_with = "id")]
    pub name: String,
    /// The message server that rooms are in; the default is the one that every ElizaOS has.
    #[serde(default)]
    pub server_id: Uuid,
    /// The rooms that are joined from the start.
    #[serde(default)]
    pub rooms: Vec<Room>,
    /// Whether the server's log is subscribed to. Its lines can carry the messages of others.
    #[serde(default)]
    pub logs: bool,
}

/// Which dialect the server speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Decided once for each connection: native if the server greets, documented if it is silent.
    #[default]
    Auto,
    /// The one that ElizaOS's page on Socket.IO describes.
    Documented,
    /// The one that released servers speak.
    Native,
}

/// A room, and the agent that takes part in it. Written as an id alone, or as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The room's id.
    pub id: String,
    /// The agent, if the room is a conversation with one: it is made a participant with the first message.
    pub agent_id: Option<Uuid>,
}

/// A room that is written as a table.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RoomTable {
    /// The room's id.
    #[serde(deserialize_with = "id")]
    id: String,
    /// The agent, if the room is a conversation with one: it is made a participant with the first message.
    agent_id: Option<Uuid>,
}

impl<'de> Deserialize<'de> for Room {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a room: its id, or { id = \"…\", agent_id = \"…\" }";
        let of_id = |text: &str| Ok(Self { id: checked_id(text.to_owned())?, agent_id: None });
        text_or_table(deserializer, expected, of_id, |RoomTable { id, agent_id }| Self { id, agent_id })
    }
}

impl JsonSchema for Room {
    fn schema_name() -> Cow<'static, str> {
        "Room".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A room: its id, or a table with the agent that takes part in it",
            "anyOf": [{ "type": "string", "minLength": 1 }, generator.subschema_for::<RoomTable>()]
        })
    }
}

fn name() -> String {
    "Pontoon".to_owned()
}

/// The longest id or name, in bytes.
pub(crate) const MAX_ID: usize = 256;
/// How many rooms are joined at most; all of them are joined again at each connect.
pub(crate) const MAX_ROOMS: usize = 1_024;

/// Settings that were checked, and what follows from them.
pub(crate) struct Setup {
    pub(crate) config: Config,
    /// The entity that this instance writes as.
    pub(crate) entity: Uuid,
}

impl Setup {
    /// Checks the settings, and makes the endpoint of them.
    pub(crate) fn new(config: Config) -> Result<(Self, Endpoint)> {
        let mut endpoint = Endpoint::new(&config.url)?;
        if config.rooms.len() > MAX_ROOMS {
            let text = format!("at most {MAX_ROOMS} rooms are joined; make another instance for the others");
            return Err(Error::config(text).at("/rooms"));
        }
        let mut seen = BTreeSet::new();
        for (place, Room { id, .. }) in config.rooms.iter().enumerate() {
            if !seen.insert(id) {
                let text = format!("{id:?} is listed twice; write it once");
                return Err(Error::config(text).at(format!("/rooms/{place}")));
            }
        }
        let derived = || Uuid::derived(&format!("{} {}", config.url, config.name));
        let entity = config.entity_id.unwrap_or_else(derived);
        // Servers before 1.6.5 look at neither; later ones demand the first.
        endpoint.auth.push(("entityId".to_owned(), Param::Plain(entity.to_string().into())));
        if let Some(key) = &config.api_key {
            endpoint.auth.push(("apiKey".to_owned(), Param::Secret(key.clone())));
        }
        Ok((Self { config, entity }, endpoint))
    }

    /// The settings of a room.
    pub(crate) fn room(&self, id: &str) -> Option<&Room> {
        self.config.rooms.iter().find(|room| room.id == id)
    }
}

/// An id or a name.
pub(crate) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked_id(String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn checked_id(text: String) -> Result<String, String> {
    if (1..=MAX_ID).contains(&text.len()) && !text.contains(char::is_control) {
        return Ok(text);
    }
    Err(format!("this has 1 to {MAX_ID} bytes, and no control characters"))
}

/// An id or a name, or `null`.
pub(crate) fn optional_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(checked_id).transpose().map_err(D::Error::custom)
}
