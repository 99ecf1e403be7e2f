//! The threads of instances: shared, or one to itself, and gone with the last instance.

use serde_json::json;

use super::reload::reload;
use super::*;

/// The names of the threads that run instances.
fn workers(daemon: &Daemon) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap().flatten();
    // A thread may end meanwhile.
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    let mut names: Vec<_> = names.map(|name| name.trim().to_owned()).collect();
    names.retain(|name| name.starts_with("worker-") || name.starts_with("instance "));
    names.sort();
    names
}

#[tokio::test]
async fn instances_share_threads_and_one_that_is_removed_leaves_nothing() {
    let nats = NatsServer::start().await;
    let (kept, own) = (Sub0::start().await, Sub0::start().await);
    let others = [Sub0::start().await, Sub0::start().await, Sub0::start().await];
    let base = || DaemonConfig::new(&nats).sub0("kept", &kept);
    let mut daemon = start(base());
    publishing(&mut daemon, "kept").await;
    assert_eq!(workers(&daemon), ["worker-1"]);
    let files = daemon.open_files();

    let names = ["one", "two", "new"];
    let mut more = base().sub0("own", &own).with("isolation = \"own\"");
    for (name, sub0) in names.iter().zip(&others) {
        more = more.sub0(name, sub0);
    }
    reload(&mut daemon, more, "applied").await;
    for name in names.iter().chain(&["own", "kept"]) {
        publishing(&mut daemon, name).await;
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    let running = workers(&daemon);
    let (isolated, shared): (Vec<_>, Vec<_>) = running.iter().partition(|name| name.starts_with("instance "));
    assert_eq!(isolated, ["instance own"]);
    assert!(shared.len() <= cores && shared.len() == cores.min(4), "{running:?} on {cores} cores");

    reload(&mut daemon, base(), "applied").await;
    // The first count may hold a request to the admin endpoint that was just answered.
    eventually(DEADLINE, async || workers(&daemon) == ["worker-1"] && daemon.open_files() <= files).await;
    kept.broadcast("tick", &json!(1));
    counted(&mut daemon, "pontoon_events_published_total", "kept", 2.0).await;
}
