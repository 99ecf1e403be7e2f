//! The Sub0 backend, as its documentation describes it, with the ways in which it may differ.
//!
//! A call `{resource, action, payload}` is answered `{uid, action, data}`; a broadcast looks the same. A connection
//! with a `uid` has it put into object payloads as `id`. What each resource does is data: see [`Resource`].

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::websocket::{Connection, Refusal, Request, Service, WebSocketServer};

/// A Sub0 backend on loopback. What every WebSocket server can do, it can do too.
#[derive(Debug)]
pub struct Sub0 {
    server: WebSocketServer,
    backend: Arc<Backend>,
}

/// What a resource does when it is called.
#[derive(Debug, Clone)]
pub struct Resource {
    answer: Answer,
    after: Duration,
}

/// What a caller gets.
#[derive(Debug, Clone)]
pub enum Answer {
    /// `data` is the payload, with the `id` that was put in.
    Echo,
    /// `data` is this: an object, or an array.
    Data(Value),
    /// An error, in one of the shapes in which it may come.
    Error(ErrorShape, String),
    /// Nothing, ever.
    Nothing,
}

/// How an error may look; the documentation does not define it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{uid, action, message, code}`
    Message,
    /// `{uid, action, error}`, the error being a text
    Error,
    /// `{uid, action, error: {code, message}}`
    ErrorObject,
    /// `{uid, action, status, message}`
    Status,
    /// `{message}`, without even the action
    Anonymous,
}

/// Who gets a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// `ALL`
    All,
    /// `SINGLE`: the connections with this uid.
    Single(String),
    /// `BULK`: the connections with these uids.
    Bulk(Vec<String>),
}

/// What is echoed of the subprotocols that a client offers with its token; the documentation does not define it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubprotocolEcho {
    /// The first: the token's name.
    #[default]
    First,
    /// The token.
    Token,
    /// None.
    None,
}

impl Resource {
    /// A resource that answers so.
    pub fn new(answer: Answer) -> Self {
        Self { answer, after: Duration::ZERO }
    }

    /// Answers with its payload.
    pub fn echo() -> Self {
        Self::new(Answer::Echo)
    }

    /// Answers with these data.
    pub fn data(data: Value) -> Self {
        Self::new(Answer::Data(data))
    }

    /// Answers with an error.
    pub fn error(shape: ErrorShape, message: &str) -> Self {
        Self::new(Answer::Error(shape, message.to_owned()))
    }

    /// Never answers.
    pub fn nothing() -> Self {
        Self::new(Answer::Nothing)
    }

    /// Answers after this time.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }
}

impl Sub0 {
    /// Starts one; its resources answer with their payload unless [`Sub0::resource`] changes one.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start() -> Self {
        let backend = Arc::<Backend>::default();
        let server = WebSocketServer::start(Arc::clone(&backend) as Arc<dyn Service>).await;
        Self { server, backend }
    }

    /// What a client is given as its URL.
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.address())
    }

    /// What this resource does from now on.
    pub fn resource(&self, name: &str, resource: Resource) {
        self.backend.rules().resources.insert(name.to_owned(), resource);
    }

    /// Those who connect need this token, offered as the subprotocols `name, token`; others are refused with 401.
    pub fn require_token(&self, name: &str, token: &str) {
        self.backend.rules().token = Some((name.to_owned(), token.to_owned()));
    }

    /// What is echoed of the subprotocols.
    pub fn echo_subprotocol(&self, echo: SubprotocolEcho) {
        self.backend.rules().echo = echo;
    }

    /// Broadcasts to every connection.
    pub fn broadcast(&self, action: &str, data: &Value) {
        self.broadcast_to(&Audience::All, action, data);
    }

    /// Broadcasts to an audience.
    pub fn broadcast_to(&self, audience: &Audience, action: &str, data: &Value) {
        for connection in self.connections().iter().filter(|connection| audience.has(uid(connection))) {
            connection.send_text(&frame(connection, action, data).to_string());
        }
    }

    /// The calls that came for a resource: the frames as they were sent.
    pub fn calls(&self, resource: &str) -> Vec<Value> {
        let texts = self.texts();
        let frames = texts.iter().filter_map(|text| serde_json::from_str::<Value>(text).ok());
        frames.filter(|frame| frame["resource"] == resource).collect()
    }
}

impl Deref for Sub0 {
    type Target = WebSocketServer;

    fn deref(&self) -> &WebSocketServer {
        &self.server
    }
}

#[derive(Debug, Default)]
struct Backend(Mutex<Rules>);

#[derive(Debug, Default)]
struct Rules {
    resources: HashMap<String, Resource>,
    token: Option<(String, String)>,
    echo: SubprotocolEcho,
}

impl Backend {
    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.0.lock().unwrap()
    }
}

impl Service for Backend {
    fn authorize(&self, request: &Request) -> Result<Option<String>, Refusal> {
        let rules = self.rules();
        if request.path != "/ws" {
            return Err(Refusal::status(404));
        }
        let offered = request.subprotocols();
        if let Some((name, token)) = &rules.token
            && offered != [name, token]
        {
            return Err(Refusal::status(401).body(r#"{"message":"Unauthorized"}"#));
        }
        let echoed = match rules.echo {
            SubprotocolEcho::First => offered.first(),
            SubprotocolEcho::Token => offered.get(1),
            SubprotocolEcho::None => None,
        };
        Ok(echoed.map(|name| (*name).to_owned()))
    }

    fn text(&self, connection: &Arc<Connection>, text: &str) {
        let Ok(call) = serde_json::from_str::<Value>(text) else {
            connection.send_text(r#"{"message":"Invalid JSON"}"#);
            return;
        };
        let resource = call["resource"].as_str().and_then(|name| self.rules().resources.get(name).cloned());
        let resource = resource.unwrap_or_else(Resource::echo);
        let connection = Arc::clone(connection);
        if resource.after.is_zero() {
            resource.respond(&connection, call);
        } else {
            tokio::spawn(async move {
                tokio::time::sleep(resource.after).await;
                resource.respond(&connection, call);
            });
        }
    }
}

impl Resource {
    fn respond(&self, connection: &Connection, mut call: Value) {
        let mut payload = call["payload"].take();
        if let (Some(uid), Some(fields)) = (uid(connection), payload.as_object_mut()) {
            fields.insert("id".to_owned(), uid.into());
        }
        let action = call["action"].as_str().unwrap_or_default();
        let frame = match &self.answer {
            Answer::Echo => frame(connection, action, &payload),
            Answer::Data(data) => frame(connection, action, data),
            Answer::Error(shape, message) => shape.frame(uid(connection), action, message),
            Answer::Nothing => return,
        };
        connection.send_text(&frame.to_string());
    }
}

impl ErrorShape {
    fn frame(self, uid: Option<&str>, action: &str, message: &str) -> Value {
        match self {
            Self::Message => json!({"uid": uid, "action": action, "message": message, "code": 400}),
            Self::Error => json!({"uid": uid, "action": action, "error": message}),
            Self::ErrorObject => {
                json!({"uid": uid, "action": action, "error": {"code": 400, "message": message}})
            }
            Self::Status => json!({"uid": uid, "action": action, "status": 400, "message": message}),
            Self::Anonymous => json!({"message": message}),
        }
    }
}

impl Audience {
    fn has(&self, uid: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Single(one) => uid == Some(one),
            Self::Bulk(some) => some.iter().any(|one| uid == Some(one)),
        }
    }
}

fn uid(connection: &Connection) -> Option<&str> {
    connection.request().parameter("uid")
}

/// A reply or a broadcast.
fn frame(connection: &Connection, action: &str, data: &Value) -> Value {
    json!({"uid": uid(connection), "action": action, "data": data})
}
