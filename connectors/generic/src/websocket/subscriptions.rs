//! What callers have subscribed to: kept beside the link, and asked for again on each connection.

use std::collections::BTreeSet;

use pontoon_sdk::Join;

use crate::mapping::ValueOf;
use crate::websocket::config::{Config, Subscriptions};
use crate::websocket::ids::RequestIds;
use crate::websocket::operations::{Outgoing, about_body};

/// The subscriptions of one connection.
#[derive(Default)]
pub(crate) struct Again {
    /// Those that were not asked for again yet.
    waiting: Vec<Join>,
    /// The numbers of those that were, until they are answered.
    asked: BTreeSet<u64>,
}

impl Again {
    /// What is to be asked for again once the connection is ready.
    pub(crate) fn new(joins: &[Join]) -> Self {
        Self { waiting: joins.to_vec(), asked: BTreeSet::new() }
    }

    /// The frames that ask again, each with the key of its subscription; once.
    pub(crate) fn frames<'a>(
        &'a mut self,
        config: &'a Config,
        ids: &'a RequestIds,
        named: ValueOf<'a>,
    ) -> impl Iterator<Item = (String, pontoon_sdk::websocket::Frame)> + 'a {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter_map(move |join| {
            let Subscriptions { subscribe, acknowledged, .. } = config.subscriptions.as_ref()?;
            // What could be sent once can be sent again.
            let Outgoing { frame, id, .. } =
                about_body(subscribe, &join.data, *acknowledged, config, ids, named).ok()?;
            self.asked.extend(id);
            Some((join.key, frame))
        })
    }

    /// Whether this is the number of one that was asked for again; it is answered once.
    pub(crate) fn answered(&mut self, id: u64) -> bool {
        self.asked.remove(&id)
    }
}
