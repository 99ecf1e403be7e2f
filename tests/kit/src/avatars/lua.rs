//! The interpreter: a real Lua in a child process, which runs the stub; it is given orders a line at a time.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::dir::Dir;
use crate::process::Process;
use crate::tools;

const VARIABLE: &str = "PONTOON_LUA";
const NAME: &str = "lua5.3";

/// The program, if there is one.
pub(super) fn find() -> Option<PathBuf> {
    tools::find(VARIABLE, NAME)
}

/// The line to an interpreter.
pub(super) struct Lua {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Something that a script did.
#[derive(Debug, Deserialize)]
#[serde(tag = "did", rename_all = "camelCase")]
pub(super) enum Did {
    Log {
        text: String,
    },
    RunCommand {
        command: String,
        quiet: bool,
    },
    WriteChat {
        text: String,
    },
    AddEvent {
        event: String,
        function: String,
    },
    Create {
        title: String,
        url: String,
        third: Option<Value>,
    },
    Send {
        title: String,
        text: String,
    },
    Remove {
        title: String,
    },
    Failed {
        error: String,
    },
    /// The order is done.
    Done,
}

impl Lua {
    /// Starts one. It is gone when the process is dropped, and needs its files as long as it runs.
    ///
    /// # Panics
    /// If there is none; the message explains how to get it.
    pub(super) fn start() -> (Process, Dir, Self) {
        let binary = find()
            .unwrap_or_else(|| panic!("there is no {NAME}: run `make tools`, or name one in {VARIABLE}"));
        let dir = Dir::new("avatars");
        dir.write("json.lua", include_str!("json.lua"));
        dir.write("app.lua", include_str!("app.lua"));
        let mut command = Command::new(binary);
        command.arg("app.lua").current_dir(dir.path());
        for variable in ["LUA_INIT", "LUA_INIT_5_3", "LUA_PATH", "LUA_PATH_5_3"] {
            command.env_remove(variable);
        }
        let (process, orders, answers) = Process::spawn_piped(&mut command);
        (process, dir, Self { orders, answers: BufReader::new(answers) })
    }

    /// Gives an order, and passes what the script did to `receive` until it is done; it may answer.
    ///
    /// # Errors
    /// If the interpreter has ended.
    pub(super) fn order(
        &mut self,
        order: &Value,
        mut receive: impl FnMut(Did) -> Option<Value>,
    ) -> io::Result<()> {
        self.send(order)?;
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.answers.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Lua knows bytes only.
            let text = String::from_utf8_lossy(&line);
            match serde_json::from_str(&text).expect("the stub reports what was done") {
                Did::Done => return Ok(()),
                did => {
                    if let Some(answer) = receive(did) {
                        self.send(&answer)?;
                    }
                }
            }
        }
    }

    fn send(&mut self, line: &Value) -> io::Result<()> {
        self.orders.write_all(format!("{line}\n").as_bytes())
    }
}

/// An order to fire an event.
pub(super) fn fire(event: &str, values: &[Value]) -> Value {
    json!({ "order": "fire", "event": event, "values": values, "count": values.len() })
}

/// An order to let a frame pass.
pub(super) fn frame(seconds: f64) -> Value {
    json!({ "order": "frame", "seconds": seconds })
}
