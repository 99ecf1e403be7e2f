//! Times as services write them, in one of two forms.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

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
