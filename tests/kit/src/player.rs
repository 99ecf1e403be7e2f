//! Plays transcripts with the real daemon, between a real nats-server and a service that sends what is written.

mod playback;
mod service;
mod subjects;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use pontoon_sdk::socketio::Frame;
use pontoon_transcript::{ReplyStep, Status, StepKind, Transcript};
use serde_json::Value;

use self::playback::Playback;
use self::service::{ScriptedService, SocketIoScript, WebSocketScript};
use crate::daemon::{Daemon, DaemonConfig};
use crate::nats::NatsServer;

/// The longest `wait` that is waited for; a longer one is for the player that has a simulated clock.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How many transcripts are played at a time, each with an instance of one daemon: starting it takes longer than playing.
const AT_ONCE: usize = 8;

/// Where transcripts of one connector are played: between the daemon's program and a nats-server.
#[derive(Debug)]
pub struct TranscriptPlayer<'a> {
    /// The daemon's program.
    pub binary: &'a Path,
    /// The connector.
    pub kind: &'a str,
    /// What of the simulator's URL comes after the port.
    pub path: &'a str,
}

/// What must be known of a connector so that its transcripts can be played.
#[derive(Debug, Clone, Copy)]
pub struct Profile<'a> {
    /// The operations that take an argument, such as `emit`. All others are whole, even with dots in them.
    pub arguments: &'a [&'a str],
    /// Whether links are opened by the commands that go over them. Then `up open` waits for no connection; one is there
    /// once a command has opened it.
    pub on_demand: bool,
    /// The link whose conversation a transcript is that names none, for an instance with these settings.
    pub first_link: fn(&Value) -> &'static str,
    /// Which link a connection belongs to; `None` where instances have but one link.
    pub link_of: Option<LinkOf>,
}

/// Which link of an instance with these settings a connection belongs to, from the frames that came over it as
/// soon as it was made; `None` if more must come first.
pub type LinkOf = fn(&Value, &[Frame]) -> Option<String>;

impl Default for Profile<'_> {
    /// Instances with one link, which is there from the start, and operations without arguments.
    fn default() -> Self {
        Self { arguments: &[], on_demand: false, first_link: |_| "main", link_of: None }
    }
}

impl Profile<'_> {
    /// Whether a transcript can be played in real time, by a real daemon: long waits and deadlines are for the other
    /// player, and so is a link on demand over which something comes without a command that has opened it.
    pub fn suits(&self, transcript: &Transcript) -> bool {
        let in_time = transcript.steps.iter().all(|step| match &step.kind {
            StepKind::Wait(time) => *time <= LONGEST_WAIT,
            StepKind::Timeout(_) | StepKind::Answer(_) => false,
            _ => true,
        });
        in_time && (!self.on_demand || every_connection_has_a_command(transcript))
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

impl TranscriptPlayer<'_> {
    /// Plays transcripts over WebSockets, several at a time. Each has an instance with one link, or that opens but one for
    /// all of the commands. Returns what went wrong: the transcript's name, the number of the line, what it expects and
    /// what came.
    ///
    /// # Panics
    /// If the daemon does not run.
    pub async fn play(&self, transcripts: &[Transcript], profile: &Profile<'_>) -> Vec<String> {
        self.play_over(transcripts, profile, async |_| WebSocketScript::start().await).await
    }

    /// Plays transcripts over Socket.IO, as [`TranscriptPlayer::play`]. Every CONNECT is confirmed; connections of other
    /// links are kept open, and what comes over them is not looked at.
    ///
    /// # Panics
    /// If the daemon does not run.
    pub async fn play_socketio(&self, transcripts: &[Transcript], profile: &Profile<'_>) -> Vec<String> {
        let start =
            async |transcript: &Transcript| SocketIoScript::start(profile.link_of, &transcript.config).await;
        self.play_over(transcripts, profile, start).await
    }

    async fn play_over<S: ScriptedService>(
        &self,
        transcripts: &[Transcript],
        profile: &Profile<'_>,
        start: impl AsyncFn(&Transcript) -> S,
    ) -> Vec<String> {
        let instances: Vec<_> = (0..AT_ONCE).map(|number| format!("transcript_{number}")).collect();
        let names: Vec<_> = instances.iter().map(String::as_str).collect();
        let nats = NatsServer::options().shipped_users(&names).start().await;
        let client = nats.client().await;
        let mut wrong = Vec::new();
        for transcripts in transcripts.chunks(AT_ONCE) {
            let mut config = DaemonConfig::new(&nats);
            let mut services = Vec::new();
            for (transcript, instance) in transcripts.iter().zip(&names) {
                // The stream of the transcript that had the instance before would go on.
                let stream = format!("PONTOON_{}", instance.to_uppercase());
                let _ = async_nats::jetstream::new(client.clone()).delete_stream(stream).await;
                let service = start(transcript).await;
                let url = format!("{}://{}{}", service.scheme(), service.server().address(), self.path);
                config = config.connector(instance, self.kind, &settings(&transcript.config, &url));
                services.push((transcript, *instance, service));
            }
            let mut playbacks = Vec::new();
            for (transcript, instance, service) in &services {
                playbacks.push(
                    Playback::new(self.kind, instance, profile, transcript, service, client.clone()).await,
                );
            }
            let _daemon = Daemon::start(self.binary, config);
            let played = playbacks
                .into_iter()
                .zip(transcripts)
                .map(async |(play, transcript)| play?.run(transcript).await);
            wrong.extend(join_all(played).await.into_iter().filter_map(Result::err));
        }
        wrong
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
