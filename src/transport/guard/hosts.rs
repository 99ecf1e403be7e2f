//! Which hosts the operator lists.

use std::net::IpAddr;
use std::str::FromStr;

use super::named::Host;

/// One entry of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HostRule {
    pattern: Pattern,
    /// Any, if none is given.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    Any,
    /// What ends in this, dot included, and has something before it.
    Below(String),
    Exactly(Host),
}

impl HostRule {
    /// Whether the entry allows this host at this port.
    pub(super) fn allows(&self, host: &Host, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        match (&self.pattern, host) {
            (Pattern::Any, _) => true,
            (Pattern::Below(end), Host::Name(name)) => name.len() > end.len() && name.ends_with(end.as_str()),
            (Pattern::Below(_), Host::Address(_)) => false,
            (Pattern::Exactly(listed), host) => listed == host,
        }
    }
}

impl FromStr for HostRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "\"{}\" is no host{why}; write \"ws.example.com\", \"*.example.com\" for all below it, \"*\" for any, or one of these with a port, such as \"ws.example.com:8443\"",
                text.escape_debug()
            )
        };
        let (host, port) = split(text).ok_or_else(|| wrong(""))?;
        let port = match port {
            None => None,
            Some(digits) if !digits.starts_with('+') => {
                let port = digits.parse().ok().filter(|port| *port != 0);
                Some(port.ok_or_else(|| wrong(": its port is not 1 to 65535"))?)
            }
            Some(_) => return Err(wrong(": its port is not 1 to 65535")),
        };
        let parse = |host: &str| Host::parse(host).map_err(|fault| wrong(&format!(": {fault}")));
        let pattern = match (host, host.strip_prefix("*.")) {
            ("*", _) => Pattern::Any,
            (_, Some(base)) => match parse(base)? {
                Host::Name(name) => Pattern::Below(format!(".{name}")),
                Host::Address(_) => return Err(wrong(": nothing is below an address")),
            },
            (host, None) => Pattern::Exactly(parse(host)?),
        };
        Ok(Self { pattern, port })
    }
}

/// Host and port; an IPv6 address may stand without brackets where no port follows.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (inner, rest) = inner.split_once(']')?;
        let bracketed = inner.contains(':').then_some(inner)?;
        return match rest {
            "" => Some((bracketed, None)),
            rest => Some((bracketed, Some(rest.strip_prefix(':')?))),
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Some((text, None));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    (!host.is_empty()).then_some((host, port))
}
