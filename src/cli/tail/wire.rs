//! `pontoon tail --wire`: the frames of an instance as they pass, from the admin endpoint of the daemon.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::failure::Failure;
use crate::cli::{Outcome, admin};
use crate::log::printable::{printable, printable_json};
use crate::settings::Config;

/// Prints frames, up to `count` of them.
pub(super) fn print(config: &Config, instance: &str, json: bool, count: Option<usize>) -> Outcome {
    // Data goes to stdout; a failure to write here cannot be reported.
    writeln!(stderr(), "watching the wire of {}", printable(instance)).ok();
    watch(config, instance, count, |frame| {
        let shown = if json { printable_json(frame.to_string().as_bytes()) } else { short(frame) };
        Ok(writeln!(stdout(), "{shown}")?)
    })
}

/// Hands on frames, up to `count` of them, and what is in between: where connections were made and ended, how many frames
/// were lost.
pub(super) fn watch(
    config: &Config,
    instance: &str,
    count: Option<usize>,
    mut show: impl FnMut(&Value) -> Result<(), Failure>,
) -> Outcome {
    let response = admin::get(config, &format!("/wire/{instance}"))?;
    if response.code != 200 {
        let code = response.code;
        let text = String::from_utf8_lossy(&response.body()?).trim().to_owned();
        return Err(Failure::Failed(format!("the admin endpoint answered {code}: {text}")));
    }
    let mut left = count.unwrap_or(usize::MAX);
    for line in response.lines()? {
        if left == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        let line = line.map_err(|error| Failure::Failed(format!("the connection broke: {error}")))?;
        // An event without a frame is about a connection, or reports how many frames were lost.
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let frame: Value = serde_json::from_str(data).unwrap_or_default();
        show(&frame)?;
        left -= usize::from(frame.get("frame").is_some());
    }
    if left == 0 {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::Failed("the daemon ended the connection".to_owned()))
    }
}

fn short(frame: &Value) -> String {
    let text = |key: &str| frame.get(key).and_then(Value::as_str).unwrap_or_default();
    if let Some(count) = frame.get("count") {
        return format!("{count} frames came too fast to be shown");
    }
    let time = text("time").get(11..23).unwrap_or_default();
    let passed = match text("direction") {
        "received" => format!("<-  {}", text("frame")),
        "sent" => format!("->  {}", text("frame")),
        direction => format!("{direction}  {}", text("reason")),
    };
    printable(format!("{time}  {}  {passed}", text("link")).trim_end())
}
