//! Every connector's transcripts, played again with the real daemon between a simulated service and NATS.

use std::fs;
use std::path::{Path, PathBuf};

use pontoon_sdk::socketio::Frame;
use pontoon_sdk::transcript::Transcript;
use pontoon_testkit::{Cast, NatsServer, Stage};
use serde_json::Value;

#[tokio::test]
async fn sub0() {
    let cast = Cast { arguments: &["call"], ..Cast::default() };
    let played =
        play("sub0", "/ws", &cast, async |stage, transcript| stage.play(transcript, &cast).await).await;
    assert!(played > 20, "{played} transcripts were played");
}

#[tokio::test]
async fn aui() {
    let cast = Cast { on_demand_limits: true, ..Cast::default() };
    let played =
        play("aui", "/session", &cast, async |stage, transcript| stage.play(transcript, &cast).await).await;
    assert!(played > 35, "{played} transcripts were played");
}

#[tokio::test]
async fn minchat() {
    let first_link = |config: &Value| if shared(config) { "main" } else { "user" };
    let cast = Cast { first_link, link_of: Some(link_of_minchat), ..Cast::default() };
    let played =
        play("minchat", "/", &cast, async |stage, transcript| stage.play_socketio(transcript, &cast).await)
            .await;
    assert!(played > 30, "{played} transcripts were played");
}

#[tokio::test]
async fn elizaos() {
    let cast = Cast::default();
    let played =
        play("elizaos", "/", &cast, async |stage, transcript| stage.play_socketio(transcript, &cast).await)
            .await;
    assert!(played > 30, "{played} transcripts were played");
}

#[tokio::test]
async fn websocket() {
    let cast = Cast { arguments: &["call"], ..Cast::default() };
    let played =
        play("websocket", "/", &cast, async |stage, transcript| stage.play(transcript, &cast).await).await;
    assert!(played > 30, "{played} transcripts were played");
}

#[tokio::test]
async fn socketio() {
    let cast = Cast { arguments: &["call", "emit"], ..Cast::default() };
    let played =
        play("socketio", "/", &cast, async |stage, transcript| stage.play_socketio(transcript, &cast).await)
            .await;
    assert!(played > 20, "{played} transcripts were played");
}

fn shared(config: &Value) -> bool {
    config["links"] == "shared"
}

/// The link of a chat joins the chat's room behind the user's, and is named after it; the user's own joins no chat.
fn link_of_minchat(config: &Value, frames: &[Frame]) -> Option<String> {
    if shared(config) {
        return Some("main".to_owned());
    }
    let joined = frames.iter().filter_map(|frame| match frame {
        Frame::Event(event) if event.name == "room.join" => event.read::<Value>(0).ok(),
        _ => None,
    });
    let chat = joined.filter_map(|body| body["channelId"].as_str().map(str::to_owned)).last();
    let key = |chat: String| if chat.trim_end_matches('_') == "user" { format!("{chat}_") } else { chat };
    Some(chat.map_or_else(|| "user".to_owned(), key))
}

/// Plays what can be played in real time, by the rule of [`Cast::suits`]. Returns how many that were.
async fn play(
    kind: &str,
    path: &str,
    cast: &Cast<'_>,
    perform: impl AsyncFn(&Stage<'_>, &Transcript) -> Result<(), String>,
) -> usize {
    let nats = NatsServer::start().await;
    let binary = Path::new(env!("CARGO_BIN_EXE_pontoon"));
    let stage = Stage { nats: &nats, binary, kind, path };
    let mut wrong = Vec::new();
    let mut played = 0;
    for file in transcripts(kind) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let transcript = Transcript::parse(&name, &fs::read_to_string(&file).unwrap()).unwrap();
        if cast.suits(&transcript) {
            played += 1;
            wrong.extend(perform(&stage, &transcript).await.err());
        }
    }
    assert!(wrong.is_empty(), "{} of {played}:\n{}", wrong.len(), wrong.join("\n"));
    played
}

fn transcripts(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors").join(kind).join("transcripts");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    files.sort();
    files
}
