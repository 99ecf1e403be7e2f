//! What the writer of a connection sends for its reader: pongs, and the close frame that fits how the connection ends.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::decoder::Violation;
use crate::transport::classify::{AWAY, PROTOCOL};

/// How many pings may wait for their pongs; of more, only the last are answered (RFC 6455 §5.5.3).
const PINGS: usize = 32;
/// The longest reason that a close frame has room for, in bytes (RFC 6455 §5.5).
const REASON: usize = 123;

/// Shared by the two halves of a connection.
#[derive(Default)]
pub(super) struct Control {
    state: Mutex<State>,
    ping: Notify,
}

#[derive(Default)]
struct State {
    /// The payloads of the last pings that were not answered.
    pings: VecDeque<Bytes>,
    ending: Ending,
}

/// Whether and how the connection has ended, as seen by the reader.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Ending {
    /// Messages may still be received.
    #[default]
    Open,
    /// The peer has closed it, with this code.
    Closed(Option<u16>),
    /// The peer has violated the protocol.
    Failed(Violation),
    /// The stream below has ended, and nothing can be sent.
    Gone,
}

impl Control {
    /// Queues a pong for the writer.
    pub(super) fn answer(&self, ping: Bytes) {
        let mut state = self.state();
        if state.pings.len() == PINGS {
            state.pings.pop_front();
        }
        state.pings.push_back(ping);
        drop(state);
        self.ping.notify_one();
    }

    /// The payload of a ping that waits for its answer.
    pub(super) fn take_ping(&self) -> Option<Bytes> {
        self.state().pings.pop_front()
    }

    /// Waits until a ping is to be answered.
    pub(super) async fn pinged(&self) {
        while self.state().pings.is_empty() {
            self.ping.notified().await;
        }
    }

    /// Ends the reading. The first reason counts.
    pub(super) fn end(&self, ending: Ending) {
        let mut state = self.state();
        if state.ending == Ending::Open {
            state.ending = ending;
        }
    }

    /// Whether and how the connection has ended.
    pub(super) fn ending(&self) -> Ending {
        self.state().ending.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ending {
    /// The payload of the close frame that is sent; `None` if none can be.
    pub(super) fn close_payload(&self) -> Option<Vec<u8>> {
        match self {
            Self::Open => Some(close_payload(AWAY, "")),
            Self::Closed(None) => Some(Vec::new()),
            Self::Closed(Some(code)) if is_allowed(*code) => Some(close_payload(*code, "")),
            Self::Closed(Some(_)) => {
                Some(close_payload(PROTOCOL, "the close code is not allowed on the wire"))
            }
            Self::Failed(Violation { code, reason }) => Some(close_payload(*code, reason)),
            Self::Gone => None,
        }
    }
}

/// A code and a reason, cut to what a close frame has room for.
pub(super) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload
        .extend_from_slice(reason.get(..reason.floor_char_boundary(REASON)).unwrap_or_default().as_bytes());
    payload
}

/// Whether a close frame may carry this code: those of RFC 6455 §7.4.1 and the registry of IANA, and those of libraries
/// and applications (§7.4.2).
fn is_allowed(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_close_frame_fits_the_end() {
        let echoed = [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999];
        for code in echoed {
            assert_eq!(Ending::Closed(Some(code)).close_payload(), Some(code.to_be_bytes().to_vec()));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            let payload = Ending::Closed(Some(code)).close_payload().unwrap();
            assert_eq!(payload[..2], PROTOCOL.to_be_bytes(), "{code}");
        }
        assert_eq!(Ending::Closed(None).close_payload(), Some(Vec::new()));
        assert_eq!(Ending::Open.close_payload(), Some(AWAY.to_be_bytes().to_vec()));
        assert_eq!(Ending::Gone.close_payload(), None);
        let failed = Ending::Failed(Violation { code: 1007, reason: "ü".repeat(100) });
        let payload = failed.close_payload().unwrap();
        assert_eq!((payload.len(), &payload[..2]), (124, &1007_u16.to_be_bytes()[..]));
        assert!(std::str::from_utf8(&payload[2..]).is_ok());
    }

    #[test]
    fn of_many_pings_the_last_are_answered_in_order() {
        let control = Control::default();
        for number in 0..=PINGS {
            control.answer(Bytes::from(vec![u8::try_from(number).unwrap()]));
        }
        let answered: Vec<_> = std::iter::from_fn(|| control.take_ping()).map(|ping| ping[0]).collect();
        assert_eq!(answered, (1..=u8::try_from(PINGS).unwrap()).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_reason_of_an_end_counts() {
        let control = Control::default();
        control.end(Ending::Closed(Some(1000)));
        control.end(Ending::Gone);
        assert_eq!(control.ending(), Ending::Closed(Some(1000)));
    }
}
