//! Takes an address apart, as far as a check needs it.

use std::net::IpAddr;

/// `scheme://host:port/…`.
pub(super) struct Address<'a> {
    /// In the case it was written.
    pub(super) scheme: Option<&'a str>,
    /// Without brackets.
    pub(super) host: &'a str,
    /// Whether a user or a password stands in it.
    pub(super) has_user: bool,
}

/// Reads an address.
///
/// # Errors
/// What is wrong with it, in words that do not repeat it.
pub(super) fn parse(text: &str) -> Result<Address<'_>, &'static str> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("has white space in it");
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or("has a [ without its ]")?;
            match rest.strip_prefix(':') {
                None if !rest.is_empty() => return Err("has something between its ] and its port"),
                port => (host, port),
            }
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() {
        return Err("has no host");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("has a port that is not a number from 0 to 65535");
    }
    Ok(Address { scheme, host, has_user: user.is_some() })
}

impl Address<'_> {
    /// Whether it never leaves this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let numeric = self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        numeric || self.host.eq_ignore_ascii_case("localhost")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_the_network() {
        for near in ["ws://127.0.0.1:8000/ws", "nats://localhost", "ws://[::1]:9/x", "127.0.0.2:1"] {
            assert!(parse(near).is_ok_and(|address| address.is_loopback()), "{near}");
        }
        for far in
            ["ws://127.0.0.1.example.com/", "ws://sub0:8000", "wss://[2001:db8::1]/", "ws://localhost@evil/"]
        {
            assert!(parse(far).is_ok_and(|address| !address.is_loopback()), "{far}");
        }
        for bad in ["", "nats://", "nats://:4222", "nats://h:99999", "nats://[::1", "nats://[::1]4222", "a b"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
