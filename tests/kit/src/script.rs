//! The socket of a script in Stream Avatars, without the app: it dials, says text, and sends no header but subprotocols.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::{Error, http::HeaderValue};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::wait::until_some;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// One socket that a script has opened. It is closed when this value is dropped, without a word.
#[derive(Debug)]
pub struct ScriptSocket {
    out: mpsc::UnboundedSender<Message>,
    received: Arc<Mutex<Received>>,
    subprotocol: Option<String>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Received {
    texts: Vec<String>,
    /// How the other side closed: code and reason; empty where it said neither.
    closed: Option<(Option<u16>, String)>,
}

impl ScriptSocket {
    /// Dials `ws://…` on loopback, as `app.createWebsocket(title, url, protocols)` does.
    ///
    /// # Errors
    /// The HTTP status with which it was refused; 0 where there was none.
    pub async fn dial(url: &str, protocols: &[&str]) -> Result<Self, u16> {
        let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let address: SocketAddr = address.parse().map_err(|_| 0_u16)?;
        let stream = TcpStream::connect(address).await.map_err(|_| 0_u16)?;
        Self::over(stream, url, protocols).await
    }

    /// The same over a stream that is there already, such as an encrypted one.
    ///
    /// # Errors
    /// As [`ScriptSocket::dial`].
    pub async fn over<S>(stream: S, url: &str, protocols: &[&str]) -> Result<Self, u16>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut request = url.into_client_request().map_err(|_| 0_u16)?;
        if !protocols.is_empty() {
            let offered = HeaderValue::from_str(&protocols.join(", ")).map_err(|_| 0_u16)?;
            request.headers_mut().insert("Sec-WebSocket-Protocol", offered);
        }
        let (socket, response) = client_async(request, stream).await.map_err(|error| match error {
            Error::Http(response) => response.status().as_u16(),
            _ => 0,
        })?;
        let chosen = response.headers().get("Sec-WebSocket-Protocol").and_then(|value| value.to_str().ok());
        let (out, queue) = mpsc::unbounded_channel();
        let received = Arc::default();
        let task = tokio::spawn(run(socket, queue, Arc::clone(&received)));
        Ok(Self { out, received, subprotocol: chosen.map(str::to_owned), task })
    }

    /// The subprotocol that was chosen.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Says a text.
    pub fn send(&self, text: &str) {
        let _ = self.out.send(Message::text(text));
    }

    /// Says bytes, which no script can.
    pub fn send_binary(&self, data: &[u8]) {
        let _ = self.out.send(Message::binary(data.to_vec()));
    }

    /// Says goodbye.
    pub fn close(&self) {
        let _ = self.out.send(Message::Close(None));
    }

    /// Everything that was received.
    pub fn texts(&self) -> Vec<String> {
        self.received.lock().unwrap().texts.clone()
    }

    /// Waits until so many texts were received, and returns them.
    ///
    /// # Panics
    /// If they do not come in time.
    pub async fn receives(&self, number: usize) -> Vec<String> {
        until_some(DEADLINE, async || Some(self.texts()).filter(|texts| texts.len() >= number)).await
    }

    /// Waits until the other side has closed: its code and its reason.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn closed(&self) -> (Option<u16>, String) {
        until_some(DEADLINE, async || self.received.lock().unwrap().closed.clone()).await
    }

    /// Whether the other side has not closed yet.
    pub fn is_open(&self) -> bool {
        self.received.lock().unwrap().closed.is_none()
    }
}

impl Drop for ScriptSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run<S>(
    mut socket: WebSocketStream<S>,
    mut queue: mpsc::UnboundedReceiver<Message>,
    received: Arc<Mutex<Received>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut closed = None;
    loop {
        tokio::select! {
            message = queue.recv() => match message {
                Some(message) => {
                    let _ = socket.send(message).await;
                }
                None => break,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => received.lock().unwrap().texts.push(text.to_string()),
                Some(Ok(Message::Close(frame))) => {
                    closed = frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
        }
    }
    let (code, reason) = closed.map_or((None, String::new()), |(code, reason)| (Some(code), reason));
    received.lock().unwrap().closed = Some((code, reason));
}
