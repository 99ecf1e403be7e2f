//! Times as services write them.

use schemars::JsonSchema;
use serde::Deserialize;

use pontoon_sdk::json::text as text_of;
use pontoon_sdk::lenient::Timestamp;

/// What a number counts that is a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TimeUnit {
    /// Seconds since 1970, with or without a fraction.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds since 1970.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds since 1970.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds since 1970.
    #[serde(rename = "ns")]
    Nanoseconds,
}

/// Reads a time. Without a unit a number counts milliseconds, and a text is RFC 3339; with one a text of digits is a
/// number, too. Any other text or number is kept as it came, without a moment.
pub fn time_of(json: &str, unit: Option<TimeUnit>) -> Option<Timestamp> {
    let json = json.trim_ascii();
    let text = text_of(json).filter(|_| !matches!(json, "true" | "false"))?;
    let number = unit.or((!json.starts_with('"')).then_some(TimeUnit::Milliseconds));
    let read = number.and_then(|unit| unit.millis(&text)).map(Timestamp::of_millis);
    // A number that is not a time is shown as it came.
    Some(read.filter(|read| read.time.is_some()).unwrap_or_else(|| Timestamp::of_text(&text)))
}

impl TimeUnit {
    /// The milliseconds that a number of this unit counts; what is finer is cut off.
    pub(crate) fn millis(self, number: &str) -> Option<i64> {
        // Some libraries write round numbers with an exponent; of others no digit goes through a float.
        let plain =
            if number.contains(['e', 'E']) { Some(number.parse::<f64>().ok()?.to_string()) } else { None };
        let number = plain.as_deref().unwrap_or(number);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let whole: i64 = whole.parse().ok()?;
        if !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        match self {
            Self::Seconds => {
                let part: i64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
                let part = if number.starts_with('-') { -part } else { part };
                whole.checked_mul(1_000)?.checked_add(part)
            }
            Self::Milliseconds => Some(whole),
            Self::Microseconds => Some(whole.div_euclid(1_000)),
            Self::Nanoseconds => Some(whole.div_euclid(1_000_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_what_they_count() {
        use TimeUnit::{Microseconds, Milliseconds, Nanoseconds, Seconds};
        let moment = "2023-11-14T22:13:20.123Z";
        for (unit, json, wanted) in [
            (Some(Seconds), "1700000000.123456", moment),
            (Some(Seconds), "\"1700000000.123\"", moment),
            (Some(Seconds), "1700000000", "2023-11-14T22:13:20Z"),
            (Some(Seconds), "1700000000.1", "2023-11-14T22:13:20.1Z"),
            (Some(Seconds), "-0.5", "1969-12-31T23:59:59.5Z"),
            (Some(Milliseconds), "\"1700000000123\"", moment),
            (Some(Microseconds), "1700000000123999", moment),
            (Some(Nanoseconds), "1700000000123999999", moment),
            (Some(Seconds), "\"2023-11-14T22:13:20.123Z\"", moment),
            (None, "1700000000123", moment),
            (None, " \"2023-11-14T22:13:20.123Z\" ", moment),
            (None, "1700000000123.0", moment),
            (None, "1.700000000123e12", moment),
            (Some(Seconds), "1.7E+9", "2023-11-14T22:13:20Z"),
            (None, "\"2023-11-14T22:13:20.123Z\"", moment),
        ] {
            let time = time_of(json, unit).unwrap();
            assert_eq!(time.text, wanted, "{unit:?} {json}");
            assert!(time.time.is_some(), "{unit:?} {json}");
        }
    }

    #[test]
    fn what_is_no_time_is_shown_as_it_came() {
        for (unit, json) in [
            (Some(TimeUnit::Seconds), "\"yesterday\""),
            (Some(TimeUnit::Seconds), "99999999999999999999"),
            (Some(TimeUnit::Seconds), "9223372036854775807"),
            (Some(TimeUnit::Seconds), "999999999999"),
            (Some(TimeUnit::Seconds), "\"1.x\""),
            (Some(TimeUnit::Seconds), "\"1.\u{e9}\u{e9}\""),
            (None, "1e999"),
            (None, "1.7e300"),
            (Some(TimeUnit::Seconds), "\"1e\""),
            (Some(TimeUnit::Seconds), "\"-inf\""),
            (None, "\"\""),
            (None, "\"1700000000123\""),
        ] {
            let time = time_of(json, unit).unwrap();
            assert_eq!((time.text.as_str(), time.time), (json.trim_matches('"'), None), "{unit:?} {json}");
        }
        assert_eq!(time_of("null", None), None);
        assert_eq!(time_of("{}", None), None);
        assert_eq!(time_of("\"true\"", None).map(|time| time.text).as_deref(), Some("true"));
        assert_eq!((time_of("true", None), time_of("false", Some(TimeUnit::Seconds))), (None, None));
    }
}
