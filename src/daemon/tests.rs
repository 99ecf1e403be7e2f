//! Tests: an instance that crashes is started again, and its neighbour is not affected.

use std::time::Duration;

use super::*;
use crate::instance::{Context, Run};
use crate::settings::{Config, Instance, Urls};

/// An instance that panics.
struct Faulty;

impl Run for Faulty {
    fn kind(&self) -> &'static str {
        "sub0"
    }

    fn operations(&self) -> Vec<pontoon_sdk::Operation> {
        Vec::new()
    }

    fn run(self: Box<Self>, _: Context) {
        panic!("a panic for the test");
    }
}

/// Two instances, with neither a service nor a NATS server to connect to.
fn config() -> Config {
    let mut config = Config::default();
    config.nats.url = Urls::One("nats://127.0.0.1:1".to_owned());
    for name in ["faulty", "sound"] {
        let settings = [("url".to_owned(), "ws://127.0.0.1:1/ws".into())].into_iter().collect();
        let instance =
            Instance { kind: "sub0".into(), enabled: true, transport: Default::default(), settings };
        config.connectors.insert(name.to_owned(), instance);
    }
    config
}

fn ended(daemon: &Daemon) -> Vec<String> {
    let snapshots = daemon.statuses.snapshots().into_iter().filter(|snapshot| !snapshot.running);
    snapshots.map(|snapshot| snapshot.status.instance).collect()
}

/// Why the daemon is not ready, apart from the missing NATS server.
fn unready(daemon: &Daemon) -> Vec<String> {
    let reasons = daemon.statuses.unready().into_iter();
    reasons.filter(|reason| !reason.contains("not subscribed to commands yet")).collect()
}

#[tokio::test]
async fn an_instance_that_panics_is_started_again_and_counted_and_its_neighbour_is_not_affected() {
    let exporter = metrics::install().unwrap();
    let registry = Registry::new().with::<pontoon_sub0::Sub0>();
    let mut daemon = Daemon::new(registry, Sources::default(), DaemonMetrics::new(), exporter.clone());
    daemon.config = config();
    daemon.start_instance("faulty", Prepared { name: "faulty".into(), run: Box::new(Faulty) });
    let settings = &daemon.config.connectors["sound"].settings;
    let sound = daemon.registry.get("sub0").unwrap().build(settings).ok().unwrap();
    daemon.start_instance("sound", Prepared { name: "sound".into(), run: sound });
    let epoch = |daemon: &Daemon, name: &str| daemon.running[name].handle.status.borrow().epoch;
    let (first, neighbour) = (epoch(&daemon, "faulty"), epoch(&daemon, "sound"));

    let mut seen = false;
    let end = Instant::now() + Duration::from_secs(20);
    while !seen || !daemon.running.contains_key("faulty") {
        assert!(Instant::now() < end, "it is not started again");
        daemon.tick();
        if ended(&daemon) == ["faulty"] {
            seen = true;
            assert!(daemon.statuses.stuck(Duration::ZERO).iter().all(|name| name != "faulty"));
            assert_eq!(unready(&daemon), ["faulty ended unexpectedly and is started again"]);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(ended(&daemon).is_empty() && unready(&daemon).is_empty());
    assert!(epoch(&daemon, "faulty") > first);
    assert_eq!(epoch(&daemon, "sound"), neighbour);
    let counted = exporter.render();
    for line in [
        "pontoon_instance_restarts_total{pontoon_instance=\"faulty\",type=\"sub0\"} 1\n",
        "pontoon_instance_restarts_total{pontoon_instance=\"sound\",type=\"sub0\"} 0\n",
    ] {
        assert!(counted.contains(line), "{counted}");
    }
    for running in daemon.running.values() {
        running.handle.stop();
    }
}
