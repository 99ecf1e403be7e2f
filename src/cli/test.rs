//! `pontoon test`: plays the transcripts of a folder against its table or script, without a service and without NATS.

use std::fs;
use std::io::{Write as _, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pontoon_transcript::{play, recipe_settings, with_settings};
use serde_json::{Map, Value};

use super::Outcome;
use super::failure::Failure;
use crate::log::printable::printable;

/// A generic function for the connector of this type, if it is a table or a script.
macro_rules! of_type {
    ($kind:expr, $settings:expr, $function:ident) => {
        match ($kind, $settings.get("protocol").is_some_and(|protocol| protocol == "socketio")) {
            ("websocket", _) => Some($function::<pontoon_generic::Websocket>),
            ("socketio", _) => Some($function::<pontoon_generic::Socketio>),
            ("script", false) => Some($function::<pontoon_script::WebsocketScript>),
            ("script", true) => Some($function::<pontoon_script::SocketioScript>),
            _ => None,
        }
    };
}
pub(super) use of_type;

/// How a transcript is played.
type Play = fn(&str, &str) -> Result<(), String>;

/// Plays `transcripts/*.txt` of the folder with the one `*.toml` in it.
pub(super) fn run(folder: &Path) -> Outcome {
    let (settings, play) = configured(folder)?;
    let mut failed = 0;
    let transcripts = files(&folder.join("transcripts"), "txt")?;
    for path in &transcripts {
        let name = path.display().to_string();
        let text = read(path)?;
        let played = with_settings(settings.clone(), &text).map_err(|wrong| format!("{name}: {wrong}"));
        match played.and_then(|text| play(&name, &text)) {
            Ok(()) => writeln!(stdout(), "ok  {}", printable(&name))?,
            Err(wrong) => {
                failed += 1;
                writeln!(stderr(), "{wrong}")?;
            }
        }
    }
    match (transcripts.len(), failed) {
        (0, _) => Err(Failure::Failed(format!("{}/transcripts has no file *.txt", folder.display()))),
        (_, 0) => Ok(ExitCode::SUCCESS),
        (all, failed) => Err(Failure::Failed(format!("{failed} of {all} transcripts failed"))),
    }
}

/// The settings of the only instance, with the script's path from here on, and how its transcripts are played.
fn configured(folder: &Path) -> Result<(Map<String, Value>, Play), Failure> {
    let configs = files(folder, "toml")?;
    let [config] = configs.as_slice() else {
        let count = configs.len();
        return Err(Failure::Usage(format!(
            "{} has {count} files *.toml; it must have one",
            folder.display()
        )));
    };
    let wrong = |what: String| Failure::Usage(format!("{}: {what}", config.display()));
    let (kind, mut settings) = recipe_settings(&read(config)?).map_err(wrong)?;
    let script = settings.get("script").and_then(Value::as_str).map(|script| folder.join(script));
    if let Some(script) = script {
        settings.insert("script".to_owned(), script.to_string_lossy().into());
    }
    let play: Option<Play> = of_type!(kind.as_str(), &settings, play);
    let play =
        play.ok_or_else(|| wrong(format!("transcripts of \"{kind}\" are played by its crate's tests")))?;
    Ok((settings, play))
}

/// The files of a folder whose names end so, sorted.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("{}: {error}", folder.display()));
    let entries = fs::read_dir(folder).map_err(failed)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}
