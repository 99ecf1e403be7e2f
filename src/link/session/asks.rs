//! Requests over NATS that the session makes, and their answers.

use std::future::ready;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use pontoon_sdk::{Code, Error, Raw, Result};

use crate::link::context::Context;

/// How many may be under way.
const MOST: usize = 64;

/// Those that are under way, each with its number.
pub(super) type Asks = FuturesUnordered<LocalBoxFuture<'static, (u64, Result<Raw>)>>;

/// Sends a request, unless there are too many.
pub(super) fn ask(asks: &Asks, context: &Context, number: u64, subject: String, body: &Raw) {
    let answer = if asks.len() < MOST {
        context.requester.request(subject, body).boxed_local()
    } else {
        let text = format!("{MOST} requests over NATS are under way already");
        ready(Err(Error::rejected(Code::TooMany, text))).boxed_local()
    };
    asks.push(answer.map(move |answer| (number, answer)).boxed_local());
}
