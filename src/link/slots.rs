//! Room for the links that are opened on demand: no more are open than the connector says, and one that is idle makes
//! room for one that waits. Those that wait are served in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// The places of one instance.
pub struct Places {
    state: Mutex<State>,
    wanted: Notify,
}

struct State {
    free: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
    /// How many are about to be given back because somebody waits.
    leaving: usize,
}

/// One of them, given back when it is dropped.
pub struct Place {
    places: Arc<Places>,
    leaving: bool,
}

impl Places {
    /// This many.
    pub fn new(limit: usize) -> Arc<Self> {
        let state = State { free: limit, waiting: VecDeque::new(), leaving: 0 };
        Arc::new(Self { state: Mutex::new(state), wanted: Notify::new() })
    }

    /// Waits for a place. Dropping the future loses none.
    pub async fn take(self: &Arc<Self>) -> Place {
        loop {
            let given = {
                let mut state = self.state();
                if state.free > 0 {
                    state.free -= 1;
                    return Place { places: self.clone(), leaving: false };
                }
                let (giver, given) = oneshot::channel();
                state.waiting.push_back(giver);
                given
            };
            self.wanted.notify_waiters();
            if let Ok(place) = given.await {
                return place;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until somebody wants a place for whom nobody leaves yet.
    pub async fn wanted(&self) {
        loop {
            let wanted = self.places.wanted.notified();
            if self.places.state().is_wanted() {
                return;
            }
            wanted.await;
        }
    }

    /// It will be given back soon, because it is wanted.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) {
            self.places.state().leaving += 1;
        }
    }
}

impl State {
    fn is_wanted(&mut self) -> bool {
        self.waiting.retain(|giver| !giver.is_closed());
        self.waiting.len() > self.leaving
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = {
            let mut state = self.places.state();
            state.leaving -= usize::from(self.leaving);
            state.waiting.retain(|giver| !giver.is_closed());
            match state.waiting.pop_front() {
                Some(giver) => giver,
                None => {
                    state.free += 1;
                    return;
                }
            }
        };
        // Who has just given up drops the place again, and it goes on from there.
        let _ = next.send(Place { places: self.places.clone(), leaving: false });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn no_more_are_taken_than_there_are_and_those_who_wait_are_served_in_order() {
        let places = Places::new(2);
        let one = places.take().now_or_never().unwrap();
        let two = places.take().now_or_never().unwrap();
        let mut third = pin!(places.take());
        let mut fourth = pin!(places.take());
        assert!(third.as_mut().now_or_never().is_none() && fourth.as_mut().now_or_never().is_none());
        drop(two);
        assert!(fourth.as_mut().now_or_never().is_none());
        let three = third.now_or_never().unwrap();
        drop((one, three));
        assert!(fourth.now_or_never().is_some());
        assert_eq!(places.state().free, 2);
    }

    #[test]
    fn one_leaves_for_each_that_waits() {
        let places = Places::new(2);
        let mut one = places.take().now_or_never().unwrap();
        let two = places.take().now_or_never().unwrap();
        assert!(one.wanted().now_or_never().is_none());
        {
            let mut third = pin!(places.take());
            {
                let mut waits = pin!(one.wanted());
                assert!(waits.as_mut().now_or_never().is_none());
                assert!(third.as_mut().now_or_never().is_none());
                assert!(waits.now_or_never().is_some());
            }
            one.leave();
            assert!(two.wanted().now_or_never().is_none());
        }
        // The third gave up, so nobody is served, and the next who comes is not forgotten.
        drop(one);
        let four = places.take().now_or_never().unwrap();
        let mut fifth = pin!(places.take());
        assert!(fifth.as_mut().now_or_never().is_none());
        assert!(two.wanted().now_or_never().is_some());
        drop(four);
        assert!(fifth.now_or_never().is_some());
    }

    #[test]
    fn a_place_that_nobody_fetches_is_not_lost() {
        let places = Places::new(1);
        let one = places.take().now_or_never().unwrap();
        {
            let mut second = pin!(places.take());
            assert!(second.as_mut().now_or_never().is_none());
            drop(one);
        }
        assert!(places.take().now_or_never().is_some());
    }
}
