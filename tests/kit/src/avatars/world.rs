//! The app around the script: its sockets, and what is seen of it.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinSet;

use super::engine::Order;
use super::lua::Did;
use super::socket::{self, Act, Happened};
use super::{Dialled, Farewell, LuaOptions, RanCommand, Seen, ThirdArgument};

/// The app around the script.
pub(super) struct World {
    pub(super) options: LuaOptions,
    pub(super) seen: Arc<Mutex<Seen>>,
    runtime: Handle,
    tasks: JoinSet<()>,
    happenings: Sender<Order>,
    sockets: HashMap<String, Socket>,
    made: u64,
    /// What the script is to receive, in order.
    pub(super) queue: VecDeque<Delivery>,
    /// How many seconds have passed for the script.
    pub(super) now: f64,
}

/// A title that is registered; it stays so when its socket has ended.
struct Socket {
    number: u64,
    acts: UnboundedSender<Act>,
    opened: bool,
    ended: bool,
}

/// What the script is still to receive of a socket.
pub(super) struct Delivery {
    pub(super) title: String,
    pub(super) kind: &'static str,
    pub(super) message: String,
    pub(super) code: String,
}

impl World {
    pub(super) fn new(options: LuaOptions, seen: Arc<Mutex<Seen>>, happenings: Sender<Order>) -> Self {
        Self {
            options,
            seen,
            runtime: Handle::current(),
            tasks: JoinSet::new(),
            happenings,
            sockets: HashMap::new(),
            made: 0,
            queue: VecDeque::new(),
            now: 0.0,
        }
    }

    /// The script did something. Returns the answer to it.
    pub(super) fn did(&mut self, did: Did) -> Option<Value> {
        let mut seen = self.seen.lock().unwrap();
        match did {
            Did::Log { text } => seen.log.push(text),
            Did::RunCommand { command, quiet } => seen.commands.push(RanCommand { command, quiet }),
            Did::WriteChat { text } => seen.chat.push(text),
            Did::AddEvent { event, function } => seen.subscriptions.push((event, function)),
            Did::Failed { error } => seen.failures.push(error),
            Did::Create { title, url, third } => {
                drop(seen);
                return self.create(title, url, third.as_ref());
            }
            Did::Send { title, text } => {
                drop(seen);
                self.act(&title, Act::Text(text));
            }
            Did::Remove { title } => {
                drop(seen);
                self.act(&title, Act::Close);
                // Its end comes late, under a title that may be another's by then.
                if self.sockets.remove(&title).is_some_and(|socket| socket.opened && !socket.ended) {
                    self.queue.push_back(Delivery::new(&title, "OnClose", "", "1005"));
                }
            }
            Did::Done => {}
        }
        None
    }

    fn create(&mut self, title: String, url: String, third: Option<&Value>) -> Option<Value> {
        let third: Vec<String> =
            third.and_then(|third| serde_json::from_value(third.clone()).ok()).unwrap_or_default();
        let dialled = Dialled { title: title.clone(), url: url.clone(), third: third.clone(), at: self.now };
        let mut seen = self.seen.lock().unwrap();
        seen.dialled.push(dialled);
        if self.sockets.contains_key(&title) {
            seen.failures.push(format!("there is a socket {title} already"));
            return self.answer(false);
        }
        drop(seen);
        let request = socket::request(&url, &self.headers(&third));
        let mut dial: socket::Dialling = Box::pin(async { socket::dial(request?).await });
        let mut opened = false;
        if self.options.opens_at_once {
            let outcome = self.runtime.block_on(dial);
            opened = outcome.is_ok();
            dial = Box::pin(std::future::ready(outcome));
        }
        self.made += 1;
        let number = self.made;
        let (acts, to_do) = mpsc::unbounded_channel();
        self.sockets.insert(title.clone(), Socket { number, acts, opened, ended: false });
        let happenings = self.happenings.clone();
        let report = move |what| {
            // It is not read once the app has ended.
            let _ = happenings.send(Order::Socket(number, title.clone(), what));
        };
        self.tasks.spawn_on(socket::run(dial, to_do, report), &self.runtime);
        self.answer(opened)
    }

    /// What `createWebsocket` waits for, if it does.
    fn answer(&self, opened: bool) -> Option<Value> {
        self.options.opens_at_once.then(|| json!({ "opened": opened }))
    }

    fn headers(&self, third: &[String]) -> Vec<(String, String)> {
        match self.options.third {
            _ if third.is_empty() => Vec::new(),
            ThirdArgument::Subprotocols => vec![("Sec-WebSocket-Protocol".into(), third.join(", "))],
            ThirdArgument::HeaderPairs => {
                third.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
            }
        }
    }

    pub(super) fn act(&self, title: &str, act: Act) {
        if let Some(socket) = self.sockets.get(title) {
            // A socket that has ended takes nothing, and reports nothing.
            let _ = socket.acts.send(act);
        }
    }

    pub(super) fn receive(&mut self, number: u64, title: &str, what: Happened) {
        self.happened(number, title, what);
        self.count();
    }

    pub(super) fn count(&self) {
        self.seen.lock().unwrap().waiting = self.queue.len();
    }

    fn happened(&mut self, number: u64, title: &str, what: Happened) {
        let known = self.sockets.get_mut(title);
        let Some(socket) = known.filter(|socket| socket.number == number && !socket.ended) else { return };
        match what {
            // The script got that as the answer.
            Happened::Opened if socket.opened => {}
            Happened::Opened => {
                socket.opened = true;
                self.queue.push_back(Delivery::new(title, "OnOpen", "", ""));
            }
            Happened::Text(text) => {
                self.queue.push_back(Delivery::new(title, "OnMessage", &text, ""));
                let ours = self.queue.iter().filter(|other| other.title == title);
                if ours.filter(|other| other.kind == "OnMessage").count() > self.options.max_waiting {
                    socket.ended = true;
                    let _ = socket.acts.send(Act::Cut);
                    self.queue.retain(|other| other.title != title);
                    self.fail(title, "too many messages");
                }
            }
            Happened::Closed(code, reason) => {
                socket.ended = true;
                self.queue.push_back(Delivery::new(title, "OnClose", &reason, &code.to_string()));
            }
            Happened::Failed(reason) => {
                socket.ended = true;
                self.fail(title, &reason);
            }
        }
    }

    fn fail(&mut self, title: &str, reason: &str) {
        let farewell = self.options.farewell;
        if farewell != Farewell::Close {
            self.queue.push_back(Delivery::new(title, "OnError", reason, ""));
        }
        if farewell != Farewell::Error {
            self.queue.push_back(Delivery::new(title, "OnClose", reason, "1006"));
        }
    }
}

impl Delivery {
    fn new(title: &str, kind: &'static str, message: &str, code: &str) -> Self {
        Self { title: title.to_owned(), kind, message: message.to_owned(), code: code.to_owned() }
    }
}
