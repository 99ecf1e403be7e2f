//! What callers have subscribed to: kept beside the link, and asked for again on each connection.

use std::collections::BTreeSet;

use pontoon_sdk::json::text as text_of;
use pontoon_sdk::{Code, Error, Join, Outbox, Result};
use serde_json::value::RawValue;

use crate::mapping::{Json, ValueOf};
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

    /// The frames that ask again, once.
    pub(crate) fn frames<'a>(
        &'a mut self,
        config: &'a Config,
        ids: &'a RequestIds,
        named: ValueOf<'a>,
    ) -> impl Iterator<Item = pontoon_sdk::websocket::Frame> + 'a {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter_map(move |join| {
            let Subscriptions { subscribe, acknowledged, .. } = config.subscriptions.as_ref()?;
            // What could be sent once can be sent again.
            let Outgoing { frame, id, .. } =
                about_body(subscribe, &join.data, *acknowledged, config, ids, named).ok()?;
            self.asked.extend(id);
            Some(frame)
        })
    }

    /// Whether this is the number of one that was asked for again; it is answered once.
    pub(crate) fn answered(&mut self, id: u64) -> bool {
        self.asked.remove(&id)
    }
}

/// The join of a caller's body.
///
/// # Errors
/// `Rejected` if the body lacks what tells subscriptions apart.
pub(crate) fn join(settings: &Subscriptions, body: &RawValue) -> Result<Join> {
    let key = match &settings.key {
        None => Some(body.get().to_owned()),
        Some(key) => {
            key.find(&Json::new(body.get())).map(|found| text_of(found).unwrap_or_else(|| found.to_owned()))
        }
    };
    let key = key.ok_or_else(|| {
        let at = settings.key.as_ref().map_or("", |key| key.as_str());
        Error::rejected(Code::BadBody, format!("the body lacks {at}, which tells subscriptions apart")).at(at)
    })?;
    Ok(Join { key, data: body.to_owned() })
}

/// The bodies of all subscriptions, as a list.
pub(crate) fn list<F>(out: &Outbox<F>) -> Result<Box<RawValue>> {
    let bodies: Vec<_> = out.joins().iter().map(|join| join.data.get()).collect();
    RawValue::from_string(format!("[{}]", bodies.join(",")))
        .map_err(|error| Error::internal(error.to_string()))
}
