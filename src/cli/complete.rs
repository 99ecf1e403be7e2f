//! Completion for shells: `pontoon completions <shell>` prints a script by which the shell asks this program. So instances
//! and operations of the configuration are known, too.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use super::failure::Failure;
use super::{Outcome, command_line};
use crate::config::{self, Loaded, Prepared, Sources};
use crate::instance::Run;
use crate::registry::Registry;

/// The variable by which the script asks.
const VARIABLE: &str = "PONTOON_COMPLETE";

/// The names of instances, each with its operations.
type Instances = Arc<BTreeMap<String, Vec<&'static str>>>;

/// Ends the process with the completions, if a shell asks for them.
pub(super) fn answer_shell(registry: &Registry) {
    CompleteEnv::with_factory(|| with_values(command_line(), &instances(registry))).var(VARIABLE).complete();
}

/// Prints the script for a shell.
pub(super) fn script(shell: clap_complete::Shell) -> Outcome {
    let shells = Shells::builtins();
    let name = shell.to_string();
    let completer = shells
        .completer(&name)
        .ok_or_else(|| Failure::Usage(format!("there are no completions for {name}")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "pontoon", "pontoon", "pontoon", &mut script)?;
    stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// The instances of the configuration that the words on the command line name, or of the usual one. A configuration with
/// errors has none.
fn instances(registry: &Registry) -> Instances {
    let words: Vec<_> = std::env::args_os().collect();
    let named = words.windows(2).find_map(|pair| match pair {
        [flag, file] if flag == "-c" || flag == "--config" => Some(PathBuf::from(file)),
        _ => None,
    });
    let sources = Sources::new(named, Vec::new());
    if let Ok(Loaded { config, instances, .. }) = config::load(registry, &sources) {
        // As they are allowed, those of scripts among them.
        let names = |run: &dyn Run| {
            run.operations(config.admin.commands).iter().map(|operation| operation.name).collect()
        };
        return Arc::new(instances.into_iter().map(|Prepared { name, run }| (name, names(&*run))).collect());
    }
    // Where secrets are missing, what every instance of its type has.
    let (_, kinds) = config::shared(registry, &sources).unwrap_or_default();
    let operations = |kind: &str| match registry.get(kind) {
        Some(kind) => kind.operations().iter().map(|operation| operation.name).collect(),
        None => Vec::new(),
    };
    Arc::new(kinds.into_iter().map(|(name, kind)| (name, operations(&kind))).collect())
}

/// The command line, with what the values of its arguments may be.
fn with_values(command: Command, instances: &Instances) -> Command {
    let names = {
        let instances = instances.clone();
        ArgValueCompleter::new(move |typed: &OsStr| matching(instances.keys().map(String::as_str), typed))
    };
    let operations = {
        let instances = instances.clone();
        ArgValueCompleter::new(move |typed: &OsStr| {
            let named = std::env::args().find_map(|word| instances.get(&word));
            matching(named.into_iter().flatten().copied(), typed)
        })
    };
    let add = move |arg: Arg| match arg.get_id().as_str() {
        "instance" | "filter" | "wire" => arg.add(names.clone()),
        "operation" => arg.add(operations.clone()),
        _ => arg,
    };
    ["send", "tail", "record", "explain"]
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, |subcommand| subcommand.mut_args(&add)))
}

fn matching<'a>(values: impl Iterator<Item = &'a str>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    values.filter(|value| value.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}
