//! URLs and hosts that a caller or the list names, read so narrowly that no other reader can take one for another.

use std::fmt;
use std::net::IpAddr;

use pontoon_sdk::url::{Fault, Url};

/// The longest URL that a caller may name, in bytes.
const LONGEST: usize = 2048;
/// The schemes of WebSockets (RFC 6455 §3), and their ports.
const SCHEMES: &[(&str, u16)] = &[("ws", 80), ("wss", 443)];

/// A host: a name in lower case, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// To be looked up.
    Name(String),
    /// To be dialled as it is.
    Address(IpAddr),
}

/// Reads the URL of a WebSocket that a caller named.
///
/// # Errors
/// What is wrong with it, and what to write.
pub(super) fn parse_url(text: &str) -> Result<(Url<'_>, Host), Fault> {
    if text.len() > LONGEST {
        return Err(Fault::Malformed("is longer than 2 KiB", SCHEMES));
    }
    if text.contains("://") && text.contains('\\') {
        return Err(Fault::Unfit("the url has a backslash, which some take for a slash".into()));
    }
    let url = Url::parse(text, SCHEMES)?;
    let host = Host::of(&url)?;
    if url.path_and_query().contains(|c: char| !c.is_ascii() || c == '"') {
        let what = "has a character in its path or query that must be percent-encoded";
        return Err(Fault::Malformed(what, SCHEMES));
    }
    Ok((url, host))
}

impl Host {
    /// Reads a host without brackets.
    ///
    /// # Errors
    /// If it is neither an address in its usual form nor a name, or could be taken for another host.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        if text.is_empty() || text.contains(['/', '?', '#', '@', '[', ']']) {
            return Err(Fault::Unfit(ODD.into()));
        }
        let url = if text.contains(':') { format!("ws://[{text}]") } else { format!("ws://{text}") };
        Self::of(&Url::parse(&url, SCHEMES)?)
    }

    fn of(url: &Url<'_>) -> Result<Self, Fault> {
        let host = url.host.as_str();
        let wrong = match host.parse() {
            Ok(address) => return Ok(Self::Address(address)),
            Err(_) if host.ends_with('.') => "the host ends in a dot; write it without",
            Err(_) if host.contains('_') => ODD,
            Err(_) if numeric(host) => {
                "the host is a number that is not an address in its usual form; write four decimal numbers, as in 192.0.2.1"
            }
            Err(_) => return Ok(Self::Name(host.to_owned())),
        };
        Err(Fault::Unfit(wrong.into()))
    }
}

const ODD: &str = "the host has a character other than letters, digits, hyphens and dots";

/// Whether some resolver takes it for an IPv4 address, as `inet_aton` and browsers do: its last part is a number,
/// decimal, octal or hexadecimal (the "ends in a number" check of the WHATWG's URL standard).
fn numeric(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}
