//! Ids such as `123e4567-e89b-12d3-a456-426614174000` (RFC 9562), as services demand them in settings and bodies.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An id of 128 bits; written as 36 characters, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uuid(uuid::Uuid);

impl Uuid {
    /// The id that is all zeros.
    pub const NIL: Self = Self(uuid::Uuid::nil());

    /// The id that belongs to a text: the same one for the same text, everywhere and always (version 5, in the
    /// namespace of URLs).
    pub fn derived(text: &str) -> Self {
        Self(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, text.as_bytes()))
    }
}

impl FromStr for Uuid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Braces, a missing hyphen and the like are read by some and by others not.
        let plain = Some(text).filter(|text| text.len() == 36).and_then(|text| text.parse().ok());
        plain.map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            format!("{shown:?} is no UUID; write one such as \"123e4567-e89b-12d3-a456-426614174000\"")
        })
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Uuid {
    fn schema_name() -> Cow<'static, str> {
        "Uuid".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uuid" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_in_either_case_and_prints_in_lower() {
        let text = "123E4567-e89b-12d3-a456-426614174000";
        let uuid: Uuid = serde_json::from_str(&format!("{text:?}")).unwrap();
        assert_eq!(uuid.to_string(), text.to_lowercase());
        assert_eq!(serde_json::to_string(&uuid).unwrap(), format!("{:?}", text.to_lowercase()));
        assert_eq!(Uuid::NIL.to_string(), "00000000-0000-0000-0000-000000000000");
        assert_eq!(Uuid::default(), Uuid::NIL);
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "room 1",
            "123e4567e89b12d3a456426614174000",
            "{123e4567-e89b-12d3-a456-426614174000}",
            "urn:uuid:123e4567-e89b-12d3-a456-426614174000",
            "123e4567-e89b-12d3-a456-42661417400g",
            "123e4567-e89b-12d3-a456-4266141740000",
            "ééééééééééééééééé--",
        ] {
            let wrong = text.parse::<Uuid>().unwrap_err();
            assert!(wrong.contains("is no UUID; write one such as"), "{wrong}");
        }
        assert!(serde_json::from_str::<Uuid>("7").is_err());
        assert!(serde_json::from_str::<Uuid>("null").is_err());
    }

    #[test]
    fn a_text_always_has_the_same_id() {
        let uuid = Uuid::derived("http://localhost:3000");
        assert_eq!(uuid, Uuid::derived("http://localhost:3000"));
        assert_ne!(uuid, Uuid::derived("http://localhost:3001"));
        // As every implementation of version 5 has it.
        assert_eq!(Uuid::derived("www.example.com").to_string(), "b63cdfa4-3df9-568e-97ae-006c5b8fd652");
    }
}
