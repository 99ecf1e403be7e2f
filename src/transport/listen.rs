//! The server's side of a WebSocket: listening, TLS, the upgrade, and the connector's decision to accept a connection.
//!
//! A peer is not trusted before the connector has accepted it: the whole handshake has one deadline, set by the caller,
//! and a connection becomes a link only after it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pontoon_sdk::listener::{Accept, Handshake, Listener};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Error, Kind};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::classify::{POLICY, TOO_LARGE};
use super::tcp::prepare;
use super::websocket::socket::{Reader, Writer, halves, read_and_answer};
use super::wire::Wire;
use super::{
    Accepted, Authorize, Dialled, Read as _, Received, Resumed, Settings, Write as _, deadline, tls,
};

/// How long a refused peer may take to close the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Binds the address of a listener.
///
/// # Errors
/// A message with the address or the file, and what to do.
pub async fn bind(listener: &Listener) -> Result<TcpListener, String> {
    check(listener)?;
    TcpListener::bind(listener.listen).await.map_err(|error| cannot_listen(listener.listen, &error))
}

/// Checks that the TLS files of a listener can be used.
///
/// # Errors
/// A message with the file that is missing or wrong.
pub fn check(listener: &Listener) -> Result<(), String> {
    listener.tls.as_ref().map_or(Ok(()), |identity| tls::server(identity).map(drop))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::PermissionDenied => {
            "; choose a port from 1024 on, or allow the program to use this one"
        }
        _ => "",
    };
    format!("cannot listen on {address}: {error}{hint}")
}

/// Performs the TLS handshake, if the listener has a certificate.
///
/// # Errors
/// Why the handshake failed.
pub async fn encrypt(tcp: TcpStream, listener: &Listener, settings: &Settings) -> Result<Wire, String> {
    prepare(&tcp, settings).map_err(|error| error.to_string())?;
    let Some(identity) = &listener.tls else {
        return Ok(Wire::plain(tcp).fenced(settings.fence.clone()));
    };
    let acceptor = TlsAcceptor::from(tls::server(identity)?);
    let stream = acceptor.accept(tcp).await.map_err(|error| format!("TLS broke off: {error}"))?;
    Ok(Wire::encrypted(stream.into()).fenced(settings.fence.clone()))
}

/// Performs the WebSocket upgrade, and has the connector authorize the peer, with its first message if need be.
///
/// # Errors
/// Why it was refused, for the log. The peer receives what it may know of it.
pub async fn accept(
    wire: Wire,
    listener: &Listener,
    settings: &Settings,
    authorize: &Authorize<'_, Frame>,
) -> Result<Accepted<Reader, Writer>, String> {
    let mut request = None;
    // The shape of the library's callback.
    #[allow(clippy::result_large_err)]
    let callback = |received: &Request, response: Response| {
        request.insert(UpgradeRequest::read(received)).respond(listener, authorize, response)
    };
    // The library refuses a request with bytes after it, so the next byte begins the first frame.
    let wire = tokio_tungstenite::accept_hdr_async(wire, callback)
        .await
        .map_err(|error| format!("the upgrade failed: {error}"))?
        .into_inner();
    let Some(request) = request else { return Err("there was no upgrade request".to_owned()) };
    let silence = listener.silence.max(settings.config.ping_interval.0 * 2);
    let (mut reader, mut writer) = halves(wire, &[], Role::Server, silence, settings);
    let link = match request.accept {
        Some(Accept::As { link, .. }) => link,
        _ => {
            let first = match read_and_answer(&mut reader, &mut writer).await {
                Ok(Received::Message(first)) => first,
                Ok(Received::TooLarge(size)) => {
                    reject(reader, writer, TOO_LARGE, "the first message is too large").await;
                    return Err(format!("its first message of {size} bytes is over transport.message_limit"));
                }
                Err(end) => {
                    reject(reader, writer, POLICY, "").await;
                    return Err(format!("it disconnected before its first message: {end}"));
                }
            };
            match authorize(&request.handshake(Some(&first))) {
                Ok(Accept::As { link, .. }) => link,
                Ok(Accept::AfterFirstMessage) => {
                    let reason = "authenticate first";
                    reject(reader, writer, POLICY, reason).await;
                    return Err(reason.to_owned());
                }
                Err(error) => {
                    reject(reader, writer, POLICY, public_text(&error)).await;
                    return Err(error.to_string());
                }
            }
        }
    };
    Ok((link, Dialled { reader, writer, resumed: Resumed::No, limit: None }))
}

/// Closes a refused connection with this code and reason, unless the peer has already closed it.
async fn reject(mut reader: Reader, mut writer: Writer, code: u16, reason: &str) {
    let closing = async {
        let closed =
            if writer.is_open() { writer.close_with(code, reason).await } else { writer.close().await };
        if closed.is_ok() {
            reader.drain().await;
        }
    };
    // After the timeout the connection is dropped.
    let _ = deadline::within(CLOSE_TIMEOUT, closing).await;
}

/// What is read of an upgrade request, and the connector's decision.
struct UpgradeRequest {
    path: String,
    query: Vec<(String, String)>,
    subprotocols: Vec<String>,
    accept: Option<Accept>,
}

impl UpgradeRequest {
    fn read(request: &Request) -> Self {
        let uri = request.uri();
        Self {
            path: uri.path().to_owned(),
            query: query(uri.query().unwrap_or_default()),
            subprotocols: subprotocols(request.headers()),
            accept: None,
        }
    }

    fn handshake<'a>(&'a self, first: Option<&'a Frame>) -> Handshake<'a, Frame> {
        Handshake { query: &self.query, subprotocols: &self.subprotocols, first }
    }

    // The shape of the library's callback.
    #[allow(clippy::result_large_err)]
    fn respond(
        &mut self,
        listener: &Listener,
        authorize: &Authorize<'_, Frame>,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        if self.path != listener.path {
            return Err(refusal(StatusCode::NOT_FOUND, "there is nothing at this path"));
        }
        let accept =
            authorize(&self.handshake(None)).map_err(|error| refusal(status(&error), public_text(&error)))?;
        if let Accept::As { subprotocol: Some(chosen), .. } = &accept {
            let chosen = HeaderValue::from_str(chosen)
                .map_err(|_| refusal(StatusCode::BAD_REQUEST, "the subprotocol cannot be chosen"))?;
            response.headers_mut().insert("Sec-WebSocket-Protocol", chosen);
        }
        self.accept = Some(accept);
        Ok(response)
    }
}

/// The part of an error that a refused peer may see.
fn public_text(error: &Error) -> &str {
    match error.kind() {
        Kind::Auth | Kind::Rejected | Kind::Protocol => error.message(),
        Kind::Config | Kind::Disconnected | Kind::Throttled | Kind::Internal => {
            "no connections are accepted now"
        }
    }
}

fn status(error: &Error) -> StatusCode {
    match error.kind() {
        Kind::Auth => StatusCode::UNAUTHORIZED,
        Kind::Rejected | Kind::Protocol => StatusCode::BAD_REQUEST,
        Kind::Config | Kind::Disconnected | Kind::Throttled | Kind::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn refusal(status: StatusCode, text: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text.to_owned()));
    *response.status_mut() = status;
    response
}

fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all("Sec-WebSocket-Protocol").iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(','))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The parameters of a query, as `application/x-www-form-urlencoded` has them.
fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    };
    pairs.map(pair).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high).zip(digit(low)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
            }
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        for (text, read) in [
            ("", vec![]),
            ("title=main&x", vec![pair("title", "main"), pair("x", "")]),
            ("title=a+b%20c%C3%BC&&y=1=2", vec![pair("title", "a b cü"), pair("y", "1=2")]),
            ("title=%zz%4&t=%ff%", vec![pair("title", "%zz%4"), pair("t", "\u{fffd}%")]),
        ] {
            assert_eq!(query(text), read, "{text}");
        }
    }
}
