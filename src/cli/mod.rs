//! The command line: data on stdout, messages on stderr, exit codes for scripts.
//!
//! 0 success, 1 failure, 2 usage, 69 stopped before it could drain, 78 configuration.

mod admin;
mod asyncapi;
mod check;
mod complete;
mod control;
mod describe;
mod explain;
mod failure;
mod init;
mod man;
mod nats;
mod new;
mod permissions;
mod probe;
mod send;
mod tail;
mod test;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{Problem, Problems, Sources};
use crate::daemon;
use crate::registry::Registry;
use failure::Failure;

/// The result of a subcommand.
type Outcome = Result<ExitCode, Failure>;

/// A message bridge: persistent sockets to services on one side, NATS on the other.
#[derive(Parser)]
#[command(name = "pontoon", version)]
struct CommandLine {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
#[command(next_help_heading = "Settings, over the file and the environment")]
struct Settings {
    /// The configuration [default: $PONTOON_CONFIG, pontoon.toml, config/pontoon.toml or /etc/pontoon/pontoon.toml]; `conf.d/*.toml` beside it are read after it
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of NATS (nats.url)
    #[arg(long, global = true, value_name = "URL")]
    nats_url: Option<String>,
    /// Address of the admin endpoint (admin.listen)
    #[arg(long, global = true, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
    /// Level or filter of the logs (log.level)
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Form of the logs: auto, text or json (log.format)
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the bridge
    Run,
    /// Check the configuration and print every error in it
    Check {
        /// Also connect to NATS and to every service once; a sign-in by messages is not tried
        #[arg(long)]
        connect: bool,
    },
    /// List the connectors, or describe one: its operations and settings
    Connectors {
        /// Its type
        r#type: Option<String>,
    },
    /// Print a commented table for a connector, or a recipe for a public protocol
    Sample {
        /// Its type
        #[arg(required_unless_present = "recipe", conflicts_with = "recipe")]
        r#type: Option<String>,
        /// The recipe's name
        #[arg(long, value_name = "NAME")]
        recipe: Option<String>,
    },
    /// Connect to a service, show what it sends, and propose a table for it
    Init(init::Init),
    /// Write a connector to begin with
    New {
        /// A script, with its table and a transcript that plays
        #[arg(long, value_name = "FOLDER", required_unless_present = "recipe")]
        script: Option<PathBuf>,
        /// A recipe, by its name: its table, and its script if it has one
        #[arg(long, value_name = "NAME", requires = "folder", conflicts_with = "script")]
        recipe: Option<String>,
        /// The folder for the recipe
        #[arg(value_name = "FOLDER", requires = "recipe")]
        folder: Option<PathBuf>,
    },
    /// Print the types of what scripts see, for editors (pontoon.d.ts)
    Types,
    /// Play the transcripts of a folder against the table or the script in it
    Test {
        /// Has one *.toml, and transcripts/*.txt
        folder: PathBuf,
    },
    /// Show what the table or the script of an instance makes of a frame
    Explain {
        /// The instance
        instance: String,
        /// A file with a frame as transcripts write it, or with lines of `record`; - for stdin
        frame: PathBuf,
    },
    /// Print what passes over the wire of an instance of a running bridge, as a transcript
    Record {
        /// The instance
        instance: String,
        /// Stop after this many frames
        #[arg(long, value_name = "NUMBER")]
        count: Option<usize>,
    },
    /// Print a JSON Schema of the whole configuration, for editors
    Schema,
    /// Show events as they pass
    Tail(tail::Tail),
    /// Send a command to an instance, and print its replies
    Send(send::Request),
    /// Steer running daemons over NATS as a whole (admin.commands); `send <instance> pause` is for one instance
    Control(control::Control),
    /// Show the state of a running bridge
    Status(probe::Status),
    /// Show instances and links of a running bridge as a live table
    Top,
    /// Exit with 0 if a running bridge is ready, with 1 if not, and print why
    Health {
        /// Not ready also while nothing can be published or a link is down
        #[arg(long)]
        strict: bool,
    },
    /// Print the subjects and messages of this configuration as an AsyncAPI document
    Asyncapi,
    /// Print the users of a nats-server for this configuration, with the permissions that they need
    NatsPermissions,
    /// Print the manual page, or that of a subcommand, for `man -l -`
    Man {
        /// The subcommand
        command: Option<String>,
        /// Write the pages of all into this folder instead
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        write: Option<PathBuf>,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of a binary with these connectors. TLS uses ring, unless the binary has installed
/// another provider of rustls before.
pub fn main(registry: Registry) -> ExitCode {
    complete::answer_shell(&registry);
    rustls::crypto::ring::default_provider().install_default().ok();
    let CommandLine { settings, command } = CommandLine::parse();
    let sources = settings.sources();
    let outcome = match command {
        Command::Run => run(registry, sources),
        Command::Check { connect } => check::check(&registry, &sources, connect),
        Command::Connectors { r#type: None } => describe::connectors(&registry),
        Command::Connectors { r#type: Some(kind) } => describe::connector(&registry, &kind),
        Command::Sample { recipe: Some(name), .. } => describe::recipe(&name),
        Command::Sample { r#type: kind, .. } => describe::sample(&registry, &kind.unwrap_or_default()),
        Command::Init(init) => init.run(),
        Command::New { recipe: Some(name), folder, .. } => new::recipe(&name, &folder.unwrap_or_default()),
        Command::New { script, .. } => new::script(&script.unwrap_or_default()),
        Command::Types => new::types(),
        Command::Test { folder } => test::run(&folder),
        Command::Explain { instance, frame } => explain::run(&registry, &sources, &instance, &frame),
        Command::Record { instance, count } => crate::config::shared(&registry, &sources)
            .map_err(Failure::from)
            .and_then(|(config, _)| tail::record::print(&config, &instance, count)),
        Command::Schema => describe::schema(&registry),
        Command::Tail(tail) => tail.run(&registry, &sources),
        Command::Send(request) => request.run(&registry, &sources),
        Command::Control(control) => control.run(&registry, &sources),
        Command::Status(status) => status.run(&registry, &sources),
        Command::Top => top::run(&registry, &sources),
        Command::Health { strict } => probe::health(&registry, &sources, strict),
        Command::Asyncapi => asyncapi::print(&registry, &sources),
        Command::NatsPermissions => permissions::print(&registry, &sources),
        Command::Man { write: Some(folder), .. } => man::write_all(&folder),
        Command::Man { command, .. } => man::print(command.as_deref()),
        Command::Completions { shell } => complete::script(shell),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

impl Settings {
    fn sources(self) -> Sources {
        let flags = [
            ("--nats-url", "nats.url", self.nats_url),
            ("--admin-listen", "admin.listen", self.admin_listen),
            ("--log-level", "log.level", self.log_level),
            ("--log-format", "log.format", self.log_format),
        ];
        let given = flags.into_iter().filter_map(|(flag, key, text)| Some((flag, key, text?)));
        Sources::new(self.config, given.collect())
    }
}

fn run(registry: Registry, sources: Sources) -> Outcome {
    let registry = Arc::new(registry);
    let (loaded, thread) = daemon::load(&registry, &sources)?;
    if loaded.instances.is_empty() {
        let advice = "add a table [connectors.<name>]: `pontoon connectors` lists the types, and `pontoon sample <type>` prints a table to begin with";
        let what = format!("no instance is enabled, so there is nothing to run; {advice}");
        return Err(Failure::Config(Problems(vec![Problem {
            source: sources.name(),
            key: String::new(),
            what,
        }])));
    }
    Ok(daemon::run(registry, sources, (loaded, thread)))
}

fn command_line() -> clap::Command {
    CommandLine::command()
}
