//! From close codes and HTTP statuses to error kinds, which decide how the link is redialled.
//!
//! The operator sets the meaning of close codes in `transport.refused_codes` and `transport.slow_codes`. Their defaults:
//! the codes 3000 (unauthorized) and 3003 (forbidden) of IANA's registry of close codes, and 4401, 4403 and 4429, which
//! many services use after the HTTP statuses 401, 403 and 429.

use std::time::Duration;

use pontoon_sdk::{End, Kind};

use super::DialErrorKind;
use crate::settings::Transport;

/// Close code for going away (RFC 6455 §7.4.1, as those below).
pub const AWAY: u16 = 1001;
/// Close code for a violation of the protocol.
pub const PROTOCOL: u16 = 1002;
/// Close code for a text that is not UTF-8.
pub const NOT_UTF8: u16 = 1007;
/// Close code for a violation of a policy. Many services use it for refused credentials.
pub const POLICY: u16 = 1008;
/// Close code for a message that is too large.
pub const TOO_LARGE: u16 = 1009;

/// How soon after the opening 1008 means refused credentials.
const SOON: Duration = Duration::from_secs(5);
/// Parts of reasons that mean a limit on requests.
const RATE_LIMIT: [&str; 9] = [
    "rate limit",
    "rate-limit",
    "rate_limit",
    "ratelimit",
    "too many",
    "throttl",
    "slow down",
    "quota",
    "limit exceeded",
];

/// The kind of the end of a connection that was open for this long, by its close code.
pub fn end(end: &End, open: Duration, settings: &Transport) -> Kind {
    match end.code {
        _ if end.kind != Kind::Disconnected => end.kind,
        None => end.kind,
        Some(code) => match listed_code(code, settings) {
            Some(kind) => kind,
            None if code == POLICY && is_rate_limit(&end.reason) => Kind::Throttled,
            // Later it refers to a message that we sent.
            None if code == POLICY && open < SOON => Kind::Auth,
            None => end.kind,
        },
    }
}

/// The kind that the settings give a close code.
pub fn listed_code(code: u16, settings: &Transport) -> Option<Kind> {
    if settings.refused_codes.contains(&code) {
        return Some(Kind::Auth);
    }
    settings.slow_codes.contains(&code).then_some(Kind::Throttled)
}

/// Whether the reason of a refusal is a limit on requests, and so not the credentials.
pub fn is_rate_limit(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    RATE_LIMIT.iter().any(|part| reason.contains(part))
}

/// The kind of a failed upgrade, by its HTTP status (RFC 9110 §15).
pub fn kind_of_status(status: u16) -> DialErrorKind {
    match status {
        // Unauthorized, forbidden, and a proxy that wants credentials.
        401 | 403 | 407 => DialErrorKind::Credentials,
        // Request timeout, too early, too many requests, and server errors.
        408 | 425 | 429 | 500..=599 => DialErrorKind::Unreachable,
        _ => DialErrorKind::WrongAddress,
    }
}

/// The kind of a failed CONNECT, by the proxy's status: 401 and 403 are not about the service's credentials.
pub fn kind_of_proxy_status(status: u16) -> DialErrorKind {
    match status {
        401 | 403 => DialErrorKind::WrongAddress,
        status => kind_of_status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_code_is_classified_by_the_settings_and_else_by_the_defaults() {
        let settings = Transport::default();
        let kind = |code: u16, reason: &str, seconds: u64| {
            end(&End::closed(Some(code), reason), Duration::from_secs(seconds), &settings)
        };
        for (code, reason, seconds, expected) in [
            (1000, "", 0, Kind::Disconnected),
            (1008, "who are you?", 1, Kind::Auth),
            (1008, "who are you?", 60, Kind::Disconnected),
            (1008, "Rate limit reached", 1, Kind::Throttled),
            (1008, "Too Many connections", 60, Kind::Throttled),
            (3000, "", 60, Kind::Auth),
            (3003, "", 60, Kind::Auth),
            (4401, "", 60, Kind::Auth),
            (4403, "", 60, Kind::Auth),
            (4429, "", 0, Kind::Throttled),
            (4004, "", 0, Kind::Disconnected),
            (4000, "too many", 0, Kind::Disconnected),
        ] {
            assert_eq!(kind(code, reason, seconds), expected, "{code} {reason} {seconds}");
        }
        let settings =
            Transport { refused_codes: vec![4004], slow_codes: vec![1008, 4008], ..Transport::default() };
        let kind = |code| end(&End::closed(Some(code), ""), Duration::ZERO, &settings);
        assert_eq!(
            [4004, 1008, 4008, 4401].map(kind),
            [Kind::Auth, Kind::Throttled, Kind::Throttled, Kind::Disconnected]
        );
        let auth = End { kind: Kind::Auth, ..End::closed(Some(4008), "") };
        assert_eq!(end(&auth, Duration::ZERO, &settings), Kind::Auth);
        assert_eq!(end(&End::disconnected("rate limit"), Duration::ZERO, &settings), Kind::Disconnected);
    }

    #[test]
    fn a_status_is_classified() {
        for (status, kind) in [
            (401, DialErrorKind::Credentials),
            (404, DialErrorKind::WrongAddress),
            (429, DialErrorKind::Unreachable),
            (503, DialErrorKind::Unreachable),
            (200, DialErrorKind::WrongAddress),
        ] {
            assert_eq!(kind_of_status(status), kind, "{status}");
        }
        for (status, kind) in [
            (403, DialErrorKind::WrongAddress),
            (405, DialErrorKind::WrongAddress),
            (407, DialErrorKind::Credentials),
            (425, DialErrorKind::Unreachable),
            (502, DialErrorKind::Unreachable),
        ] {
            assert_eq!(kind_of_proxy_status(status), kind, "{status}");
        }
    }
}
