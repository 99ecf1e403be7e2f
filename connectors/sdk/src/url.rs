//! Takes URLs apart: the one reader for settings and commands, so that `check`, the guard and the transport see the same
//! host and port.
//!
//! It refuses rather than repairs: a reader as in browsers (the WHATWG's URL standard, the crate `url`) turns `\` into `/`,
//! drops tabs, resolves `..` and makes an address of `0x7f.1`, so that what is dialled is not what was written.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The longest host name and the longest of its labels (RFC 1035 §2.3.4).
const LONGEST_HOST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A scheme in lower case, and its usual port.
type Scheme = (&'static str, u16);

/// A URL (RFC 3986 §3) of a host, without user info and fragment. It prints in one form: scheme and host in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url<'a> {
    /// In lower case.
    pub scheme: &'static str,
    /// Where it leads: a name in lower case, or an IP address without brackets.
    pub host: String,
    /// The port; the scheme's usual one if it names none.
    pub port: u16,
    named_port: bool,
    /// Path and query, as written.
    rest: &'a str,
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
    /// Reads a URL with one of these schemes, each with its usual port.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &'a str, schemes: &'static [(&'static str, u16)]) -> Result<Self, Fault> {
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
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Fault::UserInfo);
        }
        let (name, port) = split(authority).map_err(malformed)?;
        let host = if authority.starts_with('[') { v6(name)? } else { host(name)? };
        let (port, named_port) = match port {
            None => (usual_port, false),
            Some(digits) => (number(digits).ok_or_else(|| malformed(PORT))?, true),
        };
        if port == 0 {
            return Err(unfit("the port is 0; a port is 1 to 65535"));
        }
        if rest.contains(['<', '>', '`']) {
            return Err(malformed("has a character in its path or query that must be percent-encoded"));
        }
        Ok(Self { scheme, host, port, named_port, rest })
    }

    /// Host and port as they were written: the port only if it was named, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.named_port { format!("{host}:{}", self.port) } else { host }
    }

    /// Whether it leads to this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The path, `/` if there is none, and the query with its question mark.
    pub fn path_and_query(&self) -> Cow<'a, str> {
        if self.rest.starts_with('/') { self.rest.into() } else { format!("/{}", self.rest).into() }
    }
}

const PORT: &str = "has a port that is not a number from 1 to 65535";

/// A name as systems look it up: it may have an underscore in it, as services in containers do, and a dot at its end.
fn host(text: &str) -> Result<String, Fault> {
    if text.contains('%') {
        return Err(unfit("the host has a percent-escape in it; write it as it is"));
    }
    if text.contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.' | '_')) {
        return Err(unfit(
            "the host has a character other than letters, digits, hyphens and dots; a name in another script is written in its xn-- form",
        ));
    }
    let mut labels = text.strip_suffix('.').unwrap_or(text).split('.');
    if text.len() > LONGEST_HOST || labels.clone().any(|label| label.len() > LONGEST_LABEL) {
        return Err(unfit("the host is longer than a name can be"));
    }
    if labels.any(str::is_empty) {
        return Err(unfit("the host has nothing between two dots, or before the first"));
    }
    Ok(text.to_ascii_lowercase())
}

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

fn v6(text: &str) -> Result<String, Fault> {
    if text.contains('%') {
        return Err(unfit("the host has a zone, which leads into this machine's own networks"));
    }
    text.parse::<Ipv6Addr>()
        .map(|address| address.to_string())
        .map_err(|_| unfit("the host has brackets or colons and is not an IPv6 address"))
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

#[cfg(test)]
mod tests;
