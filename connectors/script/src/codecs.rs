//! What scripts can compute with beside the language: UTF-8, hashes and HMAC.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use rquickjs::prelude::Func;
use rquickjs::{Ctx, Exception, Object, Result, TypedArray};

/// Bytes of a script, which the prelude writes as base64: those in its memory can be read by unsafe code only.
type Given = String;

/// Adds the functions.
pub(crate) fn add(native: &Object<'_>) -> Result<()> {
    native.set("utf8", Func::from(utf8))?;
    native.set("text", Func::from(text))?;
    native.set("hash", Func::from(hash))?;
    native.set("hmac", Func::from(sign))
}

fn utf8<'js>(ctx: Ctx<'js>, text: String) -> Result<TypedArray<'js, u8>> {
    TypedArray::new_copy(ctx, text)
}

fn text(ctx: Ctx<'_>, data: Given) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(&ctx, &data)?).into_owned())
}

fn hash<'js>(ctx: Ctx<'js>, algorithm: String, data: Given) -> Result<TypedArray<'js, u8>> {
    let algorithm = match algorithm.as_str() {
        "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        other => return Err(unknown(&ctx, other)),
    };
    let digest = digest::digest(algorithm, &bytes(&ctx, &data)?);
    TypedArray::new_copy(ctx, digest)
}

fn sign<'js>(ctx: Ctx<'js>, algorithm: String, key: Given, data: Given) -> Result<TypedArray<'js, u8>> {
    let algorithm = match algorithm.as_str() {
        "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "sha256" => hmac::HMAC_SHA256,
        "sha384" => hmac::HMAC_SHA384,
        "sha512" => hmac::HMAC_SHA512,
        other => return Err(unknown(&ctx, other)),
    };
    let tag = hmac::sign(&hmac::Key::new(algorithm, &bytes(&ctx, &key)?), &bytes(&ctx, &data)?);
    TypedArray::new_copy(ctx, tag)
}

fn unknown(ctx: &Ctx<'_>, algorithm: &str) -> rquickjs::Error {
    Exception::throw_type(ctx, &format!("\"{algorithm}\" is not one of sha1, sha256, sha384 and sha512"))
}

fn bytes(ctx: &Ctx<'_>, data: &str) -> Result<Vec<u8>> {
    STANDARD.decode(data).map_err(|error| Exception::throw_type(ctx, &error.to_string()))
}
