//! A link that moves: its next connection is made while this one is read.

use futures_util::future::LocalBoxFuture;

/// Begins to make the next connection. The error is why it cannot be made.
pub type Mover<'a> = Box<dyn FnOnce() -> LocalBoxFuture<'a, Result<(), String>> + 'a>;

/// The next connection is being made.
pub(super) struct Moving<'a> {
    pub(super) next: LocalBoxFuture<'a, Result<(), String>>,
    /// Why, as the service says.
    pub(super) reason: String,
}

/// Waits until the next connection is made, or cannot be. Dropping the future loses nothing.
pub(super) async fn until_made(moving: Option<&mut Moving<'_>>) -> Result<(), String> {
    match moving {
        Some(moving) => (&mut moving.next).await,
        None => std::future::pending().await,
    }
}
