//! What happens while the demo runs: services send and are called in turn, and what comes of it is shown.

use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::calls::{Reply, round_trip};
use crate::event::Event;
use crate::scenario::Scenario;
use crate::view::View;

/// Services take turns at this pace, so that people can follow.
const TURN: Duration = Duration::from_millis(500);
/// How long what is under way may take to arrive once nothing new is sent.
const SETTLE: Duration = Duration::from_secs(30);

/// The services, and the flows of what they send.
pub(crate) struct Show {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) view: View,
    client: Client,
    events: Subscriber,
    replies: mpsc::UnboundedReceiver<(usize, Reply)>,
    replied: mpsc::UnboundedSender<(usize, Reply)>,
    turns: usize,
}

impl Show {
    pub(crate) fn new(scenarios: Vec<Scenario>, view: View, client: Client, events: Subscriber) -> Self {
        let (replied, replies) = mpsc::unbounded_channel();
        Self { scenarios, view, client, events, replies, replied, turns: 0 }
    }

    /// Runs for this long, or until it is interrupted. Returns whether it was not.
    pub(crate) async fn play(&mut self, length: Option<Duration>, interrupt: &mut Signal) -> bool {
        let mut turns = interval(TURN);
        // Turns that are late are not made up for.
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = sleep_until(Instant::now() + length.unwrap_or_default());
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end, if length.is_some() => return true,
                _ = interrupt.recv() => return false,
                _ = turns.tick() => self.turn(),
                () = self.take_in() => {}
            }
        }
    }

    /// Waits until all that was sent was received. What has not come after a while is missing, and the table shows it.
    /// Another interrupt ends it at once.
    pub(crate) async fn settle(&mut self, interrupt: &mut Signal) {
        let rest = async {
            while !self.scenarios.iter().all(Scenario::is_complete) {
                self.take_in().await;
            }
        };
        tokio::select! {
            _ = timeout(SETTLE, rest) => {}
            _ = interrupt.recv() => {}
        }
    }

    /// Takes in what the server has for us by now.
    pub(crate) async fn catch_up(&mut self) -> Result<(), async_nats::Error> {
        round_trip(&self.client).await?;
        while self.take_in().now_or_never().is_some() {}
        Ok(())
    }

    /// First all services send, then all are called, and so on.
    fn turn(&mut self) {
        let place = self.turns % self.scenarios.len();
        let sends = (self.turns / self.scenarios.len()).is_multiple_of(2);
        self.turns += 1;
        let Some(scenario) = self.scenarios.get_mut(place) else { return };
        if sends {
            return scenario.service.send_next();
        }
        let Some(call) = scenario.call() else { return };
        self.view.call(scenario.service.name(), &call);
        let (client, replied) = (self.client.clone(), self.replied.clone());
        tokio::spawn(async move {
            // Nothing reads it once the show is over.
            call.make(client, |reply| drop(replied.send((place, reply)))).await;
        });
    }

    /// The next event or reply.
    async fn take_in(&mut self) {
        tokio::select! {
            Some((place, reply)) = self.replies.recv() => {
                let Some(scenario) = self.scenarios.get_mut(place) else { return };
                self.view.reply(scenario.service.name(), &reply);
                scenario.reply(reply);
            }
            Some(message) = self.events.next() => {
                let event = Event::read(message.subject.as_str(), message.headers.as_ref(), &message.payload);
                let mut scenarios = self.scenarios.iter_mut();
                let Some(scenario) = scenarios.find(|scenario| scenario.service.instance() == event.instance()) else { return };
                self.view.event(scenario.service.name(), &event);
                scenario.event(&event);
            }
        }
    }
}
