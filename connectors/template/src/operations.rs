//! What callers can ask for.

use pontoon_sdk::message::MessageSend;
use pontoon_sdk::operations;

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Posts a text on a board (channel), and returns the id of the post.
        Post(MessageSend) = "message.send", Acked;
    }
}
