//! An instance's settings, its endpoint, and the names of its links.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_sdk::socketio::Endpoint;
use pontoon_sdk::{Error, LinkKey, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The settings of a `minchat` instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where MinChat's Socket.IO server is.
    #[serde(default = "url")]
    pub url: String,
    /// The API key of the MinChat project. It goes into every message to the service, and is looked up for each.
    pub api_key: Secret,
    /// The id of the MinChat user that this instance writes as.
    pub user_id: Id,
    /// The user's profile, which others are shown when this instance types or has seen a message.
    pub user: Option<User>,
    /// The ids of the chats that are joined from the start.
    #[serde(default)]
    pub chats: Vec<Id>,
    /// How many sockets there are: one for each chat, or one for all.
    #[serde(default)]
    pub links: Links,
}

/// The profile of the user that an instance writes as, in the service's own field names.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The user's id; `user_id` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The name that is unique in the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The name that people see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address of a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// Anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, Value>>,
}

/// How many sockets there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// One for each chat, and one for what is about the user: it is always known which chat an event belongs to.
    #[default]
    PerChat,
    /// One for all: MinChat does not say which chat typing belongs to.
    Shared,
}

fn url() -> String {
    "https://api.minchat.io".to_owned()
}

/// The longest id, in bytes.
pub(crate) const MAX_ID: usize = 256;

/// The id of a chat, a message or a user: 1 to 256 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Id(String);

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if (1..=MAX_ID).contains(&text.len()) && !text.contains(char::is_control) {
            return Ok(Self(text));
        }
        Err(format!("an id has 1 to {MAX_ID} bytes, and no control characters"))
    }
}

impl Id {
    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How many chats one socket joins at most; all of them are joined again at each connect.
pub(crate) const MAX_CHATS: usize = 1_024;

impl Config {
    /// Checks the settings, and makes the endpoint.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let mut endpoint = Endpoint::new(&self.url)?;
        endpoint.secrets.push(self.api_key.clone());
        let mut seen = BTreeSet::new();
        if let Some((place, chat)) = self.chats.iter().enumerate().find(|(_, chat)| !seen.insert(*chat)) {
            let text = format!("{:?} is listed twice; write it once", chat.as_str());
            return Err(Error::config(text).at(format!("/chats/{place}")));
        }
        if self.links == Links::Shared && self.chats.len() > MAX_CHATS {
            let text = format!("one socket joins at most {MAX_CHATS} chats; write links = \"per_chat\"");
            return Err(Error::config(text).at("/chats"));
        }
        Ok(endpoint)
    }

    /// The profile as the service gets it.
    pub(crate) fn profile(&self) -> User {
        let mut user = self.user.clone().unwrap_or_default();
        user.id.get_or_insert_with(|| self.user_id.clone());
        user
    }

    /// Whether a user of this id is the one that the instance writes as.
    pub(crate) fn is_own(&self, id: &str) -> bool {
        let other = self.user.as_ref().and_then(|user| user.id.as_ref());
        self.user_id.as_str() == id || other.is_some_and(|other| other.as_str() == id)
    }
}

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// What is about the user, and no chat.
    User,
    /// One chat.
    Chat(Id),
    /// Everything.
    Shared,
}

/// The name of the link for what is about the user.
const USER: &str = "user";
/// The name of the only link where all is shared.
const SHARED: &str = "main";

impl LinkKind {
    /// The name of the link: a chat's own id. One that could be taken for [`USER`] gets one `_` more than it has.
    pub(crate) fn key(&self) -> LinkKey {
        match self {
            Self::User => LinkKey::new(USER),
            Self::Chat(chat) if is_like_user(&chat.0) => LinkKey::new(format!("{}_", chat.0)),
            Self::Chat(chat) => LinkKey::new(&chat.0),
            Self::Shared => LinkKey::new(SHARED),
        }
    }

    /// What a link of this name is for.
    pub(crate) fn of(key: &LinkKey, links: Links) -> Self {
        match key.as_str() {
            _ if links == Links::Shared => Self::Shared,
            USER => Self::User,
            name if is_like_user(name) => Self::Chat(Id(name.strip_suffix('_').unwrap_or(name).to_owned())),
            name => Self::Chat(Id(name.to_owned())),
        }
    }

    /// The only chat of the link, if it has one.
    pub(crate) fn chat(&self) -> Option<&Id> {
        match self {
            Self::Chat(chat) => Some(chat),
            Self::User | Self::Shared => None,
        }
    }
}

/// Whether this is [`USER`] with any number of `_` behind it.
fn is_like_user(name: &str) -> bool {
    name.trim_end_matches('_') == USER
}
