//! The state for connection state recovery (Socket.IO 4.6 and later).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pontoon_sdk::socketio::Event;
use serde::{Deserialize, Serialize};

use crate::transport::Resumed;

/// The session id and offset that a link keeps from one connection to the next. Written by the reader, read by the next dial.
///
/// The reference server saves a session at each disconnect that it notices, and never drops what it saved. At a second
/// disconnect that it has not noticed, or that we caused, it resumes from the first: with the rooms of then, and so
/// without the events of others since. A session that could not be resumed is not requested again.
#[derive(Debug, Clone, Default)]
pub struct Recovery(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    session: Option<Session>,
    /// The session that the current dial has requested.
    requested: Option<Session>,
    /// Whether the connection is closed without an end of the session.
    suspended: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    /// Its private id.
    pid: String,
    /// The offset: the last argument of its last event.
    offset: Option<String>,
    /// Whether it was resumed before.
    again: bool,
}

/// The longest offset, in bytes; a longer text is not an offset.
const MAX_OFFSET: usize = 256;

impl Recovery {
    /// Id and offset of the last session, for the next dial. Unless it is then resumed, it is not requested again.
    pub fn request(&self) -> Option<(String, String)> {
        let mut state = self.state();
        state.requested = state.session.take().filter(|session| session.offset.is_some());
        let session = state.requested.as_ref()?;
        Some((session.pid.clone(), session.offset.clone()?))
    }

    /// A session begins with this id. Returns whether it is the one that was requested.
    pub fn begin(&self, pid: Option<String>) -> Resumed {
        let mut state = self.state();
        let requested = state.requested.take().filter(|requested| Some(&requested.pid) == pid.as_ref());
        let resumed = match &requested {
            None => Resumed::No,
            Some(Session { again: true, .. }) => Resumed::Perhaps,
            Some(_) => Resumed::Yes,
        };
        state.session = pid.map(|pid| Session {
            pid,
            again: requested.is_some(),
            offset: requested.and_then(|requested| requested.offset),
        });
        resumed
    }

    /// An event was received: its last argument may be the offset. One that requests an acknowledgement has none.
    pub fn read(&self, event: &Event) {
        if event.ack.is_some() {
            return;
        }
        let Some(last) = event.args.values().last() else { return };
        if last.as_bytes().first() != Some(&b'"') || last.as_bytes().len() > MAX_OFFSET {
            return;
        }
        if let Some(session) = &mut self.state().session
            && let Ok(offset) = last.parse()
        {
            session.offset = Some(offset);
        }
    }

    /// The session that can be resumed, for a later run of the daemon.
    pub fn position(&self) -> Option<Vec<u8>> {
        let state = self.state();
        let session = state.session.as_ref().filter(|session| session.offset.is_some())?;
        postcard::to_allocvec(session).ok()
    }

    /// Has the next dial request the session that an earlier run of the daemon had.
    pub fn restore(&self, position: &[u8]) {
        self.state().session = postcard::from_bytes(position).ok();
    }

    /// The session is to be resumed after the connection is closed, if it can be.
    pub fn suspend(&self) {
        let state = &mut *self.state();
        state.suspended = state.session.as_ref().is_some_and(|session| session.offset.is_some());
    }

    /// Whether that is so.
    pub fn is_suspended(&self) -> bool {
        self.state().suspended
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
    fn a_session_is_resumed_by_its_id_and_for_certain_only_once() {
        let recovery = Recovery::default();
        let event = |json: &str| {
            let raw = Raw::of_bytes(&bytes::Bytes::copy_from_slice(json.as_bytes()));
            Event::new("e", vec![raw])
        };
        let (fresh, requested) =
            (Resumed::No, |pid: &str, offset: &str| Some((pid.to_owned(), offset.to_owned())));
        assert_eq!(recovery.begin(None), fresh);
        recovery.read(&event("\"a\""));
        assert_eq!(recovery.request(), None);
        assert_eq!(recovery.begin(Some("p".into())), fresh);
        assert_eq!(recovery.request(), None);
        assert_eq!(recovery.begin(Some("p".into())), fresh);
        recovery.read(&event("\"a\""));
        recovery.read(&event("{\"no\":\"offset\"}"));
        recovery.read(&Event { ack: Some(1), ..event("\"argument\"") });
        assert_eq!(recovery.request(), requested("p", "a"));
        // Requested and not resumed: the next session is new.
        assert_eq!(recovery.request(), None);
        assert_eq!(recovery.begin(Some("q".into())), fresh);
        recovery.read(&event("\"b\""));
        assert_eq!(recovery.request(), requested("q", "b"));
        assert_eq!(recovery.begin(Some("q".into())), Resumed::Yes);
        // The second time, it is unknown from which disconnect it resumes.
        assert_eq!(recovery.request(), requested("q", "b"));
        assert_eq!(recovery.begin(Some("q".into())), Resumed::Perhaps);
        recovery.read(&event("\"c\""));
        assert_eq!(recovery.request(), requested("q", "c"));
        assert_eq!(recovery.begin(Some("r".into())), fresh);
    }
}
