//! A link that moves: its next connection is made while this one is read.

use futures_util::future::LocalBoxFuture;
use pontoon_sdk::End;
use pontoon_sdk::connector::Frame;

use super::Connection;
use crate::transport::Read;

/// Begins to make the next connection. The error is why it cannot be made.
pub type Mover<'a> = Box<dyn FnOnce() -> LocalBoxFuture<'a, Result<(), String>> + 'a>;

/// The next connection is being made.
pub(super) struct Moving<'a> {
    pub(super) next: LocalBoxFuture<'a, Result<(), String>>,
    /// Why, as the service says.
    pub(super) reason: String,
}

/// Waits until the next connection is made, or cannot be. Dropping the future loses nothing.
pub(super) async fn made(moving: Option<&mut Moving<'_>>) -> Result<(), String> {
    match moving {
        Some(moving) => (&mut moving.next).await,
        None => std::future::pending().await,
    }
}

impl<F: Frame, R: Read<F>> Connection<'_, F, R> {
    /// The next connection is made: this one is closed, and read to its end. Or it cannot be made, and is made as after a break.
    pub(super) fn moved(&mut self, made: Result<(), String>) -> Result<(), End> {
        let reason = self.moving.take().map(|moving| moving.reason).unwrap_or_default();
        self.has_moved = made.is_ok();
        self.interrupted |= self.has_moved;
        Err(match made {
            Ok(()) => End::closed(None, reason),
            Err(why) => End::disconnected(format!("{reason}; it could not be made beside this one: {why}")),
        })
    }
}
