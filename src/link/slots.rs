//! Slots for the links that are open on demand: no more are open than the connector allows, and an idle link gives its slot
//! to one that waits. Those that wait get slots in order.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::{Notify, oneshot};

/// The slots of one instance.
pub struct Slots {
    state: RefCell<State>,
    wanted: Notify,
}

struct State {
    free: usize,
    waiting: VecDeque<oneshot::Sender<Slot>>,
    /// How many are about to be released because another link waits.
    releasing: usize,
}

/// One of them, released when it is dropped.
pub struct Slot {
    slots: Rc<Slots>,
    releasing: bool,
}

impl Slots {
    /// This many.
    pub fn new(limit: usize) -> Rc<Self> {
        let state = State { free: limit, waiting: VecDeque::new(), releasing: 0 };
        Rc::new(Self { state: RefCell::new(state), wanted: Notify::new() })
    }

    /// Waits for a slot. Dropping the future loses none.
    pub async fn acquire(self: &Rc<Self>) -> Slot {
        loop {
            let given = {
                let mut state = self.state();
                if state.free > 0 {
                    state.free -= 1;
                    return Slot { slots: self.clone(), releasing: false };
                }
                let (giver, given) = oneshot::channel();
                state.waiting.push_back(giver);
                given
            };
            self.wanted.notify_waiters();
            if let Ok(slot) = given.await {
                return slot;
            }
        }
    }

    fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }
}

impl Slot {
    /// Waits until a link waits for a slot and no other slot is about to be released for it.
    pub async fn wanted(&self) {
        loop {
            let wanted = self.slots.wanted.notified();
            if self.slots.state().is_wanted() {
                return;
            }
            wanted.await;
        }
    }

    /// It will be released soon, because it is wanted.
    pub fn release_soon(&mut self) {
        if !std::mem::replace(&mut self.releasing, true) {
            self.slots.state().releasing += 1;
        }
    }
}

impl State {
    fn is_wanted(&mut self) -> bool {
        self.waiting.retain(|giver| !giver.is_closed());
        self.waiting.len() > self.releasing
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let next = {
            let mut state = self.slots.state();
            state.releasing -= usize::from(self.releasing);
            state.waiting.retain(|giver| !giver.is_closed());
            match state.waiting.pop_front() {
                Some(giver) => giver,
                None => {
                    state.free += 1;
                    return;
                }
            }
        };
        // If the receiver is gone meanwhile, the slot is dropped again, and goes to the next.
        let _ = next.send(Slot { slots: self.slots.clone(), releasing: false });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn no_more_are_acquired_than_there_are_and_those_that_wait_are_served_in_order() {
        let slots = Slots::new(2);
        let one = slots.acquire().now_or_never().unwrap();
        let two = slots.acquire().now_or_never().unwrap();
        let mut third = pin!(slots.acquire());
        let mut fourth = pin!(slots.acquire());
        assert!(third.as_mut().now_or_never().is_none() && fourth.as_mut().now_or_never().is_none());
        drop(two);
        assert!(fourth.as_mut().now_or_never().is_none());
        let three = third.now_or_never().unwrap();
        drop((one, three));
        assert!(fourth.now_or_never().is_some());
        assert_eq!(slots.state().free, 2);
    }

    #[test]
    fn one_is_released_for_each_that_waits() {
        let slots = Slots::new(2);
        let mut one = slots.acquire().now_or_never().unwrap();
        let two = slots.acquire().now_or_never().unwrap();
        assert!(one.wanted().now_or_never().is_none());
        {
            let mut third = pin!(slots.acquire());
            {
                let mut waits = pin!(one.wanted());
                assert!(waits.as_mut().now_or_never().is_none());
                assert!(third.as_mut().now_or_never().is_none());
                assert!(waits.now_or_never().is_some());
            }
            one.release_soon();
            assert!(two.wanted().now_or_never().is_none());
        }
        // The third gave up, so none is served, and the next one is not forgotten.
        drop(one);
        let four = slots.acquire().now_or_never().unwrap();
        let mut fifth = pin!(slots.acquire());
        assert!(fifth.as_mut().now_or_never().is_none());
        assert!(two.wanted().now_or_never().is_some());
        drop(four);
        assert!(fifth.now_or_never().is_some());
    }

    #[test]
    fn a_slot_whose_receiver_is_gone_is_not_lost() {
        let slots = Slots::new(1);
        let one = slots.acquire().now_or_never().unwrap();
        {
            let mut second = pin!(slots.acquire());
            assert!(second.as_mut().now_or_never().is_none());
            drop(one);
        }
        assert!(slots.acquire().now_or_never().is_some());
    }
}
