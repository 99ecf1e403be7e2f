//! The opening handshake of a WebSocket (RFC 6455 §4), with limits, and errors for refusals.
//!
//! The library's handshake fails without a choice when a server picks none of the offered subprotocols, reads up to
//! 64 KiB of headers, and hides `Retry-After`; the bytes of the request and the key's answer still come from it.

use pontoon_sdk::url::Url;
use pontoon_sdk::websocket::Endpoint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::handshake::client::{generate_key, generate_request};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Request};

use super::DialError;
use super::connect::refused;
use super::refusal::refusal;
use super::tcp::Address;
use super::wire::Wire;

/// The largest header of a response, in bytes.
const HEADER_LIMIT: usize = 16 * 1024;
/// How many header fields it may have.
const HEADER_COUNT: usize = 128;

/// A request that was checked and can be sent.
pub struct Upgrade {
    /// Where it goes.
    pub address: Address,
    request: Vec<u8>,
    key: String,
    offered: Vec<String>,
    require_subprotocol: bool,
}

impl Upgrade {
    /// Makes the request and resolves the secrets in it. A `User-Agent` among the endpoint's headers replaces `user_agent`.
    ///
    /// # Errors
    /// `Credentials` if a secret cannot be resolved, `WrongAddress` if a value is not allowed in a request.
    pub fn new(endpoint: &Endpoint, user_agent: &str) -> Result<Self, DialError> {
        let url = url(endpoint)?;
        let address = Address::from(&url);
        let key = generate_key();
        let offered =
            endpoint.subprotocols.iter().map(|param| param.reveal()).collect::<Result<Vec<_>, _>>()?;
        let mut request = Request::get(target(&url, endpoint)?)
            .header("Host", host(&address))
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", &key)
            .body(())
            .map_err(|_| DialError::wrong_address("the url is not allowed in a request"))?;
        if !offered.is_empty() {
            insert(&mut request, "Sec-WebSocket-Protocol", &offered.join(", "))?;
        }
        if !endpoint.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("User-Agent")) {
            insert(&mut request, "User-Agent", user_agent)?;
        }
        for (name, value) in &endpoint.headers {
            insert(&mut request, name, &value.reveal()?)?;
        }
        let (request, _) = generate_request(request)
            .map_err(|_| DialError::wrong_address("the request cannot be written"))?;
        Ok(Self { address, request, key, offered, require_subprotocol: endpoint.require_subprotocol })
    }

    /// Sends the request and checks the response. Returns the bytes that the server sent after it.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn perform(&self, wire: &mut Wire) -> Result<Vec<u8>, DialError> {
        let broke = |error: std::io::Error| {
            refused(&self.address, &error).unwrap_or_else(|| {
                DialError::unreachable(format!("{} broke off the handshake: {error}", self.address))
            })
        };
        // A server that closes before it has read the whole request may still have responded: read that first.
        let sent = match wire.write_all(&self.request).await {
            Ok(()) => wire.flush().await,
            failed => failed,
        };
        let mut received = Vec::with_capacity(1024);
        loop {
            if let Some(length) = self.check(&received)? {
                return Ok(received.split_off(length));
            }
            if received.len() >= HEADER_LIMIT {
                return Err(DialError::wrong_address(format!(
                    "{} sends more than 16 KiB of headers",
                    self.address
                )));
            }
            let room = u64::try_from(HEADER_LIMIT - received.len()).unwrap_or(0);
            if (&mut *wire).take(room).read_buf(&mut received).await.map_err(broke)? == 0 {
                sent.map_err(broke)?;
                return Err(DialError::unreachable(format!(
                    "{} closed the connection during the handshake",
                    self.address
                )));
            }
        }
    }

    /// The length of the response's header if it is complete and accepts the upgrade; `None` if more must be read.
    fn check(&self, received: &[u8]) -> Result<Option<usize>, DialError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADER_COUNT];
        let mut response = httparse::Response::new(&mut headers);
        let status = response.parse(received);
        let length = match status {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => {
                return Err(DialError::wrong_address(format!(
                    "{} does not speak HTTP: {error}",
                    self.address
                )));
            }
        };
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok().map(str::trim)
        };
        let code = response.code.unwrap_or_default();
        if code != 101 {
            return Err(refusal(&self.address, code, &header));
        }
        let upgrades = header("Upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
            && header("Connection").is_some_and(|value| value.to_ascii_lowercase().contains("upgrade"));
        let accepted = header("Sec-WebSocket-Accept") == Some(&derive_accept_key(self.key.as_bytes()));
        if !upgrades || !accepted {
            return Err(DialError::wrong_address(format!(
                "{} does not answer as a WebSocket server",
                self.address
            )));
        }
        if header("Sec-WebSocket-Extensions").is_some_and(|value| !value.is_empty()) {
            return Err(DialError::wrong_address(format!(
                "{} chose an extension that was not offered",
                self.address
            )));
        }
        self.check_subprotocol(header("Sec-WebSocket-Protocol"))?;
        Ok(Some(length))
    }

    fn check_subprotocol(&self, chosen: Option<&str>) -> Result<(), DialError> {
        match chosen {
            Some(chosen) if self.offered.iter().any(|offered| offered == chosen) => Ok(()),
            None if self.offered.is_empty() || !self.require_subprotocol => Ok(()),
            // Its choice may hold one of our secrets, so it is not shown.
            Some(_) => Err(DialError::wrong_address(format!(
                "{} chose a subprotocol that was not offered",
                self.address
            ))),
            None => Err(DialError::wrong_address(format!(
                "{} chose none of the offered subprotocols",
                self.address
            ))),
        }
    }
}

fn insert(request: &mut Request<()>, name: &str, value: &str) -> Result<(), DialError> {
    let header = HeaderName::try_from(name)
        .map_err(|_| DialError::wrong_address(format!("\"{name}\" is not a header name")))?;
    let value = HeaderValue::try_from(value).map_err(|_| {
        DialError::credentials(format!("the value of {name} holds bytes that are not allowed in a header"))
    })?;
    request.headers_mut().append(header, value);
    Ok(())
}

/// The path with its query, with the secrets in it resolved.
///
/// # Errors
/// `Credentials` if a secret cannot be resolved.
pub fn target(url: &Url<'_>, endpoint: &Endpoint) -> Result<String, DialError> {
    let mut target = url.path_and_query().into_owned();
    for (name, value) in &endpoint.query {
        target.push(if target.contains('?') { '&' } else { '?' });
        push_query(&mut target, name);
        target.push('=');
        push_query(&mut target, &value.reveal()?);
    }
    Ok(target)
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.3).
fn push_query(url: &mut String, text: &str) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(byte)),
            _ => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
}

/// Parses the endpoint's URL.
///
/// # Errors
/// `WrongAddress` if it is not the URL of a WebSocket.
pub fn url(endpoint: &Endpoint) -> Result<Url<'_>, DialError> {
    endpoint.parsed_url().map_err(|fault| DialError::wrong_address(fault.to_string()))
}

/// The value of `Host`, without the scheme's default port, as some servers compare the text.
fn host(address: &Address) -> String {
    let name = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    match (address.secure, address.port) {
        (true, 443) | (false, 80) => name,
        (_, port) => format!("{name}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pontoon_sdk::{Param, Secret};

    use super::*;
    use crate::transport::DialErrorKind;

    fn upgrade(change: impl FnOnce(&mut Endpoint)) -> Result<Upgrade, DialError> {
        let mut endpoint = Endpoint::new("wss://svc.example/ws").unwrap();
        change(&mut endpoint);
        Upgrade::new(&endpoint, "pontoon/test")
    }

    fn answer(upgrade: &Upgrade, extra: &str) -> String {
        let accept = derive_accept_key(upgrade.key.as_bytes());
        format!(
            "HTTP/1.1 101 X\r\nupgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\nsec-websocket-accept: {accept}\r\n{extra}\r\n"
        )
    }

    #[test]
    fn the_request_carries_what_the_endpoint_says() {
        let upgrade = upgrade(|endpoint| {
            endpoint.query.push(("uid".into(), "a b&c=ü".into()));
            endpoint.headers.push(("Origin".into(), "https://app.example".into()));
            endpoint.subprotocols = vec!["x-access-token".into(), Param::Secret(Secret::plain("eyJ.x.y"))];
        })
        .unwrap();
        let text = String::from_utf8(upgrade.request.clone()).unwrap();
        assert!(
            text.starts_with("GET /ws?uid=a%20b%26c%3D%C3%BC HTTP/1.1\r\nHost: svc.example\r\n"),
            "{text}"
        );
        let lower = text.to_lowercase();
        assert!(lower.contains("origin: https://app.example\r\n"), "{text}");
        assert!(lower.contains("sec-websocket-protocol: x-access-token, eyj.x.y\r\n"), "{text}");
        assert!(lower.contains("user-agent: pontoon/test\r\n"), "{text}");
        assert_eq!(upgrade.address, Address { host: "svc.example".into(), port: 443, secure: true });
    }

    #[test]
    fn the_endpoints_own_user_agent_goes_before_ours() {
        let upgrade =
            upgrade(|endpoint| endpoint.headers.push(("user-AGENT".into(), "mine/1".into()))).unwrap();
        let lower = String::from_utf8(upgrade.request).unwrap().to_lowercase();
        assert!(lower.contains("user-agent: mine/1\r\n") && !lower.contains("pontoon"), "{lower}");
    }

    #[test]
    fn an_invalid_port_is_an_error() {
        for url in ["wss://svc.example:99999/", "wss://svc.example:0/", "wss://svc.example:/"] {
            let wrong = upgrade(|endpoint| url.clone_into(&mut endpoint.url)).err().unwrap();
            assert_eq!(wrong.kind, DialErrorKind::WrongAddress, "{url}");
            assert!(wrong.message.contains("1 to 65535"), "{url}: {wrong}");
        }
    }

    #[test]
    fn no_value_can_break_the_request() {
        assert!(upgrade(|endpoint| endpoint.headers.push(("X".into(), "a\r\nB: c".into()))).is_err());
        assert!(upgrade(|endpoint| endpoint.headers.push(("X Y".into(), "a".into()))).is_err());
        assert!(upgrade(|endpoint| endpoint.subprotocols.push("a\nb".into())).is_err());
    }

    #[test]
    fn a_valid_response_is_accepted_and_what_follows_is_kept() {
        let upgrade = upgrade(|_| {}).unwrap();
        let text = answer(&upgrade, "");
        assert_eq!(upgrade.check(text.as_bytes()).unwrap(), Some(text.len()));
        assert_eq!(upgrade.check(&text.as_bytes()[..40]).unwrap(), None);
        assert_eq!(upgrade.check(format!("{text}\u{1}rest").as_bytes()).unwrap(), Some(text.len()));
    }

    #[test]
    fn refusals_are_classified() {
        let upgrade = upgrade(|_| {}).unwrap();
        for (code, kind) in [
            (401, DialErrorKind::Credentials),
            (403, DialErrorKind::Credentials),
            (404, DialErrorKind::WrongAddress),
            (301, DialErrorKind::WrongAddress),
            (200, DialErrorKind::WrongAddress),
            (429, DialErrorKind::Unreachable),
            (503, DialErrorKind::Unreachable),
        ] {
            let error =
                upgrade.check(format!("HTTP/1.1 {code} X\r\nRetry-After: 7\r\n\r\n").as_bytes()).unwrap_err();
            assert_eq!((error.kind, error.retry_after), (kind, Some(Duration::from_secs(7))), "{code}");
        }
        assert_eq!(upgrade.check(b"SSH-2.0-OpenSSH\r\n\r\n").unwrap_err().kind, DialErrorKind::WrongAddress);
        assert!(upgrade.check(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n").is_err());
    }

    #[test]
    fn a_server_may_choose_no_subprotocol_only_if_that_is_allowed() {
        let offer = |require| {
            upgrade(|endpoint| {
                endpoint.subprotocols = vec!["x-access-token".into(), "tok".into()];
                endpoint.require_subprotocol = require;
            })
            .unwrap()
        };
        for (require, chosen, good) in [
            (true, "", false),
            (false, "", true),
            (true, "sec-websocket-protocol: tok\r\n", true),
            (false, "sec-websocket-protocol: other\r\n", false),
        ] {
            let upgrade = offer(require);
            assert_eq!(
                upgrade.check(answer(&upgrade, chosen).as_bytes()).is_ok(),
                good,
                "{require} {chosen}"
            );
        }
    }
}
