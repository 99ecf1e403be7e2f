//! The connector from outside: transcripts, good and bad settings.

use pontoon_sdk::Kind;
use pontoon_transcript::play_folder;
use serde_json::{Value, json};

use super::*;

#[test]
fn every_transcript_plays() {
    let count = play_folder::<Parley>(concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts")).unwrap();
    assert!(count >= 5, "only {count} transcripts");
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    for (key, value) in [
        ("address", json!("parley.example")),
        ("address", json!(":7300")),
        ("address", json!("parley.example:ircd")),
        ("name", json!("the bridge")),
        ("name", json!("")),
        ("rooms", json!(["two words"])),
    ] {
        let mut settings = json!({"address": "[::1]:7300", "name": "bridge"});
        assert!(build(&settings).is_ok());
        settings[key] = value;
        let error = build(&settings).err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.pointer().is_some_and(|place| place[1..].starts_with(key)), "{settings}: {error}");
    }
}

fn build(settings: &Value) -> Result<Parley> {
    Parley::new(serde_json::from_value(settings.clone()).unwrap())
}
