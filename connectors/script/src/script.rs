//! A script with the settings of its instance, checked.

use pontoon_sdk::{DeliveryLevel, Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::{Config, Source};
use crate::engine::{Engine, Given};
use crate::operations::{self, Listing};

/// A script, with the settings of its instance.
pub(crate) struct Script {
    pub(crate) config: Config,
    pub(crate) source: Source,
    /// JSON of the setting `settings`.
    pub(crate) settings: String,
    pub(crate) listings: Vec<Listing>,
    functions: Vec<String>,
}

/// What a script has.
#[derive(Deserialize)]
struct Has {
    operations: Value,
    functions: Vec<String>,
}

impl Script {
    /// Reads the file and starts it once.
    pub(crate) fn new(config: Config) -> Result<Self> {
        config.check()?;
        let source = config.script.read()?;
        let settings = Value::Object(config.settings.clone()).to_string();
        // Its secrets are looked up at each connect.
        let secrets: Map<_, _> =
            config.secrets.keys().map(|name| (name.clone(), Value::from("secret"))).collect();
        let given = Given { settings: &settings, secrets: &Value::Object(secrets).to_string() };
        let wrong = |message: String| Error::config(message).at("/script");
        let started = Engine::new(&source, &given, config.limits, 0.0);
        let (_, has) = started.map_err(|fault| wrong(fault.message))?;
        let Has { operations, functions } =
            serde_json::from_str(&has).map_err(|error| wrong(error.to_string()))?;
        let listings =
            operations::read(operations).map_err(|what| wrong(format!("{}: {what}", source.name)))?;
        Ok(Self { config, source, settings, listings, functions })
    }

    pub(crate) fn name(&self) -> &str {
        &self.source.name
    }

    pub(crate) fn has(&self, function: &str) -> bool {
        self.functions.iter().any(|known| known == function)
    }

    pub(crate) fn listing(&self, operation: &str) -> Option<&Listing> {
        self.listings.iter().find(|listing| listing.operation.name == operation)
    }

    pub(crate) fn delivery(&self, operation: &str) -> DeliveryLevel {
        self.listing(operation).map_or(DeliveryLevel::Sent, |listing| listing.operation.delivery)
    }
}
