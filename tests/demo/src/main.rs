//! The demo: a real nats-server, the simulated services and the real daemon, with everything that passes shown as it
//! passes.
//!
//! It takes about 20 seconds, or with `--forever` until Ctrl-C, and ends with a table of what went where. It exits
//! with 0 only if every event and every call was seen, once, in order, and is in the instance's stream.
//!
//! `pontoon-demo simulators sub0=127.0.0.1:7101 …` runs [`simulators`] alone.
//!
//! [`services`] holds the services, [`show`] what happens, [`flows`] what should be received of it, and
//! [`report`] whether it was.

mod calls;
mod event;
mod flows;
mod report;
mod scenario;
mod services;
mod show;
mod simulators;
mod stream;
mod view;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use pontoon_testkit::{Daemon, DaemonConfig, NatsServer, eventually};
use tokio::signal::unix::{SignalKind, signal};

use scenario::Scenario;
use services::Service;
use show::Show;
use view::View;

const LENGTH: Duration = Duration::from_secs(20);
/// How long the daemon may take to start, and to end.
const START: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let forever = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--forever"] => true,
        ["simulators", _, ..] => return exit(simulators::run(&arguments[1..]).await.map(|()| true)),
        _ => {
            eprintln!("usage: pontoon-demo [--forever | simulators TYPE=ADDRESS…]");
            return ExitCode::from(2);
        }
    };
    exit(run(forever).await)
}

/// The exit code.
fn exit(outcome: Result<bool, Box<dyn Error + Send + Sync>>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pontoon-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether everything was as it should be.
async fn run(forever: bool) -> Result<bool, Box<dyn Error + Send + Sync>> {
    // From now on it is up to us to end what we start.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let nats = NatsServer::options().own_group().start().await;
    let client = nats.client().await;
    let events = client.subscribe("pontoon.event.>").await?;
    // The server has the subscription before anything is published over another connection.
    calls::round_trip(&client).await?;

    let services = services::all().await;
    let nothing = DaemonConfig::new(&nats).own_group();
    let config = services.iter().fold(nothing, |config, service| service.configure(config));
    let mut daemon = Daemon::start(Daemon::binary_nearby(), config);
    let view = View::new();
    introduce(&view, &nats, &services, &daemon.admin().await);
    for service in &services {
        let ready = async || service.is_listened_to() && calls::is_ready(&client, &**service).await;
        eventually(START, ready).await;
    }
    let view = view.begin();
    view.legend();
    match forever {
        true => view.print("Ctrl-C ends it.\n"),
        false => view.print(&format!("This takes {} s; Ctrl-C ends it sooner.\n", LENGTH.as_secs())),
    }

    let scenarios = services.into_iter().map(Scenario::new).collect();
    let mut show = Show::new(scenarios, view, client.clone(), events);
    let is_whole = show.play((!forever).then_some(LENGTH), &mut interrupt).await;
    show.settle(&mut interrupt).await;
    daemon.signal("TERM");
    let exit = daemon.wait_exit(START).await;
    show.catch_up().await?;
    let mut kept = Vec::new();
    for scenario in &show.scenarios {
        kept.push(stream::read(&client, scenario.service.instance()).await?);
    }
    let is_good = report::report(&show.view, &show.scenarios, &kept, exit, !is_whole);
    if !is_good {
        eprintln!("\nThe daemon's log:\n{}", daemon.log());
    }
    Ok(is_good)
}

/// Who takes part, and where.
fn introduce(view: &View, nats: &NatsServer, services: &[Box<dyn Service>], admin: &str) {
    view.print(&format!("{:<10} {}", "NATS", nats.url()));
    for service in services {
        let instance = format!("instance {}", service.instance());
        view.print(&format!(
            "{:<10} {:<27} {instance:<18} {}",
            service.name(),
            service.url(),
            service.note()
        ));
    }
    view.print(&format!("{:<10} http://{admin}/status  /metrics  /readyz\n", "pontoon"));
}
