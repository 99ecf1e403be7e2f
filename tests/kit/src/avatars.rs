//! The Stream Avatars app, played by a stub: a real Lua runs a script under an API like the app's, and the script's
//! sockets are real WebSockets.
//!
//! Time passes for the script only with [`LuaApp::advance`], or by itself at a chosen
//! [`LuaOptions::speed`]. What comes over a socket is handed over at once, in frames that take no time.
//!
//! The stub does what is known of the app, and where that is little, what is hard on a script: a failure is reported twice,
//! the end of a socket comes late under the title of the next, JSON is read as the app's interpreter reads it, and
//! functions that are called for an event see none of the script's variables but through `get` and `set`.

mod engine;
mod lua;
mod options;
mod script;
mod socket;
mod world;

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, mpsc};
use std::{env, fmt, thread};

use serde_json::Value;
use tokio::sync::oneshot;

use self::engine::{Done, Engine, Order};
use self::lua::Lua;
use crate::dir::Dir;
use crate::process::Process;

pub use self::options::{Farewell, LuaOptions, ThirdArgument};
pub use self::script::LuaScript;

/// A command that a script ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RanCommand {
    /// The command, such as `!jump`.
    pub command: String,
    /// Whether nothing was to be written to the chat.
    pub quiet: bool,
}

/// A socket that a script made.
#[derive(Debug, Clone, PartialEq)]
pub struct Dialled {
    /// Its title.
    pub title: String,
    /// Where to.
    pub url: String,
    /// The third argument.
    pub third: Vec<String>,
    /// How many seconds of the script's time had passed since the app started.
    pub at: f64,
}

/// What the stub has seen of the script.
#[derive(Debug, Default)]
struct Seen {
    log: Vec<String>,
    commands: Vec<RanCommand>,
    chat: Vec<String>,
    subscriptions: Vec<(String, String)>,
    dialled: Vec<Dialled>,
    failures: Vec<String>,
    delivered: usize,
    waiting: usize,
}

/// The app, with a script in it. It is gone, with the script's sockets, when it is dropped.
pub struct LuaApp {
    process: Process,
    orders: Sender<Order>,
    seen: Arc<Mutex<Seen>>,
    // After the process, which runs what is in it.
    _dir: Dir,
}

impl LuaApp {
    /// Whether there is a Lua to run: always, except where `PONTOON_WITHOUT_DEBIAN` is set.
    pub fn available() -> bool {
        lua::find().is_some() || env::var_os("PONTOON_WITHOUT_DEBIAN").is_none()
    }

    /// Starts the app with what [`LuaApp::options`] has where nothing is chosen.
    ///
    /// # Panics
    /// As [`LuaOptions::start`].
    pub async fn start(script: &LuaScript) -> Self {
        Self::options().start(script).await
    }

    /// What may be chosen, and then started.
    pub fn options() -> LuaOptions {
        LuaOptions::default()
    }

    async fn run(options: LuaOptions, script: &LuaScript) -> Self {
        let (process, dir, lua) = Lua::start();
        let seen = Arc::default();
        let (orders, to_do) = mpsc::channel();
        let script = script.as_str().to_owned();
        let engine = Engine::new(lua, script, options, Arc::clone(&seen), (orders.clone(), to_do));
        thread::spawn(|| engine.run());
        let app = Self { process, orders, seen, _dir: dir };
        app.reload().await;
        app
    }

    // --- What happens to it ---

    /// Lets so many seconds pass for the script, in frames of a tenth of one, as fast as it goes.
    ///
    /// What is on its way over a socket comes when it comes: to have an answer of the other side come in time, let no
    /// more time pass than up to the question, and wait for [`LuaApp::delivered`].
    pub async fn advance(&self, seconds: f64) {
        self.done(|done| Order::Advance(seconds, done)).await;
    }

    /// Has an event happen with these values, and waits until the script has seen it. An object with a `displayName` is
    /// a user, one with a `cost` a receipt: the script gets an object of the app's, which it can only ask for its
    /// fields.
    ///
    /// # Panics
    /// If `values` is not an array.
    pub async fn fire(&self, event: &str, values: Value) {
        let Value::Array(values) = values else { panic!("the values of an event are an array: {values}") };
        self.done(|done| Order::Fire(event.to_owned(), values, done)).await;
    }

    /// F5: the script starts from its beginning. Its sockets stay open.
    pub async fn reload(&self) {
        self.done(Order::Load).await;
    }

    /// Shows no frames, as an app that loads something: what comes over the sockets waits, and no time passes.
    pub fn freeze(&self) {
        self.order(Order::Freeze(true));
    }

    /// Goes on.
    pub fn thaw(&self) {
        self.order(Order::Freeze(false));
    }

    /// Breaks the connection of this title (RST), as a network does.
    pub fn cut(&self, title: &str) {
        self.order(Order::Cut(title.to_owned()));
    }

    // --- What the script did ---

    /// What it logged.
    pub fn log(&self) -> Vec<String> {
        self.seen(|seen| seen.log.clone())
    }

    /// The commands that it ran.
    pub fn commands(&self) -> Vec<RanCommand> {
        self.seen(|seen| seen.commands.clone())
    }

    /// What it wrote into the chat.
    pub fn chat(&self) -> Vec<String> {
        self.seen(|seen| seen.chat.clone())
    }

    /// The events that it subscribed to, with the names of its functions, over all its lives.
    pub fn subscriptions(&self) -> Vec<(String, String)> {
        self.seen(|seen| seen.subscriptions.clone())
    }

    /// The sockets that it made.
    pub fn dialled(&self) -> Vec<Dialled> {
        self.seen(|seen| seen.dialled.clone())
    }

    /// Its errors, and what it did that the app does not allow.
    pub fn failures(&self) -> Vec<String> {
        self.seen(|seen| seen.failures.clone())
    }

    /// How many events of its sockets it has received: that one opened or ended, and messages.
    pub fn delivered(&self) -> usize {
        self.seen(|seen| seen.delivered)
    }

    /// How many more it is to receive once the app shows frames again.
    pub fn waiting(&self) -> usize {
        self.seen(|seen| seen.waiting)
    }

    fn seen<T>(&self, read: impl FnOnce(&Seen) -> T) -> T {
        read(&self.seen.lock().unwrap())
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the app runs");
    }

    async fn done(&self, order: impl FnOnce(Done) -> Order) {
        let (done, is_done) = oneshot::channel();
        self.order(order(done));
        is_done.await.expect("the interpreter runs");
    }
}

impl fmt::Debug for LuaApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LuaApp").field("process", &self.process.id()).finish_non_exhaustive()
    }
}

impl Drop for LuaApp {
    fn drop(&mut self) {
        // It is not waited for: it may be dialling, which takes the runtime that this thread is part of.
        let _ = self.orders.send(Order::End);
    }
}
