//! Every connector's transcripts, played again with the real daemon between a simulated service and NATS.

use std::fs;
use std::path::{Path, PathBuf};

use pontoon_sdk::transcript::Transcript;
use pontoon_testkit::{NatsServer, Stage};

#[tokio::test]
async fn sub0() {
    play("sub0", "/ws").await;
}

async fn play(kind: &str, path: &str) {
    let nats = NatsServer::start().await;
    let binary = Path::new(env!("CARGO_BIN_EXE_pontoon"));
    let stage = Stage { nats: &nats, binary, kind, path };
    let mut wrong = Vec::new();
    let mut played = 0;
    for file in transcripts(kind) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let transcript = Transcript::parse(&name, &fs::read_to_string(&file).unwrap()).unwrap();
        if Stage::suits(&transcript) {
            played += 1;
            wrong.extend(stage.play(&transcript).await.err());
        }
    }
    assert!(wrong.is_empty(), "{} of {played}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(played > 0, "no transcript of {kind} can be played in real time");
}

fn transcripts(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors").join(kind).join("transcripts");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    files.sort();
    files
}
