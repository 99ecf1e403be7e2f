//! From a type's name in the configuration to the connector. From here on only its transport is known.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use pontoon_sdk::{Connector, Error, Operation, Request as _};
use schemars::Schema;
use serde_json::{Map, Value};

use crate::instance::router::common_operations;
use crate::instance::{Built, Run};
use crate::transport::guard::Guard;
use crate::transport::{Dial, listen};

/// The connectors that this binary knows, by type.
#[derive(Default)]
pub struct Registry {
    types: BTreeMap<&'static str, Box<dyn ConnectorType>>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The connectors in this repository.
    pub fn built_in() -> Self {
        Self::new()
            .with::<pontoon_aui::Aui>()
            .with::<pontoon_elizaos::ElizaOs>()
            .with::<pontoon_minchat::MinChat>()
            .with_either::<pontoon_script::WebsocketScript, pontoon_script::SocketioScript>(
                "protocol", "socketio",
            )
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

    /// Adds a connector that speaks two protocols, with the same settings: `B` where this setting has this value, else `A`.
    pub fn with_either<A, B>(mut self, setting: &'static str, value: &'static str) -> Self
    where
        A: Connector<Transport: Dial>,
        B: Connector<Transport: Dial, Config = A::Config, Request = A::Request>,
    {
        let either =
            Either { first: Erased::<A>(PhantomData), second: Erased::<B>(PhantomData), setting, value };
        self.types.insert(A::TYPE, Box::new(either));
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

/// A connector with its Rust types erased.
pub trait ConnectorType: Send + Sync {
    /// The value of `type` in the configuration.
    fn name(&self) -> &'static str;
    /// The commented sample of an instance's table.
    fn sample(&self) -> &'static str;
    /// Its operations, and those that every instance has.
    fn operations(&self) -> Vec<Operation>;
    /// JSON Schema of the connector's settings.
    fn schema(&self) -> Schema;
    /// Checks the settings of an instance and builds it. No I/O.
    ///
    /// # Errors
    /// The first fault, and its place in the settings.
    fn build(&self, settings: &Map<String, Value>) -> Result<Box<dyn Run>, SettingsError>;
}

/// A fault in an instance's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// The path of keys from the instance's table; empty if the fault is the table as a whole.
    pub path: Vec<String>,
    /// What is wrong and what to write.
    pub message: String,
}

fn settings_error(error: Error) -> SettingsError {
    SettingsError {
        path: error.pointer().map(pointer_keys).unwrap_or_default(),
        message: error.message().to_owned(),
    }
}

/// The keys of a JSON pointer (RFC 6901).
fn pointer_keys(pointer: &str) -> Vec<String> {
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
        C::Request::operations().into_iter().chain(common_operations()).collect()
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
        if let Some(allow_list) = connector.allow_list() {
            Guard::new(allow_list).map_err(settings_error)?;
        }
        if let Some(listener) = connector.listener() {
            listen::check(&listener).map_err(|message| settings_error(Error::config(message)))?;
        }
        Ok(Box::new(Built(Box::new(connector))))
    }
}

/// A connector that speaks one of two protocols.
struct Either<A, B> {
    first: Erased<A>,
    second: Erased<B>,
    setting: &'static str,
    value: &'static str,
}

impl<A, B> ConnectorType for Either<A, B>
where
    A: Connector<Transport: Dial>,
    B: Connector<Transport: Dial>,
{
    fn name(&self) -> &'static str {
        self.first.name()
    }

    fn sample(&self) -> &'static str {
        self.first.sample()
    }

    fn operations(&self) -> Vec<Operation> {
        self.first.operations()
    }

    fn schema(&self) -> Schema {
        self.first.schema()
    }

    fn build(&self, settings: &Map<String, Value>) -> Result<Box<dyn Run>, SettingsError> {
        let is_second = settings.get(self.setting).is_some_and(|value| value == self.value);
        if is_second { self.second.build(settings) } else { self.first.build(settings) }
    }
}

/// The keys of the path where serde failed.
pub fn keys(path: &serde_path_to_error::Path) -> Vec<String> {
    use serde_path_to_error::Segment;
    let key = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    };
    path.iter().filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_callers_may_have_links_lead_is_checked_before_anything_starts() {
        for (hosts, addresses, place) in [
            (json!(["h", "http://h"]), json!([]), "hosts/1"),
            (json!(["h"]), json!(["10.0.0.0/33"]), "addresses/0"),
        ] {
            let settings = json!({"dynamic": {"enabled": true, "hosts": hosts, "addresses": addresses}});
            let registry = Registry::built_in();
            let built = registry.get("streamavatars").unwrap().build(settings.as_object().unwrap());
            assert_eq!(built.err().unwrap().path.join("/"), format!("dynamic/{place}"));
        }
    }
}
