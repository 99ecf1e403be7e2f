//! The demo: a real nats-server, the Sub0 simulator and the real daemon, with everything that passes shown as it passes.
//!
//! It takes about 20 seconds, or with `--forever` until Ctrl-C, and ends with a table of what went where. It exits
//! with 0 only if every event and every call was seen, once, in order, and is in the stream.

mod calls;
mod stream;
mod tally;
mod view;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt as _;
use pontoon_testkit::{Daemon, DaemonConfig, NatsServer, Resource, Sub0, eventually};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use calls::{Call, Outcome};
use tally::Tally;
use view::View;

const LENGTH: Duration = Duration::from_secs(20);
/// How long what is under way may take to arrive once nothing new is said.
const SETTLE: Duration = Duration::from_secs(15);
const START: Duration = Duration::from_secs(30);
const BROADCAST_EVERY: Duration = Duration::from_millis(400);
const CALL_EVERY: Duration = Duration::from_secs(1);

/// The instance that the demo configures.
const INSTANCE: &str = "demo";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let forever = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--forever"] => true,
        _ => {
            eprintln!("usage: pontoon-demo [--forever]");
            return ExitCode::from(2);
        }
    };
    match run(forever).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pontoon-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether everything was as it should be.
async fn run(forever: bool) -> Result<bool, Box<dyn Error>> {
    // Groups of their own: on Ctrl-C we end them, in order.
    let nats = NatsServer::options().own_group().start().await;
    let sub0 = Sub0::start().await;
    let config = DaemonConfig::new(&nats).sub0(INSTANCE, &sub0).own_group();
    let mut daemon = Daemon::start(Daemon::binary_nearby(), config);
    let view = View::new();
    view.say(&format!("nats-server        {}", nats.url()));
    view.say(&format!("Sub0, simulated    {}", sub0.url()));
    view.say(&format!("pontoon            http://{}/status  /metrics  /readyz", daemon.admin().await));
    let client = nats.client().await;
    eventually(START, async || calls::ready(&client, INSTANCE).await).await;
    let mut events = client.subscribe("pontoon.event.>").await?;
    // The server has the subscription before anything is published over another connection.
    calls::round_trip(&client).await?;
    match forever {
        true => view.say("Ctrl-C ends it.\n"),
        false => view.say(&format!("This takes {} s; Ctrl-C ends it sooner.\n", LENGTH.as_secs())),
    }

    let mut tally = Tally::default();
    let (answered, mut answers) = mpsc::unbounded_channel::<Outcome>();
    let mut broadcasts = steady(BROADCAST_EVERY);
    let mut calls = steady(CALL_EVERY);
    let stop = sleep_until(Instant::now() + LENGTH);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop, if !forever => break,
            _ = tokio::signal::ctrl_c() => break,
            _ = broadcasts.tick() => {
                let number = tally.broadcast();
                sub0.broadcast("wallet_balance_update", &json!({"number": number, "wallet_balance": 100 + number}));
            }
            _ = calls.tick() => {
                let number = tally.called();
                // A balance that nobody could have guessed: the answer comes from the service.
                sub0.resource("fetch-balance", Resource::data(json!({"wallet_balance": 1000 + number})));
                let call = Call::fetch_balance(INSTANCE, number);
                view.call(&call);
                let (client, answered) = (client.clone(), answered.clone());
                tokio::spawn(async move { answered.send(call.make(client).await) });
            }
            Some(outcome) = answers.recv() => tally.answer(&view, outcome),
            Some(event) = events.next() => tally.event(&view, &event),
        }
    }

    let rest = async {
        while !tally.is_complete() {
            tokio::select! {
                Some(outcome) = answers.recv() => tally.answer(&view, outcome),
                Some(event) = events.next() => tally.event(&view, &event),
            }
        }
    };
    // What has not come by then is missing, and the table says so.
    timeout(SETTLE, rest).await.ok();
    let kept = stream::read(&client, &format!("PONTOON_{}", INSTANCE.to_uppercase())).await;
    daemon.signal("TERM");
    let exit = daemon.wait_exit(START).await;
    Ok(tally.report(&view, kept, exit))
}

/// Ticks that are late are not made up for.
fn steady(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
