//! From a type's name in the configuration to the connector; connector types are erased here and nowhere else.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use pontoon_sdk::{Connector, Error, Operation, Request as _};
use schemars::Schema;
use serde_json::{Map, Value};

use crate::instance::{Run, Typed};
use crate::transport::{Dial, listen};

/// The connectors that this binary knows, by type.
#[derive(Default)]
pub struct Registry {
    types: BTreeMap<&'static str, Box<dyn ConnectorType>>,
}

impl Registry {
    /// A registry that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The connectors that belong to Pontoon.
    pub fn built_in() -> Self {
        Self::new()
            .with::<pontoon_aui::Aui>()
            .with::<pontoon_elizaos::ElizaOs>()
            .with::<pontoon_minchat::MinChat>()
            .with::<pontoon_generic::Socketio>()
            .with::<pontoon_streamavatars::StreamAvatars>()
            .with::<pontoon_sub0::Sub0>()
            .with::<pontoon_generic::Websocket>()
    }

    /// Adds a connector. A second one of the same type replaces the first.
    pub fn with<C: Connector>(mut self) -> Self
    where
        C::Transport: Dial,
    {
        self.types.insert(C::TYPE, Box::new(Erased::<C>(PhantomData)));
        self
    }

    /// The connector of this type.
    pub fn get(&self, kind: &str) -> Option<&dyn ConnectorType> {
        self.types.get(kind).map(|erased| &**erased)
    }

    /// All of them, sorted by type.
    pub fn iter(&self) -> impl Iterator<Item = &dyn ConnectorType> {
        self.types.values().map(|erased| &**erased)
    }
}

/// One connector, whatever its Rust types are.
pub trait ConnectorType: Send + Sync {
    /// The value of `type`.
    fn name(&self) -> &'static str;
    /// The commented sample of an instance's table.
    fn sample(&self) -> &'static str;
    /// What callers can ask for.
    fn operations(&self) -> Vec<Operation>;
    /// JSON Schema of the connector's own settings.
    fn schema(&self) -> Schema;
    /// Checks an instance's own settings and builds it. No I/O.
    ///
    /// # Errors
    /// What is wrong, and where in the settings.
    fn build(&self, settings: &Map<String, Value>) -> Result<Box<dyn Run>, SettingsError>;
}

/// What is wrong with an instance's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// The keys that lead there from the instance's table; none if it is the table as a whole.
    pub path: Vec<String>,
    /// What is wrong and what to write.
    pub message: String,
}

fn settings_error(error: Error) -> SettingsError {
    SettingsError {
        path: error.pointer().map(of_pointer).unwrap_or_default(),
        message: error.message().to_owned(),
    }
}

/// The keys of a JSON pointer (RFC 6901).
fn of_pointer(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect()
}

struct Erased<C>(PhantomData<fn() -> C>);

impl<C: Connector> ConnectorType for Erased<C>
where
    C::Transport: Dial,
{
    fn name(&self) -> &'static str {
        C::TYPE
    }

    fn sample(&self) -> &'static str {
        C::SAMPLE
    }

    fn operations(&self) -> Vec<Operation> {
        C::Request::operations()
    }

    fn schema(&self) -> Schema {
        schemars::schema_for!(C::Config)
    }

    fn build(&self, settings: &Map<String, Value>) -> Result<Box<dyn Run>, SettingsError> {
        let config: C::Config =
            serde_path_to_error::deserialize(Value::Object(settings.clone())).map_err(|error| {
                SettingsError { path: keys(error.path()), message: error.into_inner().to_string() }
            })?;
        let connector = C::new(config).map_err(settings_error)?;
        for spec in connector.links() {
            <C::Transport as Dial>::check(&spec.endpoint).map_err(settings_error)?;
        }
        if let Some(listener) = connector.listener() {
            listen::check(&listener).map_err(|message| settings_error(Error::config(message)))?;
        }
        Ok(Box::new(Typed::new(connector)))
    }
}

/// The keys of a place that serde could not read.
pub fn keys(path: &serde_path_to_error::Path) -> Vec<String> {
    use serde_path_to_error::Segment;
    let named = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    };
    path.iter().filter_map(named).collect()
}
