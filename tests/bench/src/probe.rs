//! What Pontoon makes of the first event of a task. The others are to make the same of it: subject, headers, body, stream.

use std::io;

use async_nats::jetstream::stream;

use crate::contender::{Contender, Task};
use crate::runs::Bench;
use crate::tally::Form;

/// What Pontoon publishes.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) form: Form,
    /// What subjects begin with, up to the channel.
    pub(crate) subject: String,
    pub(crate) ce_type: String,
    pub(crate) upstream: String,
    /// Of the stream that it created.
    pub(crate) stream: Option<stream::Config>,
}

impl Shape {
    /// Has Pontoon publish one event.
    pub(crate) fn of(bench: &Bench, task: Task, size: usize) -> io::Result<Self> {
        let mut run = bench.start(Contender::Pontoon, task, None)?;
        let subscriber = run.subscribe(task)?;
        run.send_one(size)?;
        run.wait("the first event", |_| subscriber.tally().distinct > 0)?;
        let tally = subscriber.tally();
        let form = tally.form.clone().ok_or_else(|| io::Error::other("there is no event"))?;
        let header = |name: &str| tally.header(name).unwrap_or_default().to_owned();
        let (ce_type, upstream) = (header("ce-type"), header("ce-upstreamevent"));
        let subject =
            form.subject.rsplit_once('.').map(|(before, _)| format!("{before}.")).unwrap_or_default();
        let stream = run.stream_config(task)?;
        drop(tally);
        Ok(Self { form, subject, ce_type, upstream, stream })
    }
}
