//! Binary data in a command's body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pontoon_sdk::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

/// Binary data as base64 (RFC 4648 §4, with padding).
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, with = "String")]
pub struct Base64(pub Bytes);

impl TryFrom<String> for Base64 {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let decoded = STANDARD.decode(text).map(|bytes| Self(Bytes::from(bytes)));
        decoded.map_err(|error| format!("this is not base64 (RFC 4648 §4, with padding): {error}"))
    }
}
