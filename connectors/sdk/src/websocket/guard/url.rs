//! Reads a URL so narrowly that no other reader can take it for another one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::forbidden;
use crate::error::{Code, Error, Result};

/// The longest URL that is read, in bytes.
const LONGEST: usize = 2048;
/// The longest host name and the longest of its labels (RFC 1035 §2.3.4).
const LONGEST_HOST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// The URL of a WebSocket (RFC 6455 §3). It prints in its one form.
#[derive(Debug)]
pub(super) struct Url<'a> {
    scheme: &'static str,
    /// Where it leads.
    pub(super) host: Host,
    /// The port, the scheme's own if it names none.
    pub(super) port: u16,
    named_port: bool,
    /// Path and query.
    rest: &'a str,
}

/// A host: a name in lower case, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// To be looked up.
    Name(String),
    /// To be dialled as it is.
    Address(IpAddr),
}

impl<'a> Url<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// `Rejected`: 400 if it is no URL, 403 if it is one that may not be dialled whatever is configured.
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(malformed("is longer than 2 KiB"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(malformed("has white space or a control character in it"));
        }
        let (scheme, rest) = text.split_once(':').ok_or_else(|| malformed("has no scheme"))?;
        let (scheme, usual_port) = known(scheme)?;
        let rest = rest.strip_prefix("//").ok_or_else(|| malformed("has no // behind its scheme"))?;
        if rest.contains('#') {
            return Err(forbidden("the url has a fragment, which no WebSocket has"));
        }
        if rest.contains('\\') {
            return Err(forbidden("the url has a backslash, which some take for a slash"));
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(forbidden("the url has user info (what is before an @), which would be printed"));
        }
        if rest.contains(|c: char| !c.is_ascii() || matches!(c, '"' | '<' | '>' | '`')) {
            return Err(malformed("has a character in its path or query that must be percent-encoded"));
        }
        let (host, port) = split(authority)?;
        let (port, named_port) = match port {
            None => (usual_port, false),
            Some(digits) => (number(digits)?, true),
        };
        Ok(Self { scheme, host, port, named_port, rest })
    }
}

impl Host {
    /// Reads a host without brackets.
    ///
    /// # Errors
    /// `Rejected` with 403 if it is neither an address in its usual form nor a name, or could be taken for another host.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.contains(':') {
            return v6(text);
        }
        if text.contains('%') {
            return Err(forbidden("the host has a percent-escape in it; write it as it is"));
        }
        if text.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.') {
            return Err(forbidden(
                "the host has a character other than letters, digits, hyphens and dots; a name in another script is written in its xn-- form",
            ));
        }
        if text.ends_with('.') {
            return Err(forbidden("the host ends in a dot; write it without"));
        }
        if text.len() > LONGEST_HOST || text.split('.').any(|label| label.len() > LONGEST_LABEL) {
            return Err(forbidden("the host is longer than a name can be"));
        }
        if text.split('.').any(str::is_empty) {
            return Err(forbidden("the host has nothing between two dots, or before the first"));
        }
        if !numeric(text) {
            return Ok(Self::Name(text.to_ascii_lowercase()));
        }
        text.parse::<Ipv4Addr>().map(|address| Self::Address(address.into())).map_err(|_| {
            forbidden(
                "the host is a number that is no address in its usual form; write four decimal numbers, as in 192.0.2.1",
            )
        })
    }
}

/// The scheme in lower case, and its port.
fn known(scheme: &str) -> Result<(&'static str, u16)> {
    if scheme.eq_ignore_ascii_case("ws") {
        return Ok(("ws", 80));
    }
    if scheme.eq_ignore_ascii_case("wss") {
        return Ok(("wss", 443));
    }
    let starts = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    if !starts || scheme.contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.')) {
        return Err(malformed("has no scheme"));
    }
    let shown = scheme.get(..16).unwrap_or(scheme);
    Err(forbidden(format!("the scheme is {shown}; only ws:// and wss:// may be dialled")))
}

/// Host and port of an authority without user info.
fn split(authority: &str) -> Result<(Host, Option<&str>)> {
    if let Some(inner) = authority.strip_prefix('[') {
        let (inner, rest) =
            inner.split_once(']').ok_or_else(|| malformed("has a bracket without its other"))?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or_else(|| malformed("has no port behind its bracket"))?),
        };
        return Ok((v6(inner)?, port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    // More colons: an IPv6 address without brackets, of which nobody can say where the port begins.
    if port.is_some_and(|port| port.contains(':')) {
        return Err(malformed("has more than one colon in its host; an IPv6 address stands in brackets"));
    }
    if host.is_empty() {
        return Err(malformed("has no host"));
    }
    Ok((Host::parse(host)?, port))
}

fn number(digits: &str) -> Result<u16> {
    let wrong = || malformed("has a port that is no number from 1 to 65535");
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    digits.parse().map_err(|_| wrong())
}

fn v6(text: &str) -> Result<Host> {
    if text.contains('%') {
        return Err(forbidden("the host has a zone, which leads into this machine's own networks"));
    }
    text.parse::<Ipv6Addr>()
        .map(|address| Host::Address(address.into()))
        .map_err(|_| forbidden("the host has brackets or colons and is no IPv6 address"))
}

/// Whether some resolver takes it for an IPv4 address, as `inet_aton` and browsers do: its last part is a number,
/// decimal, octal or hexadecimal (the "ends in a number" check of the WHATWG's URL standard).
fn numeric(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn malformed(what: &str) -> Error {
    Error::rejected(Code::BadBody, format!("the url {what}; write ws://host/path or wss://host/path"))
}

impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        if self.named_port {
            write!(f, ":{}", self.port)?;
        }
        if !self.rest.starts_with('/') {
            f.write_str("/")?;
        }
        f.write_str(self.rest)
    }
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
