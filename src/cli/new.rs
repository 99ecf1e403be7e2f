//! `pontoon new --script` and `pontoon types`: a script to begin with, and the types of what scripts see.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::ExitCode;

use pontoon_script::{DECLARATIONS, EXAMPLE, EXAMPLE_TRANSCRIPT, WebsocketScript};
use pontoon_sdk::Connector as _;

use super::Outcome;
use super::failure::Failure;

/// Writes a script into a folder that is not there yet, with a configuration and a transcript that plays.
pub(super) fn script(folder: &Path) -> Outcome {
    let failed = |what: &Path, error: std::io::Error| Failure::Failed(format!("{}: {error}", what.display()));
    fs::create_dir(folder).map_err(|error| failed(folder, error))?;
    let transcripts = folder.join("transcripts");
    fs::create_dir(&transcripts).map_err(|error| failed(&transcripts, error))?;
    // `pontoon test` takes the settings from the configuration.
    let is_config = |line: &&str| !line.starts_with("config ");
    let transcript: String =
        EXAMPLE_TRANSCRIPT.lines().filter(is_config).map(|line| format!("{line}\n")).collect();
    for (name, text) in [
        ("config.toml", WebsocketScript::SAMPLE),
        ("feed.js", EXAMPLE),
        ("pontoon.d.ts", DECLARATIONS),
        ("transcripts/feed.txt", &transcript),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    let folder = folder.display();
    writeln!(
        stdout(),
        "{folder}/feed.js is a script, {folder}/config.toml its table; `pontoon test {folder}` plays its transcript"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the types.
pub(super) fn types() -> Outcome {
    stdout().write_all(DECLARATIONS.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
