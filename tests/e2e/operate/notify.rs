//! The service manager: what it receives from a daemon that it started, over a socket as systemd's.

use std::os::unix::net::UnixDatagram;

use pontoon_testkit::{Dir, until_some};

use super::*;

/// How often it wants a watchdog message, in microseconds.
const WATCHDOG: &str = "400000";

/// The service manager's end of the socket.
struct NotifySocket {
    socket: UnixDatagram,
    dir: Dir,
}

impl NotifySocket {
    fn new() -> Self {
        let dir = Dir::new("notify");
        let socket = UnixDatagram::bind(dir.path().join("socket")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, dir }
    }

    /// The daemon is started by it.
    fn starts(&self, config: DaemonConfig) -> DaemonConfig {
        config
            .environment("NOTIFY_SOCKET", self.dir.path().join("socket").to_str().unwrap())
            .environment("WATCHDOG_USEC", WATCHDOG)
    }

    /// The next datagram that was not read yet, as lines.
    fn next(&self) -> Option<Vec<String>> {
        let mut datagram = [0; 4096];
        let length = self.socket.recv(&mut datagram).ok()?;
        Some(std::str::from_utf8(&datagram[..length]).unwrap().lines().map(str::to_owned).collect())
    }

    /// Waits for a datagram with a line that begins so. Returns its lines.
    async fn receives(&self, start: &str) -> Vec<String> {
        until_some(DEADLINE, async || {
            let matches = |lines: &Vec<String>| lines.iter().any(|line| line.starts_with(start));
            std::iter::from_fn(|| self.next()).find(matches)
        })
        .await
    }
}

#[tokio::test]
async fn it_is_notified_of_start_watchdog_reload_and_stop() {
    let notify = NotifySocket::new();
    let (nats, sub0) = (NatsServer::start().await, Sub0::start().await);
    let config = || notify.starts(DaemonConfig::new(&nats).sub0("shop", &sub0));
    let mut daemon = start(config());
    // In either order, as each is reported once it is so.
    let mut wanted = vec!["READY=1", "STATUS=instances: 1, links ready: 1 of 1"];
    while !wanted.is_empty() {
        let lines = notify.receives("").await;
        wanted.retain(|start| !lines.iter().any(|line| line.starts_with(start)));
    }
    assert_eq!(status(&mut daemon, "shop").await["running"], true);
    eventually(DEADLINE, async || daemon.get("/readyz").await == (200, "ok\n".to_owned())).await;
    for _ in 0..3 {
        notify.receives("WATCHDOG=1").await;
    }

    // A daemon that is stopped sends nothing until it is continued.
    daemon.freeze();
    while notify.next().is_some() {}
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(notify.next(), None);
    daemon.thaw();
    notify.receives("WATCHDOG=1").await;

    for file in [config(), DaemonConfig::new(&nats).with("not toml [")] {
        daemon.reconfigure(file);
        daemon.signal("HUP");
        let lines = notify.receives("RELOADING=1").await;
        let time = lines.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(time.parse::<u64>().unwrap() > 0, "{lines:?}");
        notify.receives("READY=1").await;
    }

    daemon.signal("TERM");
    let lines = notify.receives("STOPPING=1").await;
    assert!(lines.contains(&"EXTEND_TIMEOUT_USEC=25000000".to_owned()), "{lines:?}");
    assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0), "{}", daemon.log());
}

#[tokio::test]
async fn without_nats_and_without_the_service_the_daemon_runs_all_the_same() {
    let notify = NotifySocket::new();
    let settings = "url = \"ws://127.0.0.1:1/ws\"";
    let config = DaemonConfig::with_nats_url("nats://127.0.0.1:1").connector("shop", "sub0", settings);
    let _daemon = start(notify.starts(config));
    // A manager that waited for NATS would end the daemon, and with it what it keeps.
    notify.receives("STATUS=instances: 1, links ready: 0 of 1; shop: not subscribed to commands yet").await;
    notify.receives("READY=1").await;
    notify.receives("WATCHDOG=1").await;
}

#[tokio::test]
async fn a_manager_that_reads_nothing_or_is_missing_delays_nothing() {
    let (nats, sub0) = (NatsServer::start().await, Sub0::start().await);
    // This socket is not read, and its queue is short.
    let unread = NotifySocket::new();
    let config = DaemonConfig::new(&nats).sub0("shop", &sub0);
    let gone = config.clone().environment("NOTIFY_SOCKET", "/nowhere/at/all");
    let hurried = unread.starts(config).environment("WATCHDOG_USEC", "1");
    for (config, expected) in [(hurried, 0), (gone, 1)] {
        let mut daemon = start(config);
        publishing(&mut daemon, "shop").await;
        let before = daemon.metrics().await.value("pontoon_events_published_total", &[]).unwrap();
        for n in 0..50 {
            sub0.broadcast("tick", &serde_json::json!(n));
        }
        counted(&mut daemon, "pontoon_events_published_total", "shop", before + 50.0).await;
        daemon.signal("TERM");
        assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0), "{}", daemon.log());
        let warnings = daemon.logged("the service manager cannot be notified").len();
        assert_eq!(warnings, expected, "{}", daemon.log());
    }
}
