//! The connector from outside: transcripts, the sample, good and bad settings, and what no transcript reaches.

use pontoon_sdk::transcript::play_folder;

use super::*;

#[test]
fn every_transcript_plays() {
    let count = play_folder::<ElizaOs>(concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts")).unwrap();
    assert!(count >= 45, "only {count} transcripts");
}
