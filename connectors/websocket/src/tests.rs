//! The connector from outside.

use pontoon_sdk::transcript::play_folder;

use super::*;

const TRANSCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts");

#[test]
fn every_transcript_plays() {
    let count = play_folder::<Websocket>(TRANSCRIPTS).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(count >= 50, "only {count} transcripts");
}

/// What a daemon refuses to start with: a secret that is not there.
#[test]
fn every_transcript_plays_that_needs_no_daemon() {
    assert_eq!(play_folder::<Websocket>(format!("{TRANSCRIPTS}/alone")).unwrap(), 1);
}
