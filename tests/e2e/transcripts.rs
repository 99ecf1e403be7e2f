//! Every connector's transcripts, played again with the real daemon between a simulated service and NATS.

use std::fs;
use std::path::Path;

use pontoon_sdk::socketio::Frame;
use pontoon_testkit::{Profile, TranscriptPlayer};
use pontoon_transcript::Transcript;
use serde_json::Value;

#[tokio::test]
async fn sub0() {
    play("sub0", "/ws", Profile { arguments: &["call"], ..Profile::default() }, 20).await;
}

#[tokio::test]
async fn aui() {
    play("aui", "/session", Profile { on_demand: true, ..Profile::default() }, 35).await;
}

#[tokio::test]
async fn minchat() {
    let first_link = |config: &Value| if shared(config) { "main" } else { "user" };
    play_socketio(
        "minchat",
        Profile { first_link, link_of: Some(link_of_minchat), ..Profile::default() },
        30,
    )
    .await;
}

#[tokio::test]
async fn elizaos() {
    play_socketio("elizaos", Profile::default(), 30).await;
}

#[tokio::test]
async fn websocket() {
    play("websocket", "/", Profile { arguments: &["call"], ..Profile::default() }, 30).await;
}

#[tokio::test]
async fn socketio() {
    play_socketio("socketio", Profile { arguments: &["call", "emit"], ..Profile::default() }, 20).await;
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

async fn play(kind: &str, path: &str, profile: Profile<'_>, more_than: usize) {
    let transcripts = transcripts(kind, &profile, more_than);
    let wrong = player(kind, path).play(&transcripts, &profile).await;
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), transcripts.len(), wrong.join("\n"));
}

async fn play_socketio(kind: &str, profile: Profile<'_>, more_than: usize) {
    let transcripts = transcripts(kind, &profile, more_than);
    let wrong = player(kind, "/").play_socketio(&transcripts, &profile).await;
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), transcripts.len(), wrong.join("\n"));
}

fn player<'a>(kind: &'a str, path: &'a str) -> TranscriptPlayer<'a> {
    TranscriptPlayer { binary: Path::new(env!("CARGO_BIN_EXE_pontoon")), kind, path }
}

/// A connector's transcripts that can be played in real time, by the rule of [`Profile::suits`].
fn transcripts(kind: &str, profile: &Profile<'_>, more_than: usize) -> Vec<Transcript> {
    let connectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors");
    let generic = matches!(kind, "socketio" | "websocket");
    let folder = if generic { connectors.join("generic") } else { connectors }.join(kind).join("transcripts");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    files.sort();
    let parsed = files.iter().map(|file| {
        let name = file.file_name().unwrap().to_string_lossy();
        Transcript::parse(&name, &fs::read_to_string(file).unwrap()).unwrap()
    });
    let suiting: Vec<_> = parsed.filter(|transcript| profile.suits(transcript)).collect();
    assert!(suiting.len() > more_than, "{} transcripts can be played", suiting.len());
    suiting
}

#[tokio::test]
async fn what_is_not_in_a_transcript_is_reported() {
    let call =
        "bus <- call.x {} Pontoon-Action=a\nup  -> {\"resource\":\"x\",\"action\":\"a\",\"payload\":{}}\n";
    let answer = "up  <- {\"action\":\"a\",\"data\":1}\n";
    let broadcast = "up  <- {\"action\":\"tick\",\"data\":1}\n";
    let event = |fields: &str| format!("bus -> resource.broadcast {fields}\n");
    let cases = [
        (format!("{call}{answer}reply response 1\n"), ""),
        (call.replace("\"a\",", "\"b\","), ":2: the service got"),
        (format!("{call}{answer}reply response 2\n"), ":4: the reply was"),
        (format!("{broadcast}{}", event("{\"data\":1}")), ""),
        (format!("{broadcast}{}", event("{\"data\":2}")), ":2: its fields are others"),
        (format!("{broadcast}bus -> frame.unrecognised {{}}\n"), ":2: another event was published"),
        (broadcast.to_owned(), ": at the end: this was published too"),
        ("bus <- call.x {}\n".to_owned(), ": at the end: the service got"),
        (format!("up closed\n{broadcast}"), ":2: the link has ended"),
    ];
    let name = |number: usize| format!("{number}.txt");
    let parsed = cases.iter().enumerate();
    let parsed = parsed.map(|(number, (text, _))| Transcript::parse(&name(number), text).unwrap());
    let profile = Profile { arguments: &["call"], ..Profile::default() };
    let wrong = player("sub0", "/ws").play(&parsed.collect::<Vec<_>>(), &profile).await;
    let wrong: Vec<_> = wrong.iter().map(String::as_str).collect();
    let expected: Vec<_> = cases.iter().enumerate().filter(|(_, (_, words))| !words.is_empty()).collect();
    assert_eq!(wrong.len(), expected.len(), "{wrong:#?}");
    for (wrong, (number, (_, words))) in wrong.iter().zip(expected) {
        assert!(wrong.starts_with(&format!("{}{words}", name(number))), "{words}: {wrong}");
    }
}
