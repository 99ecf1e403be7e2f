//! Takes URLs apart: the one reader for settings and commands, so that `check`, the guard and the transport see the same
//! host and port.
//!
//! [`Url::parse`] reads what the operator wrote. [`Url::parse_strict`] reads what a caller named, so narrowly that no
//! other reader can take it for another URL. Both refuse rather than repair: a reader as in browsers (the WHATWG's URL
//! standard, the crate `url`) turns `\` into `/`, drops tabs, resolves `..` and makes an address of `0x7f.1`, so that what
//! is dialled is not what was written.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest URL that a caller may name, in bytes.
const LONGEST: usize = 2048;
/// The longest host name and the longest of its labels (RFC 1035 §2.3.4).
const LONGEST_HOST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A scheme in lower case, and its usual port.
pub type Scheme = (&'static str, u16);
/// The schemes of WebSockets (RFC 6455 §3).
pub const WEBSOCKET: &[Scheme] = &[("ws", 80), ("wss", 443)];
/// The schemes of Socket.IO: an Engine.IO server is known by its web address as well.
pub const SOCKET_IO: &[Scheme] = &[("http", 80), ("https", 443), ("ws", 80), ("wss", 443)];

/// A URL (RFC 3986 §3) of a host, without user info and fragment. It prints in one form: scheme and host in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url<'a> {
    /// In lower case.
    pub scheme: &'static str,
    /// Where it leads.
    pub host: Host,
    /// The port; the scheme's usual one if it names none.
    pub port: u16,
    named_port: bool,
    /// Path and query, as written.
    rest: &'a str,
}

/// A host: a name in lower case, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// To be looked up.
    Name(String),
    /// To be dialled as it is.
    Address(IpAddr),
}

/// Why a text is not such a URL. It prints as a sentence that does not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not a URL: what the URL has or lacks, and the forms to write.
    Malformed(&'static str, &'static [Scheme]),
    /// It is a URL of another scheme, shown in part, than these.
    Scheme(String, &'static [Scheme]),
    /// It is a URL, and may not be used here.
    Unfit(Cow<'static, str>),
    /// It holds a user or a password.
    UserInfo,
}

impl<'a> Url<'a> {
    /// Reads a URL of the configuration with one of these schemes.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &'a str, schemes: &'static [Scheme]) -> Result<Self, Fault> {
        let url = Self::read(text, schemes, false)?;
        if url.port == 0 {
            return Err(Fault::Malformed(PORT, schemes));
        }
        if url.rest.contains(['<', '>', '`']) {
            return Err(Fault::Malformed(UNESCAPED, schemes));
        }
        Ok(url)
    }

    /// Reads the URL of a WebSocket that a caller named.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse_strict(text: &'a str) -> Result<Self, Fault> {
        if text.len() > LONGEST {
            return Err(Fault::Malformed("is longer than 2 KiB", WEBSOCKET));
        }
        let url = Self::read(text, WEBSOCKET, true)?;
        if url.rest.contains(|c: char| !c.is_ascii() || matches!(c, '"' | '<' | '>' | '`')) {
            return Err(Fault::Malformed(UNESCAPED, WEBSOCKET));
        }
        Ok(url)
    }

    fn read(text: &'a str, schemes: &'static [Scheme], strict: bool) -> Result<Self, Fault> {
        let malformed = |what| Fault::Malformed(what, schemes);
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(malformed("has white space or a control character in it"));
        }
        let (scheme, rest) = text.split_once(':').ok_or_else(|| malformed("has no scheme"))?;
        let (scheme, usual_port) = known(scheme, schemes)?;
        let rest = rest.strip_prefix("//").ok_or_else(|| malformed("has no // behind its scheme"))?;
        if rest.contains('#') {
            return Err(unfit("the url has a fragment, which is never sent; leave it out"));
        }
        if strict && rest.contains('\\') {
            return Err(unfit("the url has a backslash, which some take for a slash"));
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Fault::UserInfo);
        }
        let (name, port) = split(authority).map_err(malformed)?;
        let host = match authority.starts_with('[') {
            true => v6(name)?,
            false if strict => Host::parse_strict(name)?,
            false => Host::read(name)?,
        };
        let (port, named_port) = match port {
            None => (usual_port, false),
            Some(digits) => (number(digits).ok_or_else(|| malformed(PORT))?, true),
        };
        Ok(Self { scheme, host, port, named_port, rest })
    }

    /// Host and port as they were written: the port only if it was named, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        match self.named_port {
            true => format!("{}:{}", self.host, self.port),
            false => self.host.to_string(),
        }
    }

    /// The path, `/` if there is none, and the query with its question mark.
    pub fn path_and_query(&self) -> Cow<'a, str> {
        if self.rest.starts_with('/') { self.rest.into() } else { format!("/{}", self.rest).into() }
    }
}

const PORT: &str = "has a port that is not a number from 1 to 65535";
const UNESCAPED: &str = "has a character in its path or query that must be percent-encoded";

impl Host {
    /// Reads a host without brackets that a caller named.
    ///
    /// # Errors
    /// If it is neither an address in its usual form nor a name, or could be taken for another host.
    pub fn parse_strict(text: &str) -> Result<Self, Fault> {
        if text.contains(':') {
            return v6(text);
        }
        if text.ends_with('.') {
            return Err(unfit("the host ends in a dot; write it without"));
        }
        if text.contains('_') {
            return Err(unfit(ODD));
        }
        match Self::read(text)? {
            Self::Name(name) if numeric(&name) => Err(unfit(
                "the host is a number that is not an address in its usual form; write four decimal numbers, as in 192.0.2.1",
            )),
            host => Ok(host),
        }
    }

    /// A name as systems look it up: it may have an underscore in it, as services in containers do, and a dot at its end.
    fn read(text: &str) -> Result<Self, Fault> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        if text.contains('%') {
            return Err(unfit("the host has a percent-escape in it; write it as it is"));
        }
        if text.contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.' | '_')) {
            return Err(unfit(ODD));
        }
        let mut labels = text.strip_suffix('.').unwrap_or(text).split('.');
        if text.len() > LONGEST_HOST || labels.clone().any(|label| label.len() > LONGEST_LABEL) {
            return Err(unfit("the host is longer than a name can be"));
        }
        if labels.any(str::is_empty) {
            return Err(unfit("the host has nothing between two dots, or before the first"));
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Address(address) => address.is_loopback(),
        }
    }
}

const ODD: &str = "the host has a character other than letters, digits, hyphens and dots; a name in another script is written in its xn-- form";

/// The scheme in lower case, and its port.
fn known(scheme: &str, schemes: &'static [Scheme]) -> Result<Scheme, Fault> {
    if let Some(known) = schemes.iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name)) {
        return Ok(*known);
    }
    let starts = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    if !starts || scheme.contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.')) {
        return Err(Fault::Malformed("has no scheme", schemes));
    }
    Err(Fault::Scheme(scheme.get(..16).unwrap_or(scheme).to_owned(), schemes))
}

/// Host, without brackets, and port of an authority without user info.
fn split(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(inner) = authority.strip_prefix('[') {
        let (inner, rest) = inner.split_once(']').ok_or("has a bracket without its other")?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or("has no port behind its bracket")?),
        };
        return Ok((inner, port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    // More colons: an IPv6 address without brackets, of which nothing says where the port begins.
    if port.is_some_and(|port| port.contains(':')) {
        return Err("has more than one colon in its host; an IPv6 address stands in brackets");
    }
    if host.is_empty() {
        return Err("has no host");
    }
    Ok((host, port))
}

fn number(digits: &str) -> Option<u16> {
    let plain = (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

fn v6(text: &str) -> Result<Host, Fault> {
    if text.contains('%') {
        return Err(unfit("the host has a zone, which leads into this machine's own networks"));
    }
    text.parse::<Ipv6Addr>()
        .map(|address| Host::Address(address.into()))
        .map_err(|_| unfit("the host has brackets or colons and is not an IPv6 address"))
}

/// Whether some resolver takes it for an IPv4 address, as `inet_aton` and browsers do: its last part is a number,
/// decimal, octal or hexadecimal (the "ends in a number" check of the WHATWG's URL standard).
fn numeric(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What a URL of these schemes looks like.
fn forms(schemes: &[Scheme]) -> String {
    let forms: Vec<_> = schemes.iter().map(|(scheme, _)| format!("{scheme}://host/path")).collect();
    forms.join(" or ")
}

fn unfit(why: impl Into<Cow<'static, str>>) -> Fault {
    Fault::Unfit(why.into())
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what, schemes) => write!(f, "the url {what}; write {}", forms(schemes)),
            Self::Scheme(shown, schemes) => {
                write!(f, "the scheme of the url is {shown}; write {}", forms(schemes))
            }
            Self::Unfit(why) => f.write_str(why),
            Self::UserInfo => f.write_str(
                "the url has user info (what is before an @), which would be printed; leave it out, and use a secret setting instead",
            ),
        }
    }
}

impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.path_and_query())
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

#[cfg(test)]
mod tests;
