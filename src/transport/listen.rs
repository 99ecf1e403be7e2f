//! Services that connect to us over WebSockets: the upgrade from the server's side, and who may come in.
//!
//! Whoever comes has said nothing yet that can be trusted. So all of it has one deadline, set by the caller, and nobody
//! is spoken to as a link before the connector has let it in.

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

use super::meaning::{POLICY, TOO_LARGE};
use super::tcp::prepare;
use super::websocket::socket::{Reader, Writer, halves, read_and_answer};
use super::wire::Wire;
use super::{
    Accepted, Authorize, Dialled, Read as _, Received, Resumed, Settings, Write as _, deadline, tls,
};

/// How long a peer that is not let in may take to end the connection.
const LEAVING: Duration = Duration::from_secs(1);

/// Listens at a door.
///
/// # Errors
/// A sentence that names the address or the file, and says what to do.
pub async fn bind(listener: &Listener) -> Result<TcpListener, String> {
    check(listener)?;
    TcpListener::bind(listener.listen).await.map_err(|error| cannot_listen(listener.listen, &error))
}

/// Whether the files of a door are there.
///
/// # Errors
/// A sentence that names the file that is missing or wrong.
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

/// Speaks TLS with somebody at a door that wants it.
///
/// # Errors
/// Why it broke off.
pub async fn encrypt(tcp: TcpStream, listener: &Listener, settings: &Settings) -> Result<Wire, String> {
    prepare(&tcp, settings).map_err(|error| error.to_string())?;
    let Some(identity) = &listener.tls else { return Ok(Wire::plain(tcp)) };
    let acceptor = TlsAcceptor::from(tls::server(identity)?);
    let stream = acceptor.accept(tcp).await.map_err(|error| format!("TLS broke off: {error}"))?;
    Ok(Wire::encrypted(stream.into()))
}

/// Upgrades a connection, and finds out who it is.
///
/// # Errors
/// Why it was not let in. It was told, as far as it may know.
pub async fn accept(
    wire: Wire,
    listener: &Listener,
    settings: &Settings,
    authorize: &Authorize<'_, Frame>,
) -> Result<Accepted<Reader, Writer>, String> {
    let mut knock = None;
    // The shape of the library's callback.
    #[allow(clippy::result_large_err)]
    let upgrade = |request: &Request, response: Response| {
        knock.insert(Knock::read(request)).answer(listener, authorize, response)
    };
    // The library refuses a request with bytes behind it: what comes now is the first frame.
    let wire = tokio_tungstenite::accept_hdr_async(wire, upgrade)
        .await
        .map_err(|error| format!("the upgrade failed: {error}"))?
        .into_inner();
    let Some(knock) = knock else { return Err("the upgrade was not asked for".to_owned()) };
    let silence = listener.silence.max(settings.config.ping_interval.0 * 2);
    let (mut reader, mut writer) = halves(wire, &[], Role::Server, silence, settings);
    let link = match knock.admission {
        Some(Accept::In { link, .. }) => link,
        _ => {
            let first = match read_and_answer(&mut reader, &mut writer).await {
                Ok(Received::Message(first)) => first,
                Ok(Received::TooLarge(size)) => {
                    turn_away(reader, writer, TOO_LARGE, "the first message is too large").await;
                    return Err(format!("its first message of {size} bytes is over transport.message_limit"));
                }
                Err(end) => {
                    turn_away(reader, writer, POLICY, "").await;
                    return Err(format!("it was gone before its first message: {end}"));
                }
            };
            match authorize(&knock.handshake(Some(&first))) {
                Ok(Accept::In { link, .. }) => link,
                Ok(Accept::Hear) => {
                    let reason = "say who you are first";
                    turn_away(reader, writer, POLICY, reason).await;
                    return Err(reason.to_owned());
                }
                Err(error) => {
                    turn_away(reader, writer, POLICY, told(&error)).await;
                    return Err(error.to_string());
                }
            }
        }
    };
    Ok((link, Dialled { reader, writer, resumed: Resumed::No, limit: None }))
}

/// Closes a connection that is not let in: with this code and reason, unless the peer has ended it already.
async fn turn_away(mut reader: Reader, mut writer: Writer, code: u16, reason: &str) {
    let leaving = async {
        let closed =
            if writer.is_open() { writer.close_with(code, reason).await } else { writer.close().await };
        if closed.is_ok() {
            reader.drain().await;
        }
    };
    // A peer that does not end the connection in time is not waited for.
    let _ = deadline::within(LEAVING, leaving).await;
}

/// What an upgrade request says.
struct Knock {
    path: String,
    query: Vec<(String, String)>,
    subprotocols: Vec<String>,
    admission: Option<Accept>,
}

impl Knock {
    fn read(request: &Request) -> Self {
        let uri = request.uri();
        Self {
            path: uri.path().to_owned(),
            query: query(uri.query().unwrap_or_default()),
            subprotocols: subprotocols(request.headers()),
            admission: None,
        }
    }

    fn handshake<'a>(&'a self, first: Option<&'a Frame>) -> Handshake<'a, Frame> {
        Handshake { query: &self.query, subprotocols: &self.subprotocols, first }
    }

    // The shape of the library's callback.
    #[allow(clippy::result_large_err)]
    fn answer(
        &mut self,
        listener: &Listener,
        authorize: &Authorize<'_, Frame>,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        if self.path != listener.path {
            return Err(refusal(StatusCode::NOT_FOUND, "there is nothing at this path"));
        }
        let admission =
            authorize(&self.handshake(None)).map_err(|error| refusal(status(&error), told(&error)))?;
        if let Accept::In { subprotocol: Some(chosen), .. } = &admission {
            let chosen = HeaderValue::from_str(chosen)
                .map_err(|_| refusal(StatusCode::BAD_REQUEST, "the subprotocol cannot be chosen"))?;
            response.headers_mut().insert("Sec-WebSocket-Protocol", chosen);
        }
        self.admission = Some(admission);
        Ok(response)
    }
}

/// What a stranger may know of an error.
fn told(error: &Error) -> &str {
    match error.kind() {
        Kind::Auth | Kind::Rejected | Kind::Protocol => error.message(),
        Kind::Config | Kind::Disconnected | Kind::Throttled | Kind::Internal => "nobody can be let in now",
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
    fn a_query_is_read_as_it_was_meant() {
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
