//! The connector from outside: its sample, its settings, its transcripts.

use pontoon_transcript::{check_sample, play_folder};

use super::*;

#[test]
fn every_transcript_plays() {
    let count = play_folder::<Board>(concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts")).unwrap();
    assert!(count >= 2, "only {count} transcripts");
}

#[test]
fn the_sample_lists_every_setting() {
    check_sample::<Board>().unwrap();
}
