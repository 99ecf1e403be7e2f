//! The reply to a command whose answer has come.

use pontoon_sdk::{DeliveryLevel, Reply};
use serde_json::value::RawValue;

/// The reply with the data of an answer, to a command that is promised no more than `delivery`.
pub(crate) fn reply(delivery: DeliveryLevel, data: Box<RawValue>) -> Reply {
    match delivery {
        DeliveryLevel::Response => Reply::Response(data),
        DeliveryLevel::Accepted | DeliveryLevel::Sent | DeliveryLevel::Acked => Reply::Acked(data),
    }
}
