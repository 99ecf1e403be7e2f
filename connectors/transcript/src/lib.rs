//! Conversations written down as text, and a player that holds a session to one, without sockets.
//!
//! A transcript is one conversation over one link. The same file serves a unit test ([`play()`]), a simulator that
//! plays the service, and an end-to-end test against the real daemon: all of them read [`Transcript::steps`].
//!
//! ```text
//! # A balance is requested, and answered.
//! config {"url":"wss://example.test/ws"}
//! bus <- call.fetch-balance {"currency":"EUR"}
//! up  -> {"resource":"fetch-balance","action":"fetch-balance","payload":{"currency":"EUR"}}
//! up  <- {"uid":null,"action":"fetch-balance","data":{"wallet_balance":12}}
//! reply  response {"wallet_balance":12}
//! ```
//!
//! `connectors/README.md` describes the lines that there are.

mod frame_text;
mod parse;
mod pattern;
mod play;
mod recipe;
mod sample;
mod steps;

pub use frame_text::FrameText;
pub use pattern::Names;
pub use play::{play, play_folder};
pub use recipe::{SECRET, recipe_settings, recipe_transcript, with_settings};
pub use sample::{check_sample, uncommented};
pub use steps::{CommandStep, EventStep, ReplyStep, Status, Step, StepKind, Transcript};

/// The README of the connectors, whose example is run here.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct ConnectorsReadme;
