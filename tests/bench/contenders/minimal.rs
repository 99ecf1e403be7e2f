//! The loop that a careful engineer writes in Rust in an afternoon: tokio-tungstenite, one parse into borrowed fields,
//! async-nats with the same headers, one thread. It does not reconnect, and keeps nothing that it has read.

mod calls;
mod events;
mod job;
mod links;
mod publish;

use job::{Job, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let job = Job::read()?;
    let run = async {
        match job.task.as_str() {
            "events" if job.url.starts_with("http") => events::socketio(&job).await,
            "events" => events::websocket(&job).await,
            "calls" => calls::one_by_one(&job).await,
            "calls-at-once" => calls::at_once(&job).await,
            "links" => links::run(&job).await,
            task => Err(format!("there is no task {task}").into()),
        }
    };
    tokio::task::LocalSet::new().run_until(run).await
}
