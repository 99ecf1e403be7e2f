//! What a service needs to go on where a connection ended (connection state recovery, Socket.IO 4.6 and later).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pontoon_sdk::socketio::Event;

/// What a link remembers from one connection to the next. The reader writes it, the next dial reads it.
#[derive(Debug, Clone, Default)]
pub struct Recovery(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The session's private id, if the service gave one.
    pid: Option<String>,
    /// Where the session stands: what the service put behind the arguments of its last event.
    offset: Option<String>,
}

/// An offset longer than this is none.
const MAX_OFFSET: usize = 256;

impl Recovery {
    /// The id and the place of the last session, if it can be asked for.
    pub fn wanted(&self) -> Option<(String, String)> {
        let state = self.state();
        state.pid.clone().zip(state.offset.clone())
    }

    /// A session begins under this id. Returns whether it is the last one, gone on with.
    pub fn begin(&self, pid: Option<String>) -> bool {
        let mut state = self.state();
        if pid.is_some() && pid == state.pid {
            return true;
        }
        *state = State { pid, offset: None };
        false
    }

    /// An event was read: the last of its arguments may be its place. One that asks for an acknowledgement has none.
    pub fn read(&self, event: &Event) {
        if event.ack.is_some() {
            return;
        }
        let Some(last) = event.args.values().last() else { return };
        if last.as_bytes().first() != Some(&b'"') || last.as_bytes().len() > MAX_OFFSET {
            return;
        }
        let mut state = self.state();
        if state.pid.is_some()
            && let Ok(offset) = last.parse()
        {
            state.offset = Some(offset);
        }
    }

    /// The next session begins afresh.
    pub fn forget(&self) {
        *self.state() = State::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pontoon_sdk::Raw;

    use super::*;

    #[test]
    fn a_session_is_resumed_only_under_its_own_id() {
        let recovery = Recovery::default();
        let event = |json: &str| {
            let raw = Raw::of_bytes(&bytes::Bytes::copy_from_slice(json.as_bytes()));
            Event::new("e", vec![raw])
        };
        assert!(!recovery.begin(None));
        recovery.read(&event("\"a\""));
        assert_eq!(recovery.wanted(), None);
        assert!(!recovery.begin(Some("p".into())));
        assert_eq!(recovery.wanted(), None);
        recovery.read(&event("\"a\""));
        recovery.read(&event("{\"no\":\"offset\"}"));
        recovery.read(&Event { ack: Some(1), ..event("\"argument\"") });
        assert_eq!(recovery.wanted(), Some(("p".into(), "a".into())));
        assert!(recovery.begin(Some("p".into())));
        assert!(!recovery.begin(Some("q".into())));
        assert_eq!(recovery.wanted(), None);
    }
}
