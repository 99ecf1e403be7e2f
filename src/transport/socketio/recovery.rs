//! What a service needs to go on where a connection ended (connection state recovery, Socket.IO 4.6 and later).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pontoon_sdk::socketio::Event;

use crate::transport::Resumed;

/// What a link remembers from one connection to the next. The reader writes it, the next dial reads it.
///
/// The reference server keeps a session at each break that it notices, and never drops what it kept. At a second break
/// that it has not noticed, or that we made, it goes on from the first: with the rooms of then, and so without what was
/// said in others since. And a session that cannot be resumed, because too much was missed, is not asked for again.
#[derive(Debug, Clone, Default)]
pub struct Recovery(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    session: Option<Session>,
    /// What the connection in the making has asked for.
    asked: Option<Session>,
}

#[derive(Debug, Clone)]
struct Session {
    /// Its private id.
    pid: String,
    /// Where it stands: what the service put behind the arguments of its last event.
    offset: Option<String>,
    /// Whether it was resumed before.
    again: bool,
}

/// An offset longer than this is none.
const MAX_OFFSET: usize = 256;

impl Recovery {
    /// The id and the place of the last session, to be asked for now and, unless it is resumed, not again.
    pub fn ask(&self) -> Option<(String, String)> {
        let mut state = self.state();
        state.asked = state.session.take().filter(|session| session.offset.is_some());
        let session = state.asked.as_ref()?;
        Some((session.pid.clone(), session.offset.clone()?))
    }

    /// A session begins under this id. Returns whether it is the one that was asked for.
    pub fn begin(&self, pid: Option<String>) -> Resumed {
        let mut state = self.state();
        let asked = state.asked.take().filter(|asked| Some(&asked.pid) == pid.as_ref());
        let resumed = match &asked {
            None => Resumed::No,
            Some(Session { again: true, .. }) => Resumed::Perhaps,
            Some(_) => Resumed::Yes,
        };
        state.session = pid.map(|pid| Session {
            pid,
            again: asked.is_some(),
            offset: asked.and_then(|asked| asked.offset),
        });
        resumed
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
        if let Some(session) = &mut self.state().session
            && let Ok(offset) = last.parse()
        {
            session.offset = Some(offset);
        }
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
    fn a_session_is_resumed_under_its_own_id_and_surely_only_once() {
        let recovery = Recovery::default();
        let event = |json: &str| {
            let raw = Raw::of_bytes(&bytes::Bytes::copy_from_slice(json.as_bytes()));
            Event::new("e", vec![raw])
        };
        let (fresh, asked) =
            (Resumed::No, |pid: &str, offset: &str| Some((pid.to_owned(), offset.to_owned())));
        assert_eq!(recovery.begin(None), fresh);
        recovery.read(&event("\"a\""));
        assert_eq!(recovery.ask(), None);
        assert_eq!(recovery.begin(Some("p".into())), fresh);
        assert_eq!(recovery.ask(), None);
        assert_eq!(recovery.begin(Some("p".into())), fresh);
        recovery.read(&event("\"a\""));
        recovery.read(&event("{\"no\":\"offset\"}"));
        recovery.read(&Event { ack: Some(1), ..event("\"argument\"") });
        assert_eq!(recovery.ask(), asked("p", "a"));
        // Asked for and not got: the next begins afresh.
        assert_eq!(recovery.ask(), None);
        assert_eq!(recovery.begin(Some("q".into())), fresh);
        recovery.read(&event("\"b\""));
        assert_eq!(recovery.ask(), asked("q", "b"));
        assert_eq!(recovery.begin(Some("q".into())), Resumed::Yes);
        // Nobody knows from which of its breaks it goes on the second time.
        assert_eq!(recovery.ask(), asked("q", "b"));
        assert_eq!(recovery.begin(Some("q".into())), Resumed::Perhaps);
        recovery.read(&event("\"c\""));
        assert_eq!(recovery.ask(), asked("q", "c"));
        assert_eq!(recovery.begin(Some("r".into())), fresh);
    }
}
