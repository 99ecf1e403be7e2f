//! The codecs, and the bound on what they read.

use schemars::JsonSchema;
use serde::Deserialize;

/// How large a frame may be once it is inflated, and once it is JSON.
pub(crate) const MAX_BYTES: usize = 8 << 20;

/// What binary frames hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// JSON text, or data.
    #[default]
    Json,
    /// MessagePack. What is sent is MessagePack, too.
    Msgpack,
    /// CBOR (RFC 8949). What is sent is CBOR, too.
    Cbor,
}
