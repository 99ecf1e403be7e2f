//! The discriminator, by which a frame has a kind.

use std::borrow::Cow;

use pontoon_sdk::Result;
use pontoon_sdk::json::text as text_of;
use pontoon_sdk::settings::text_or_table;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::mapping::Json;
use crate::rules::OneOrMore;
use crate::websocket::content::Pointer;

/// Where the kind of a frame stands: the first of these that finds one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Discriminator(OneOrMore<KindPlace>);

/// One place where a kind may stand.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
enum KindPlace {
    /// The string, number or truth value here is the kind.
    Pointer(Pointer),
    /// A frame that has something here is of this kind.
    HasField(HasField),
}

/// A kind that frames have because of a field.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HasField {
    /// Where something stands that is not `null`.
    has: Pointer,
    /// The kind of a frame that has it.
    is: String,
}

impl Discriminator {
    /// Whether there is no place to look at.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kind of a frame that is JSON.
    pub(crate) fn kind(&self, json: &Json<'_>) -> Option<String> {
        self.0.iter().find_map(|place| match place {
            KindPlace::Pointer(pointer) => pointer.find(json).and_then(text_of),
            KindPlace::HasField(HasField { has, is }) => {
                has.find(json).filter(|found| *found != "null").map(|_| is.clone())
            }
        })
    }

    /// All kinds that there can be, if that is known.
    pub(crate) fn all(&self) -> Option<Vec<&str>> {
        let kind = |place| match place {
            &KindPlace::Pointer(_) => None,
            KindPlace::HasField(having) => Some(having.is.as_str()),
        };
        self.0.iter().map(kind).collect()
    }

    /// The places, for a message.
    pub(crate) fn places(&self) -> String {
        let pointers = self.0.iter().map(|place| match place {
            KindPlace::Pointer(pointer) => pointer.as_str(),
            KindPlace::HasField(having) => having.has.as_str(),
        });
        pointers.map(|pointer| format!("\"{pointer}\"")).collect::<Vec<_>>().join(", ")
    }
}

impl<'de> Deserialize<'de> for KindPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a JSON pointer such as \"/type\", or { has = \"/error\", is = \"error\" }";
        text_or_table(deserializer, expected, |text| text.parse().map(Self::Pointer), Self::HasField)
    }
}

impl JsonSchema for Discriminator {
    fn schema_name() -> Cow<'static, str> {
        "Discriminator".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where the kind of a frame stands: one place, or a list of places to look at in turn",
            "anyOf": [
                generator.subschema_for::<Pointer>(),
                generator.subschema_for::<HasField>(),
                { "type": "array", "items": generator.subschema_for::<KindPlace>() }
            ]
        })
    }
}
