//! How the stub of the app is to behave.

use super::{LuaApp, LuaScript};

/// How a [`LuaApp`] is to behave.
#[derive(Debug, Clone)]
pub struct LuaOptions {
    pub(super) good_json: bool,
    pub(super) opens_at_once: bool,
    pub(super) farewell: Farewell,
    pub(super) third: ThirdArgument,
    pub(super) speed: f64,
    pub(super) per_frame: usize,
    pub(super) max_waiting: usize,
}

/// How a broken or unopened socket is reported to a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// By `OnClose` alone.
    Close,
    /// By `OnError` alone.
    Error,
    /// By `OnError`, and then by `OnClose`.
    Both,
}

/// What the third argument of `createWebsocket` means; the app's documentation can be read either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThirdArgument {
    /// Subprotocols to offer.
    Subprotocols,
    /// Header fields: a name, its value, a name, its value.
    HeaderPairs,
}

impl LuaOptions {
    /// JSON as it should be. Without this, the app writes `\/`, and fails to read it.
    #[must_use]
    pub fn good_json(mut self) -> Self {
        self.good_json = true;
        self
    }

    /// A socket opens before `createWebsocket` returns, not after.
    #[must_use]
    pub fn opens_at_once(mut self) -> Self {
        self.opens_at_once = true;
        self
    }

    /// How a failure is reported; both ways where nothing is chosen.
    #[must_use]
    pub fn farewell(mut self, farewell: Farewell) -> Self {
        self.farewell = farewell;
        self
    }

    /// What the third argument of `createWebsocket` means; subprotocols where nothing is chosen.
    #[must_use]
    pub fn third_argument(mut self, meaning: ThirdArgument) -> Self {
        self.third = meaning;
        self
    }

    /// Time passes by itself, so many times as fast as the real one; without this, it stands still.
    #[must_use]
    pub fn speed(mut self, speed: f64) -> Self {
        self.speed = speed;
        self
    }

    /// How many messages are handed over in a frame (8), and how many may wait before the socket is dropped (32).
    #[must_use]
    pub fn messages(mut self, per_frame: usize, max_waiting: usize) -> Self {
        (self.per_frame, self.max_waiting) = (per_frame, max_waiting);
        self
    }

    /// Starts the app, and the script in it up to where it first waits.
    ///
    /// # Panics
    /// If there is no Lua; the message explains how to get it.
    pub async fn start(self, script: &LuaScript) -> LuaApp {
        LuaApp::run(self, script).await
    }
}

impl Default for LuaOptions {
    fn default() -> Self {
        Self {
            good_json: false,
            opens_at_once: false,
            farewell: Farewell::Both,
            third: ThirdArgument::Subprotocols,
            speed: 0.0,
            per_frame: 8,
            max_waiting: 32,
        }
    }
}
