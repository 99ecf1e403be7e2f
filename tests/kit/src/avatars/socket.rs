//! A socket of the app's: text only, no headers but what the script gave, no pings, and no dialling again.

use std::pin::Pin;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Request};
use tokio_tungstenite::{WebSocketStream, client_async};

/// What is done with a socket.
pub(super) enum Act {
    Text(String),
    /// The script removed it: it is closed as it should be.
    Close,
    /// The network broke it (RST).
    Cut,
}

/// What happened to one.
pub(super) enum Happened {
    Opened,
    Text(String),
    /// It was closed with this code and reason.
    Closed(u16, String),
    /// It broke, or could not be opened.
    Failed(String),
}

/// The request that a script asks for.
pub(super) fn request(url: &str, headers: &[(String, String)]) -> Result<Request<()>, String> {
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
        let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

/// A dial on its way, or done.
pub(super) type Dialling = Pin<Box<dyn Future<Output = Result<WebSocketStream<TcpStream>, String>> + Send>>;

pub(super) async fn dial(request: Request<()>) -> Result<WebSocketStream<TcpStream>, String> {
    let uri = request.uri();
    let address = (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let _ = stream.set_nodelay(true);
    let (socket, _) = client_async(request, stream).await.map_err(|error| error.to_string())?;
    Ok(socket)
}

/// Dials, sends and receives until the socket ends.
pub(super) async fn run(dial: Dialling, mut acts: UnboundedReceiver<Act>, report: impl Fn(Happened)) {
    let mut socket = tokio::select! {
        // What is sent to a socket that is open already is not lost.
        biased;
        dialled = dial => match dialled {
            Ok(socket) => socket,
            Err(reason) => return report(Happened::Failed(reason)),
        },
        // Nothing can be sent before it is open.
        () = given_up(&mut acts) => return report(Happened::Failed("it was given up".into())),
    };
    report(Happened::Opened);
    let mut removed = false;
    loop {
        tokio::select! {
            act = acts.recv(), if !removed => match act {
                Some(Act::Text(text)) => drop(socket.send(Message::text(text)).await),
                // The end is read below.
                Some(Act::Close) => drop(socket.close(None).await),
                Some(Act::Cut) => {
                    let _ = socket.get_ref().set_zero_linger();
                    return report(Happened::Failed("the connection was reset".into()));
                }
                None => removed = true,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => report(Happened::Text(text.to_string())),
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) =
                        frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                    report(Happened::Closed(code, reason));
                    // What is read after it is only the end.
                    while let Some(Ok(_)) = socket.next().await {}
                    return;
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return report(Happened::Failed(error.to_string())),
                None => return report(Happened::Closed(1005, String::new())),
            },
        }
    }
}

async fn given_up(acts: &mut UnboundedReceiver<Act>) {
    while let Some(Act::Text(_)) = acts.recv().await {}
}
