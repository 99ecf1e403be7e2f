//! `pontoon new` and `pontoon types`: a script or a recipe to begin with, and the types of what scripts see.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::ExitCode;

use pontoon_script::{DECLARATIONS, EXAMPLE, EXAMPLE_TRANSCRIPT, WebsocketScript};
use pontoon_sdk::Connector as _;

use super::Outcome;
use super::describe;
use super::failure::Failure;
use crate::config::is_name;

/// Writes a script into a folder that is not there yet, with a configuration and a transcript that plays.
pub(super) fn script(folder: &Path) -> Outcome {
    // `pontoon test` takes the settings from the configuration.
    let is_config = |line: &&str| !line.starts_with("config ");
    let transcript: String =
        EXAMPLE_TRANSCRIPT.lines().filter(is_config).map(|line| format!("{line}\n")).collect();
    let name = instance(folder);
    let named = |text: &str| text.replace("feed.js", &format!("{name}.js"));
    let table = named(WebsocketScript::SAMPLE).replace("[connectors.feed]", &format!("[connectors.{name}]"));
    write(
        folder,
        &[
            ("config.toml", &table),
            (&format!("{name}.js"), EXAMPLE),
            ("pontoon.d.ts", DECLARATIONS),
            (&format!("transcripts/{name}.txt"), &named(&transcript)),
        ],
    )?;
    let folder = folder.display();
    writeln!(
        stdout(),
        "{folder}/{name}.js is a script, {folder}/config.toml its table; `pontoon test {folder}` plays its transcript. In \
         another file, `script` is a path from the folder of that file"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a recipe into a folder that is not there yet: its table, and its script if it is one.
pub(super) fn recipe(name: &str, folder: &Path) -> Outcome {
    let recipe = describe::named(name)?;
    let mut files = vec![("config.toml", recipe.config)];
    if let Some(script) = recipe.script {
        files.extend([script, ("pontoon.d.ts", DECLARATIONS)]);
    }
    write(folder, &files)?;
    let (folder, script) = (folder.display(), recipe.script.map_or("", |_| ", and its script beside it"));
    writeln!(
        stdout(),
        "{folder}/config.toml is the table{script}; `pontoon check --config {folder}/config.toml` checks it"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The name of the folder, if an instance may have it.
fn instance(folder: &Path) -> &str {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.filter(|name| is_name(name)).unwrap_or("feed")
}

/// Writes files into a folder that is not there yet.
fn write(folder: &Path, files: &[(&str, &str)]) -> Result<(), Failure> {
    let failed = |what: &Path, error: std::io::Error| Failure::Failed(format!("{}: {error}", what.display()));
    fs::create_dir(folder).map_err(|error| failed(folder, error))?;
    for (name, text) in files {
        let path = folder.join(name);
        let within = path.parent().unwrap_or(folder);
        fs::create_dir_all(within).map_err(|error| failed(within, error))?;
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Prints the types.
pub(super) fn types() -> Outcome {
    stdout().write_all(DECLARATIONS.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
