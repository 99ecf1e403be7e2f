//! Commands that do not come over NATS: those of the page. They are routed, limited and counted as the others are.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::context::LocalCommand;
use super::router::Router;
use crate::bus::commands::Request;
use crate::reply::{ReplyReceiver, ReplySender};
use crate::transport::Dial;

/// Carries out a command, or refuses it.
pub(super) fn handle<T: Dial>(router: &mut Router<T>, command: LocalCommand) {
    let LocalCommand { operation, headers, body, replies } = command;
    let (sender, receiver) = ReplySender::new(1);
    router.handle_for(&Request::local(operation, router.local_reply(), headers, body), sender);
    spawn_local(forward(receiver, replies));
}

async fn forward(mut receiver: ReplyReceiver, replies: mpsc::Sender<Bytes>) {
    while let Some(outgoing) = receiver.next().await {
        let is_last = outgoing.part.is_none();
        if replies.send(outgoing.answer.body.clone()).await.is_err() || is_last {
            return;
        }
    }
}
