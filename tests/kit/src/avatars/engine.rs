//! What makes the stub go: a thread that gives the interpreter its orders.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::lua::{Lua, fire, frame};
use super::socket::{Act, Happened};
use super::world::{Delivery, World};
use super::{LuaOptions, Seen};

/// How long a frame is for the script while a test lets time pass.
const STEP: f64 = 0.1;

/// How long a frame takes while time passes by itself.
const FRAME: Duration = Duration::from_millis(5);
const LONGEST_FRAME: Duration = Duration::from_millis(20);

/// What the thread is to do.
pub(super) enum Order {
    Load(Done),
    Fire(String, Vec<Value>, Done),
    Advance(f64, Done),
    Freeze(bool),
    Cut(String),
    /// Something happened to the socket of this number and title.
    Socket(u64, String, Happened),
    End,
}

pub(super) type Done = oneshot::Sender<()>;

pub(super) struct Engine {
    lua: Lua,
    script: String,
    world: World,
    orders: Receiver<Order>,
    /// Orders that came while time passed.
    later: VecDeque<Order>,
    frozen: bool,
    last_frame: Instant,
}

impl Engine {
    pub(super) fn new(
        lua: Lua,
        script: String,
        options: LuaOptions,
        seen: Arc<Mutex<Seen>>,
        orders: (Sender<Order>, Receiver<Order>),
    ) -> Self {
        let (happenings, orders) = orders;
        let world = World::new(options, seen, happenings);
        let (later, last_frame) = (VecDeque::new(), Instant::now());
        Self { lua, script, world, orders, later, frozen: false, last_frame }
    }

    /// Runs until it is ordered to end, or the interpreter is gone.
    pub(super) fn run(mut self) {
        while self.turn().is_some() {}
    }

    /// Carries out one order, or has a frame pass. `None` at the end.
    fn turn(&mut self) -> Option<()> {
        let speed = self.world.options.speed;
        if speed > 0.0 && !self.frozen && self.last_frame.elapsed() >= FRAME {
            // A machine that is busy slows the app down, and does not have it miss anything.
            let passed = self.last_frame.elapsed().min(LONGEST_FRAME).as_secs_f64() * speed;
            self.absorb();
            return self.frame(passed);
        }
        let waiting = self.later.pop_front().or_else(|| self.orders.try_recv().ok());
        let order = match waiting {
            Some(order) => order,
            None if !self.frozen && !self.world.queue.is_empty() => return self.frame(0.0),
            None if speed > 0.0 => match self.orders.recv_timeout(FRAME) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => return Some(()),
                Err(RecvTimeoutError::Disconnected) => return None,
            },
            None => self.orders.recv().ok()?,
        };
        self.carry_out(order)
    }

    fn carry_out(&mut self, order: Order) -> Option<()> {
        match order {
            Order::Load(done) => {
                let LuaOptions { good_json, opens_at_once, .. } = self.world.options;
                let dialect = if good_json { "good" } else { "app" };
                let options = json!({ "dialect": dialect, "opens_at_once": opens_at_once });
                self.give(&json!({ "order": "load", "script": self.script, "options": options }))?;
                let _ = done.send(());
            }
            Order::Fire(event, values, done) => {
                self.give(&fire(&event, &values))?;
                if !self.frozen {
                    self.frame(0.0)?;
                }
                let _ = done.send(());
            }
            Order::Advance(seconds, done) => {
                self.advance(seconds)?;
                let _ = done.send(());
            }
            Order::Freeze(frozen) => self.frozen = frozen,
            Order::Cut(title) => self.world.act(&title, Act::Cut),
            Order::Socket(number, title, what) => self.world.receive(number, &title, what),
            Order::End => return None,
        }
        Some(())
    }

    fn advance(&mut self, seconds: f64) -> Option<()> {
        let mut left = seconds;
        while left > 1e-9 && !self.frozen {
            self.absorb();
            self.frame(left.min(STEP))?;
            left -= STEP;
        }
        // For what the last of them began.
        if self.frozen { Some(()) } else { self.frame(0.0) }
    }

    /// Receives what happened to the sockets, and keeps other orders for later.
    fn absorb(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Socket(number, title, what) => self.world.receive(number, &title, what),
                other => self.later.push_back(other),
            }
        }
    }

    /// A frame of the app's: the script receives some of what waits, and then the functions that wait are resumed.
    fn frame(&mut self, seconds: f64) -> Option<()> {
        self.last_frame = Instant::now();
        self.world.now += seconds;
        let mut delivered = 0;
        while delivered < self.world.options.per_frame {
            let Some(delivery) = self.world.queue.pop_front() else { break };
            delivered += 1;
            let Delivery { title, kind, message, code } = delivery;
            self.give(&fire("websocket", &[title.into(), kind.into(), message.into(), code.into()]))?;
        }
        self.give(&frame(seconds))?;
        self.world.seen.lock().unwrap().delivered += delivered;
        self.world.count();
        Some(())
    }

    fn give(&mut self, order: &Value) -> Option<()> {
        self.lua.order(order, |did| self.world.did(did)).ok()
    }
}
