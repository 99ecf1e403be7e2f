//! Every connector's transcripts, played again with the real daemon between a simulated service and NATS.

use std::fs;
use std::path::Path;

use pontoon_sdk::socketio::Frame;
use pontoon_sdk::transcript::Transcript;
use pontoon_testkit::{Cast, Stage};
use serde_json::Value;

#[tokio::test]
async fn sub0() {
    play("sub0", "/ws", Cast { arguments: &["call"], ..Cast::default() }, 20).await;
}

#[tokio::test]
async fn aui() {
    play("aui", "/session", Cast { on_demand: true, ..Cast::default() }, 35).await;
}

#[tokio::test]
async fn minchat() {
    let first_link = |config: &Value| if shared(config) { "main" } else { "user" };
    play_socketio("minchat", Cast { first_link, link_of: Some(link_of_minchat), ..Cast::default() }, 30)
        .await;
}

#[tokio::test]
async fn elizaos() {
    play_socketio("elizaos", Cast::default(), 30).await;
}

#[tokio::test]
async fn websocket() {
    play("websocket", "/", Cast { arguments: &["call"], ..Cast::default() }, 30).await;
}

#[tokio::test]
async fn socketio() {
    play_socketio("socketio", Cast { arguments: &["call", "emit"], ..Cast::default() }, 20).await;
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

async fn play(kind: &str, path: &str, cast: Cast<'_>, more_than: usize) {
    let transcripts = transcripts(kind, &cast, more_than);
    let wrong = stage(kind, path).play(&transcripts, &cast).await;
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), transcripts.len(), wrong.join("\n"));
}

async fn play_socketio(kind: &str, cast: Cast<'_>, more_than: usize) {
    let transcripts = transcripts(kind, &cast, more_than);
    let wrong = stage(kind, "/").play_socketio(&transcripts, &cast).await;
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), transcripts.len(), wrong.join("\n"));
}

fn stage<'a>(kind: &'a str, path: &'a str) -> Stage<'a> {
    Stage { binary: Path::new(env!("CARGO_BIN_EXE_pontoon")), kind, path }
}

/// A connector's transcripts that can be played in real time, by the rule of [`Cast::suits`].
fn transcripts(kind: &str, cast: &Cast<'_>, more_than: usize) -> Vec<Transcript> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors").join(kind).join("transcripts");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    files.sort();
    let parsed = files.iter().map(|file| {
        let name = file.file_name().unwrap().to_string_lossy();
        Transcript::parse(&name, &fs::read_to_string(file).unwrap()).unwrap()
    });
    let suiting: Vec<_> = parsed.filter(|transcript| cast.suits(transcript)).collect();
    assert!(suiting.len() > more_than, "{} transcripts can be played", suiting.len());
    suiting
}
