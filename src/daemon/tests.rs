//! Tests: an instance that crashes or hangs, beside another one on the same thread.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::*;
use crate::bus::connections::Connections;
use crate::instance::{Context, Run};
use crate::settings::{Config, Instance, Urls};

/// An instance that panics.
struct Faulty;

impl Run for Faulty {
    fn kind(&self) -> &'static str {
        "sub0"
    }

    fn operations(&self, _: bool) -> Vec<pontoon_sdk::Operation> {
        Vec::new()
    }

    fn run(self: Box<Self>, _: Context, _: Connections) -> LocalBoxFuture<'static, ()> {
        async { panic!("a panic for the test") }.boxed_local()
    }
}

/// An instance that keeps its thread busy until it is released.
struct Spinning(Arc<AtomicBool>);

impl Run for Spinning {
    fn kind(&self) -> &'static str {
        "sub0"
    }

    fn operations(&self, _: bool) -> Vec<pontoon_sdk::Operation> {
        Vec::new()
    }

    fn run(self: Box<Self>, _: Context, _: Connections) -> LocalBoxFuture<'static, ()> {
        async move {
            while !self.0.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        }
        .boxed_local()
    }
}

/// An instance that counts its turns.
struct Counting(Arc<AtomicUsize>);

impl Run for Counting {
    fn kind(&self) -> &'static str {
        "sub0"
    }

    fn operations(&self, _: bool) -> Vec<pontoon_sdk::Operation> {
        Vec::new()
    }

    fn run(self: Box<Self>, _: Context, _: Connections) -> LocalBoxFuture<'static, ()> {
        async move {
            loop {
                self.0.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        .boxed_local()
    }
}

/// The metrics of the process.
static EXPORTER: LazyLock<Exporter> = LazyLock::new(|| metrics::install().unwrap());

/// A daemon with one thread for all instances.
fn daemon(instances: [&str; 2]) -> Daemon {
    let registry = Registry::new().with::<pontoon_sub0::Sub0>();
    let mut daemon = Daemon::new(registry.into(), Sources::default(), DaemonMetrics::new(), EXPORTER.clone());
    (daemon.config, daemon.workers) = (config(instances), Workers::new(1));
    daemon
}

fn epoch(daemon: &Daemon, name: &str) -> u64 {
    daemon.running[name].handle.status.borrow().epoch
}

/// Two instances, with neither a service nor a NATS server to connect to.
fn config(names: [&str; 2]) -> Config {
    let mut config = Config::default();
    config.nats.url = Urls::One("nats://127.0.0.1:1".to_owned());
    for name in names {
        let settings = [("url".to_owned(), "ws://127.0.0.1:1/ws".into())].into_iter().collect();
        let instance = Instance {
            kind: "sub0".into(),
            enabled: true,
            isolation: Default::default(),
            transport: Default::default(),
            cluster: Default::default(),
            revision: 0,
            settings,
        };
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
    let mut daemon = daemon(["faulty", "sound"]);
    daemon.start_instance("faulty", Prepared { name: "faulty".into(), run: Box::new(Faulty) }, None);
    let settings = &daemon.config.connectors["sound"].settings;
    let sound = daemon.registry.get("sub0").unwrap().build(settings).ok().unwrap();
    daemon.start_instance("sound", Prepared { name: "sound".into(), run: sound }, None);
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
        tokio::time::sleep(TICK).await;
    }
    assert!(ended(&daemon).is_empty() && unready(&daemon).is_empty());
    assert!(epoch(&daemon, "faulty") > first);
    assert_eq!(epoch(&daemon, "sound"), neighbour);
    let counted = EXPORTER.render();
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

#[tokio::test]
async fn an_instance_that_hangs_is_named_and_its_neighbour_goes_on_once_on_another_thread() {
    let mut daemon = daemon(["hangs", "counts"]);
    let (released, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    daemon.start_instance(
        "counts",
        Prepared { name: "counts".into(), run: Box::new(Counting(turns.clone())) },
        None,
    );
    let first = epoch(&daemon, "counts");
    let end = Instant::now() + Duration::from_secs(60);
    let wait = async |what: &str| {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    while turns.load(Ordering::Relaxed) == 0 {
        wait("it does not run").await;
    }
    let spinning = Spinning(released.clone());
    daemon.start_instance("hangs", Prepared { name: "hangs".into(), run: Box::new(spinning) }, None);
    let stuck = epoch(&daemon, "hangs");
    while daemon.running.get("counts").is_none_or(|running| running.handle.status.borrow().epoch == first) {
        daemon.tick();
        wait("it is not started again").await;
    }
    // The new one runs, and the one that hangs is found by its heartbeat.
    let limit = Duration::from_secs(2);
    while daemon.statuses.stuck(limit) != ["hangs"] {
        daemon.tick();
        wait("the wrong ones are stuck").await;
    }
    assert_eq!((epoch(&daemon, "hangs"), Arc::strong_count(&turns)), (stuck, 2));
    // Should the thread go on, nothing goes on there that was given up.
    let before = turns.load(Ordering::Relaxed);
    released.store(true, Ordering::Relaxed);
    while Arc::strong_count(&turns) > 1 {
        wait("what was given up is still there").await;
    }
    assert_eq!(turns.load(Ordering::Relaxed), before);
    for running in daemon.running.values() {
        running.handle.stop();
    }
}
