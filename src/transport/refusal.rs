//! The dial error for an HTTP status other than 101 in the opening handshake.

use std::time::{Duration, SystemTime};

use super::tcp::Address;
use super::{DialError, DialErrorKind, classify};
use crate::log::printable::printable;

/// The longest `Retry-After` that is honoured.
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// How many characters of a redirect's address are shown.
const LONGEST_LOCATION: usize = 200;

/// The error for a response, by its status and its header fields, as far as they are known.
pub fn refusal<'a>(address: &Address, code: u16, header: &dyn Fn(&str) -> Option<&'a str>) -> DialError {
    let edge = if code == 403 { edge(header) } else { None };
    let kind = match code {
        403 if edge.is_some() => DialErrorKind::Edge,
        code => classify::kind_of_status(code),
    };
    let hint = match (code, edge) {
        (_, Some(edge)) => format!(
            ": {edge} in front of the service refused the request, so the credentials were not looked at; check what it \
             demands of clients: the User-Agent (transport.user_agent), our address, how often we dial"
        ),
        (401 | 403 | 407, _) => "; check the credentials".to_owned(),
        (300..=399, _) => match header("Location").map(place) {
            Some(place) => format!(
                "; redirects are not followed: it leads to {place}; use that as the url, if it is the service's"
            ),
            None => "; redirects are not followed: use the address that it leads to".to_owned(),
        },
        (404 | 410, _) => "; check the path of the url".to_owned(),
// Engine.IO servers refuse with this status for any reason.
        (400, _) => {
"; it refuses the handshake, or has no WebSocket here: check the path, the credentials and the origin"
                .to_owned()
        }
        (200..=299 | 405 | 426, _) => "; it has no WebSocket here".to_owned(),
        _ => String::new(),
    };
    let message = format!("{address} answered with HTTP status {code}{hint}");
    let retry_after = header("Retry-After").and_then(|text| retry_after(text, header("Date")));
    DialError { kind, retry_after, message }
}

/// The network in front of the service that generated this 403, by the signs that its operator documents. A 403 that is
/// passed on from the service has none of them.
///
/// * Cloudflare: `cf-mitigated` on challenges (developers.cloudflare.com, "Detect a challenge page response"); its own
///   error pages are HTML (1xxx errors), with `Server: cloudflare`
/// * Amazon: `Server: CloudFront` or `awselb/2.0` where the answer is not the origin's (docs.aws.amazon.com: "Request and
///   response behavior for custom origins", "Troubleshoot your Application Load Balancers", 403)
/// * Akamai: `Server: AkamaiGHost` (techdocs.akamai.com, "Access Denied" reference errors)
fn edge<'a>(header: &dyn Fn(&str) -> Option<&'a str>) -> Option<&'static str> {
    let server = header("Server").unwrap_or_default().to_ascii_lowercase();
    let is_page =
        header("Content-Type").is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    match server.as_str() {
        _ if header("cf-mitigated").is_some() => Some("Cloudflare"),
        "cloudflare" if is_page => Some("Cloudflare"),
        "cloudfront" => Some("Amazon CloudFront"),
        _ if server.starts_with("awselb/") => Some("an AWS load balancer"),
        "akamaighost" => Some("Akamai"),
        _ => None,
    }
}

/// How long `Retry-After` asks to wait (RFC 9110 §10.2.3): seconds, or until a date in any of the three forms of §5.6.7.
/// A date is read by the clock of the `Date` beside it, if there is one, as ours may be wrong.
pub(super) fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let now = date.and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(SystemTime::now);
    Some(until.duration_since(now).unwrap_or_default().min(LONGEST_RETRY))
}

/// The target of a redirect for messages: without user info, query and fragment, which may hold secrets.
fn place(location: &str) -> String {
    let location = location.split(['?', '#']).next().unwrap_or_default();
    let authority = match location.find("//").map(|at| location.split_at(at).0) {
        Some(scheme) if scheme.is_empty() || scheme.ends_with(':') && !scheme.contains('/') => {
            scheme.len() + 2
        }
        _ => 0,
    };
    let path =
        location.get(authority..).and_then(|rest| rest.find('/')).map_or(location.len(), |at| authority + at);
    let bare = match location.get(authority..path).and_then(|text| text.rsplit_once('@')) {
        Some((_, host)) if authority > 0 => {
            format!(
                "{}{host}{}",
                location.get(..authority).unwrap_or_default(),
                location.get(path..).unwrap_or_default()
            )
        }
        _ => location.to_owned(),
    };
    let mut shown = printable(&bare);
    if let Some((end, _)) = shown.char_indices().nth(LONGEST_LOCATION) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(code: u16, headers: &[(&str, &'static str)]) -> DialError {
        let address = Address { host: "svc.example".into(), port: 443, secure: true };
        let header = |name: &str| {
            headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
        };
        refusal(&address, code, &header)
    }

    #[test]
    fn retry_after_is_read_in_every_form_and_bounded() {
        const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (text, seconds) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("0012", Some(12)),
            ("3601", Some(3600)),
            ("99999999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            // In the past.
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(3600)),
            ("-1", None),
            ("+5", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:50:07 CET", None),
            ("Sun, 99 Nov 1994 08:50:07 GMT", None),
            ("2026-01-01T00:00:00Z", None),
        ] {
            let error = classified(503, &[("Retry-After", text), ("Date", DATE)]);
            assert_eq!(error.retry_after, seconds.map(Duration::from_secs), "{text}");
            assert_eq!(error.kind, DialErrorKind::Unreachable);
        }
        // Without a usable date beside it, by our own clock.
        for other in [None, Some("yesterday")] {
            let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600)).leak();
            let mut headers = vec![("Retry-After", &*soon)];
            headers.extend(other.map(|date| ("Date", date)));
            let asked = classified(429, &headers).retry_after.unwrap();
            assert!((590..=600).contains(&asked.as_secs()), "{asked:?}");
        }
    }

    #[test]
    fn a_redirect_is_shown_with_its_address_and_without_secrets() {
        for (location, shown) in [
            ("https://new.example/ws", "it leads to https://new.example/ws;"),
            ("wss://u:pw@new.example:8443/a/b?token=pw#pw", "it leads to wss://new.example:8443/a/b;"),
            ("//u:pw@new.example", "it leads to //new.example;"),
            ("/login?next=pw", "it leads to /login;"),
            ("login@home", "it leads to login@home;"),
            ("/a@b//c@d", "it leads to /a@b//c@d;"),
            ("https://h/\u{1b}[2J\u{202e}x", "https://h/\\u{1b}[2J\\u{202e}x;"),
        ] {
            let error = classified(301, &[("Location", location)]);
            assert!(error.message.contains(shown), "{location}: {error}");
            assert!(!error.message.contains("pw"), "{location}: {error}");
            assert_eq!(error.kind, DialErrorKind::WrongAddress);
        }
        let long = format!("https://h/{}", "é".repeat(5_000)).leak();
        let error = classified(308, &[("Location", long)]);
        assert!(error.message.contains("é…;") && error.message.chars().count() < 500, "{error}");
        assert!(classified(302, &[]).message.contains("redirects are not followed: use the address"));
    }

    #[test]
    fn a_403_of_an_edge_is_distinguished_from_one_of_the_service() {
        let html = ("Content-Type", "text/html; charset=UTF-8");
        let json = ("Content-Type", "application/json");
        for (headers, edge) in [
            (vec![], None),
            (vec![html], None),
            (vec![("Server", "nginx"), html], None),
            (vec![("Server", "cloudflare"), ("CF-RAY", "1-FRA"), html], Some("Cloudflare")),
            (vec![("Server", "cloudflare"), ("cf-mitigated", "challenge"), json], Some("Cloudflare")),
            // The service's own, passed on.
            (vec![("Server", "cloudflare"), ("CF-RAY", "1-FRA"), json], None),
            (vec![("Server", "uvicorn"), ("X-Cache", "Error from cloudfront"), json], None),
            (vec![("Server", "CloudFront"), html], Some("CloudFront")),
            (vec![("Server", "awselb/2.0"), html], Some("AWS load balancer")),
            (vec![("Server", "AkamaiGHost"), html], Some("Akamai")),
        ] {
            let error = classified(403, &headers);
            let kind = if edge.is_some() { DialErrorKind::Edge } else { DialErrorKind::Credentials };
            assert_eq!(error.kind, kind, "{headers:?}");
            assert!(error.message.contains(edge.unwrap_or("check the credentials")), "{headers:?}: {error}");
            // Other statuses are classified as usual.
            assert_eq!(classified(401, &headers).kind, DialErrorKind::Credentials);
            assert_eq!(classified(503, &headers).kind, DialErrorKind::Unreachable);
        }
    }
}
