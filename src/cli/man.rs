//! `pontoon man`: the manual pages.

use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::ExitCode;

use clap_mangen::Man;

use super::failure::Failure;
use super::{Outcome, command_line};

/// Prints the page of a subcommand, or the one that lists them.
pub(super) fn print(name: Option<&str>) -> Outcome {
    let all = command_line_built();
    let page = match name {
        None => page(&all),
        Some(name) => page(all.find_subcommand(name).ok_or_else(|| {
            Failure::Usage(format!("\"{name}\" is not a subcommand; `pontoon help` lists them"))
        })?),
    };
    stdout().write_all(&page?)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes every page, as `<name>.1`.
pub(super) fn write_all(folder: &Path) -> Outcome {
    let all = command_line_built();
    let pages = all.get_subcommands().filter(|command| command.get_name() != "help");
    for command in pages.chain([&all]) {
        let file = folder.join(format!("{}.1", title(command)));
        std::fs::write(&file, page(command)?)
            .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", file.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// So that each subcommand has its whole name and the options of all.
fn command_line_built() -> clap::Command {
    let mut all = command_line();
    all.build();
    all
}

fn title(command: &clap::Command) -> String {
    match command.get_name() {
        "pontoon" => "pontoon".to_owned(),
        name => format!("pontoon-{name}"),
    }
}

fn page(command: &clap::Command) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    Man::new(command.clone()).title(title(command)).render(&mut text)?;
    Ok(text)
}
