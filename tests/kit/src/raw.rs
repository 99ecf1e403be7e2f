//! A client of Socket.IO for the kit's own tests: hand-written packets over a WebSocket.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A connection that speaks only when it is told to, but for the answers to pings.
pub(crate) struct Raw {
    socket: WebSocketStream<TcpStream>,
    /// Whether pings are answered, and not shown.
    pub(crate) pongs: bool,
}

impl Raw {
    /// Dials with this query.
    pub(crate) async fn dial_with(address: SocketAddr, query: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.map_err(Error::Io)?;
        let url = format!("ws://{address}/socket.io/?{query}");
        let (socket, _) = timeout(DEADLINE, client_async(url, stream)).await.unwrap()?;
        Ok(Self { socket, pongs: true })
    }

    /// Dials as Engine.IO 4 asks. The open packet is still to be heard.
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        Self::dial_with(address, "EIO=4&transport=websocket").await.unwrap()
    }

    /// Dials, hears the open packet, and connects with this after `40`. The answer is still to be heard.
    pub(crate) async fn join(address: SocketAddr, auth: &str) -> Self {
        let mut raw = Self::dial(address).await;
        let open = raw.hear().await;
        assert!(open.starts_with("0{"), "{open}");
        raw.say(&format!("40{auth}")).await;
        raw
    }

    /// Joins the default namespace and hears the confirmation.
    pub(crate) async fn joined(address: SocketAddr, auth: &str) -> Self {
        let mut raw = Self::join(address, auth).await;
        let answer = raw.hear().await;
        assert!(answer.starts_with("40{"), "{answer}");
        raw
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn say_binary(&mut self, data: &[u8]) {
        self.socket.send(Message::binary(data.to_vec())).await.unwrap();
    }

    /// The next message, or `None` at the end, whichever way it ends.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            let message = timeout(DEADLINE, self.socket.next()).await.expect("something comes in time");
            match message {
                // A connection that has broken meanwhile is told of by the next read.
                Some(Ok(Message::Text(text))) if text == "2" && self.pongs => {
                    let _ = self.socket.send(Message::text("3")).await;
                }
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next message, a text.
    pub(crate) async fn hear(&mut self) -> String {
        match self.next().await {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("this is no text: {other:?}"),
        }
    }

    pub(crate) async fn emit(&mut self, name: &str, value: &Value) {
        self.say(&format!("42{}", serde_json::json!([name, value]))).await;
    }

    /// Emits and asks for the acknowledgement of this number.
    pub(crate) async fn call(&mut self, id: u64, name: &str, value: &Value) {
        self.say(&format!("42{id}{}", serde_json::json!([name, value]))).await;
    }

    /// The next event's arguments, which must be of this name.
    pub(crate) async fn event(&mut self, name: &str) -> Vec<Value> {
        let text = self.hear().await;
        let packet = text.strip_prefix("42").unwrap_or_else(|| panic!("this is no event: {text}"));
        let mut values: Vec<Value> = serde_json::from_str(packet).unwrap();
        assert_eq!(values.remove(0), name, "{text}");
        values
    }

    /// The next acknowledgement's arguments, which must be of this number.
    pub(crate) async fn ack(&mut self, id: u64) -> Vec<Value> {
        let text = self.hear().await;
        let packet = text.strip_prefix(&format!("43{id}"));
        serde_json::from_str(packet.unwrap_or_else(|| panic!("this is no such answer: {text}"))).unwrap()
    }

    /// Nothing that was caused so far is left unheard: a question of the WebSocket layer is answered first.
    pub(crate) async fn nothing_more(&mut self) {
        self.socket.send(Message::Ping("all?".into())).await.unwrap();
        match self.next().await {
            Some(Message::Pong(_)) => {}
            other => panic!("this comes too: {other:?}"),
        }
    }

    pub(crate) async fn close(mut self) {
        let _ = self.socket.close(None).await;
        while self.next().await.is_some() {}
    }
}
