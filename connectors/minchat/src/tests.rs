//! The connector from outside.

use pontoon_sdk::transcript::play_folder;

use super::*;

#[test]
fn every_transcript_plays() {
    let count = play_folder::<MinChat>(concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts")).unwrap();
    assert!(count >= 40, "only {count} transcripts");
}
