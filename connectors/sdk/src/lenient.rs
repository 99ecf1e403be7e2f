//! Texts and times as services write them: an id that is sometimes a number, a time in one of two forms.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Visitor};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A text; a number or a truth value is read as its JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Text(pub String);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyScalar;

        impl Visitor<'_> for AnyScalar {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Text, E> {
                Ok(Text(truth.to_string()))
            }
        }

        deserializer.deserialize_any(AnyScalar)
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// A time as a service wrote it: RFC 3339, or milliseconds since 1970 as a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// In RFC 3339 where it could be read, else as it was written.
    pub text: String,
    /// The moment, where it could be read.
    pub time: Option<OffsetDateTime>,
}

impl Timestamp {
    /// Reads a text.
    pub fn of_text(text: &str) -> Self {
        Self { text: text.to_owned(), time: OffsetDateTime::parse(text, &Rfc3339).ok() }
    }

    /// Reads milliseconds since 1970.
    pub fn of_millis(millis: i64) -> Self {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok();
        let text = time.and_then(|time| time.format(&Rfc3339).ok());
        // A year that RFC 3339 cannot write is shown as it came.
        let time = time.filter(|_| text.is_some());
        Self { text: text.unwrap_or_else(|| millis.to_string()), time }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyTime;

        impl Visitor<'_> for AnyTime {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time")
            }

            fn visit_str<E>(self, text: &str) -> Result<Timestamp, E> {
                Ok(Timestamp::of_text(text))
            }

            fn visit_u64<E>(self, millis: u64) -> Result<Timestamp, E> {
                Ok(i64::try_from(millis)
                    .map_or(Timestamp { text: millis.to_string(), time: None }, Timestamp::of_millis))
            }

            fn visit_i64<E>(self, millis: i64) -> Result<Timestamp, E> {
                Ok(Timestamp::of_millis(millis))
            }

            fn visit_f64<E>(self, millis: f64) -> Result<Timestamp, E> {
                Ok(format!("{millis:.0}")
                    .parse()
                    .map_or(Timestamp { text: millis.to_string(), time: None }, Timestamp::of_millis))
            }
        }

        deserializer.deserialize_any(AnyTime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_read_as_texts() {
        let text = |json| serde_json::from_str::<Text>(json).map(String::from);
        assert_eq!(text("\"a\"").unwrap(), "a");
        assert_eq!(text("5").unwrap(), "5");
        assert_eq!(text("-1.5").unwrap(), "-1.5");
        assert_eq!(text("true").unwrap(), "true");
        assert!(text("{}").is_err() && text("null").is_err());
    }

    #[test]
    fn times_come_in_two_forms_and_never_fail() {
        let time = |json| serde_json::from_str::<Timestamp>(json).unwrap();
        assert_eq!(time("1700000000123").text, "2023-11-14T22:13:20.123Z");
        assert_eq!(time("1700000000123.0"), time("1700000000123"));
        assert_eq!(time("\"2023-11-14T22:13:20.123Z\""), time("1700000000123"));
        assert_eq!(time("\"yesterday\""), Timestamp { text: "yesterday".into(), time: None });
        assert_eq!(time("18446744073709551615").time, None);
        assert_eq!(time("-9223372036854775808").time, None);
        assert_eq!(time("999999999999999"), Timestamp { text: "999999999999999".into(), time: None });
    }
}
