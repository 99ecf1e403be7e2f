//! The opening request of a WebSocket, and what is answered to it.

use tokio_tungstenite::tungstenite::handshake::server as upgrade;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, StatusCode};

/// An upgrade request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path without the query.
    pub path: String,
    /// The query's parameters, decoded.
    pub query: Vec<(String, String)>,
    /// Header fields; names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A header field; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The subprotocols that were offered.
    pub fn subprotocols(&self) -> Vec<&str> {
        let offered = self.header("sec-websocket-protocol").unwrap_or_default();
        offered.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
    }
}

/// An HTTP answer instead of the upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Refusal {
    /// Refuses with this status.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// With a header field, such as `Retry-After` or `Location`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

pub(super) fn read_request(request: &upgrade::Request) -> Request {
    let uri = request.uri();
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(key), percent_decoded(value))
    });
    let headers = request.headers().iter();
    let headers = headers
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    Request { path: uri.path().to_owned(), query: query.collect(), headers: headers.collect() }
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'%')
            .then(|| after.get(..2).and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 16).ok()))
            .flatten();
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn answer(
    verdict: Result<Option<String>, Refusal>,
    mut response: upgrade::Response,
) -> Result<upgrade::Response, upgrade::ErrorResponse> {
    match verdict {
        Ok(subprotocol) => {
            if let Some(name) = subprotocol {
                let name = HeaderValue::from_str(&name).expect("what was offered can be echoed");
                response.headers_mut().insert("Sec-WebSocket-Protocol", name);
            }
            Ok(response)
        }
        Err(refusal) => {
            let length = refusal.body.len().to_string();
            let mut refused = upgrade::ErrorResponse::new(Some(refusal.body));
            *refused.status_mut() = StatusCode::from_u16(refusal.status).expect("a status has three digits");
            let fixed =
                [("Content-Length".to_owned(), length), ("Connection".to_owned(), "close".to_owned())];
            for (name, value) in refusal.headers.into_iter().chain(fixed) {
                let name = name.parse::<HeaderName>().expect("a header's name");
                refused.headers_mut().insert(name, HeaderValue::from_str(&value).expect("a header's value"));
            }
            Err(refused)
        }
    }
}
