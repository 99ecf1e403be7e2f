//! Plays a transcript for real: the daemon stands between a real nats-server and a service that says what is written.

mod play;
mod voice;
mod words;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use pontoon_sdk::socketio::Frame;
use pontoon_sdk::transcript::{ReplyStep, Status, StepKind, Transcript};
use serde_json::Value;

use self::play::Play;
use self::voice::{Packets, Texts, Voice};
use crate::daemon::{Daemon, DaemonConfig};
use crate::nats::NatsServer;

/// The longest `wait` that is waited for; a longer one is for the player with a clock of its own.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const INSTANCE: &str = "staged";

/// Where transcripts of one connector are played: a nats-server, and the daemon's program.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The server.
    pub nats: &'a NatsServer,
    /// The daemon's program.
    pub binary: &'a Path,
    /// The connector.
    pub kind: &'a str,
    /// What of the simulator's URL comes after the port.
    pub path: &'a str,
}

/// What must be known of a connector so that its transcripts can be played.
#[derive(Debug, Clone, Copy)]
pub struct Cast<'a> {
    /// The operations that take an argument, such as `emit`. All others are whole, whatever dots are in them.
    pub arguments: &'a [&'a str],
    /// Whether links are opened by the commands that go over them. Then `up open` waits for no connection; one is there
    /// once a command has opened it.
    pub on_demand_limits: bool,
    /// The link whose conversation a transcript is that names none, for an instance with these settings.
    pub first_link: fn(&Value) -> &'static str,
    /// Tells which link a connection belongs to; `None` where instances have but one link.
    pub link_of: Option<LinkOf>,
}

/// Tells which link of an instance with these settings a connection belongs to, from the frames that came over it as
/// soon as it was made; `None` if more must come first.
pub type LinkOf = fn(&Value, &[Frame]) -> Option<String>;

impl Default for Cast<'_> {
    /// Instances with one link, which is there from the start, and operations without arguments.
    fn default() -> Self {
        Self { arguments: &[], on_demand_limits: false, first_link: |_| "main", link_of: None }
    }
}

impl Cast<'_> {
    /// Whether a transcript can be played in real time, by a real daemon: long waits and deadlines are for the other
    /// player, and so is a link on demand over which something comes without a command that has opened it.
    pub fn suits(&self, transcript: &Transcript) -> bool {
        let in_time = transcript.steps.iter().all(|step| match &step.kind {
            StepKind::Wait(time) => *time <= LONGEST_WAIT,
            StepKind::Timeout(_) => false,
            _ => true,
        });
        in_time && (!self.on_demand_limits || every_connection_has_a_command(transcript))
    }
}

/// Whether a command waits for each connection, or is given before anything comes over it.
fn every_connection_has_a_command(transcript: &Transcript) -> bool {
    let (mut opened, mut answered, mut commands) = (true, Vec::new(), HashSet::new());
    transcript.steps.iter().all(|step| {
        match &step.kind {
            StepKind::Open => {
                opened = false;
                commands.retain(|label| !answered.contains(label));
                answered.clear();
            }
            StepKind::Command(command) => {
                commands.insert(&command.label);
            }
            StepKind::Reply(ReplyStep { label, status, .. }) => match status {
                Status::Part => {}
                Status::Rejected => commands.retain(|known| *known != label),
                // It may be written before what it answers, and may have opened this connection.
                _ => answered.push(label),
            },
            step if needs_connection(step) && !opened => {
                opened = true;
                return !commands.is_empty();
            }
            _ => {}
        }
        true
    })
}

/// Whether a connection must be there for this.
fn needs_connection(step: &StepKind) -> bool {
    use StepKind::{Close, Closed, FromService, Ready, ToService};
    matches!(step, FromService(_) | ToService(_) | Closed { .. } | Close(_) | Ready)
}

impl Stage<'_> {
    /// Plays a transcript over a WebSocket. The instance has one link, or opens but one for all of the commands.
    ///
    /// # Errors
    /// The transcript's name, the number of the line, what it expects and what came.
    ///
    /// # Panics
    /// If the daemon does not run.
    pub async fn play(&self, transcript: &Transcript, cast: &Cast<'_>) -> Result<(), String> {
        self.perform(transcript, cast, Texts::start().await).await
    }

    /// Plays a transcript over Socket.IO. Every CONNECT is confirmed; connections of other links are kept open, and
    /// what comes over them is not looked at.
    ///
    /// # Errors
    /// As [`Stage::play`].
    ///
    /// # Panics
    /// If the daemon does not run.
    pub async fn play_socketio(&self, transcript: &Transcript, cast: &Cast<'_>) -> Result<(), String> {
        self.perform(transcript, cast, Packets::start(cast.link_of, &transcript.config).await).await
    }

    async fn perform(
        &self,
        transcript: &Transcript,
        cast: &Cast<'_>,
        voice: impl Voice,
    ) -> Result<(), String> {
        let client = self.nats.client().await;
        // The stream of the transcript played before would go on.
        let streams = async_nats::jetstream::new(client.clone());
        let _ = streams.delete_stream(format!("PONTOON_{}", INSTANCE.to_uppercase())).await;
        let play = Play::new(self.kind, cast, transcript, &voice, client).await?;
        let url = format!("{}://{}{}", voice.scheme(), voice.server().address(), self.path);
        let settings = settings(&transcript.config, &url);
        let config = DaemonConfig::new(self.nats).connector(INSTANCE, self.kind, &settings);
        let _daemon = Daemon::start(self.binary, config);
        play.run(transcript).await
    }
}

/// A transcript's settings as lines of TOML, with this URL.
fn settings(config: &Value, url: &str) -> String {
    let mut settings = config.as_object().cloned().unwrap_or_default();
    settings.insert("url".into(), url.into());
    let lines: Vec<_> = settings.iter().map(|(key, value)| format!("{key:?} = {}", toml(value))).collect();
    lines.join("\n")
}

fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let fields: Vec<_> =
                table.iter().map(|(key, value)| format!("{key:?} = {}", toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
