//! Streams in another JetStream domain than that of the server we are connected to: a leaf node and its hub.

use std::fs;

use async_nats::jetstream;
use pontoon_testkit::{DaemonConfig, Dir, NatsServer, Sub0, eventually, until_some};
use serde_json::json;

use crate::support::{DEADLINE, ask_when_served, instance, start};

/// Two servers with JetStream of their own. What is published at the leaf goes to the hub, if it is wanted there.
struct Tree {
    leaf: NatsServer,
    hub: NatsServer,
    // Last: the stores in it.
    dir: Dir,
}

impl Tree {
    async fn start() -> Self {
        let dir = Dir::new("domains");
        let jetstream = |domain: &str| {
            format!("jetstream {{ store_dir: {:?}, domain: {domain} }}", dir.path().join(domain))
        };
        let hub = format!("leafnodes {{ listen: \"127.0.0.1:-1\" }}\n{}", jetstream("hub"));
        let hub = NatsServer::options().every_right().without_jetstream().config(&hub).start().await;
        let port = until_some(DEADLINE, async || {
            let log = hub.log();
            let line = log.lines().find(|line| line.contains("Listening for leafnode connections on"))?;
            line.rsplit(':').next()?.trim().parse::<u16>().ok()
        });
        let remote =
            format!("leafnodes {{ remotes: [{{ url: \"nats-leaf://127.0.0.1:{}\" }}] }}", port.await);
        let leaf = format!("{remote}\n{}", jetstream("leaf"));
        let leaf = NatsServer::options().every_right().without_jetstream().config(&leaf).start().await;
        eventually(DEADLINE, async || leaf.log().contains("Leafnode connection created")).await;
        Self { leaf, hub, dir }
    }

    /// The streams that a server has itself.
    async fn streams(&self, server: &NatsServer) -> Vec<String> {
        use futures_util::StreamExt as _;
        let names: Vec<_> = jetstream::new(server.client().await).stream_names().collect().await;
        names.into_iter().map(|name| name.expect("the server lists its streams")).collect()
    }
}

#[tokio::test]
async fn events_are_kept_in_the_domain_that_is_set_or_that_the_context_names() {
    let tree = Tree::start().await;
    fs::create_dir_all(tree.dir.path().join("nats/context")).expect("a folder");
    let context = json!({ "description": "", "url": tree.leaf.url(), "jetstream_domain": "hub", "inbox_prefix": "acme.inbox" });
    tree.dir.write("nats/context/edge.json", &context.to_string());
    let by_context = DaemonConfig::with_nats_url("nats://127.0.0.1:4222")
        .with("nats.context = \"edge\"")
        .environment("XDG_CONFIG_HOME", tree.dir.path().to_str().expect("a name in UTF-8"));
    let at_leaf = || DaemonConfig::new(&tree.leaf);
    let mut hub = Vec::new();
    for (name, config) in [
        ("a", by_context),
        ("b", at_leaf().with("nats.jetstream_domain = \"hub\"")),
        ("c", at_leaf().with("nats.jetstream_api_prefix = \"$JS.hub.API.\"")),
        ("d", at_leaf()),
    ] {
        let sub0 = Sub0::start().await;
        let mut daemon = start(config.sub0(name, &sub0));
        eventually(DEADLINE, async || {
            let status = instance(&mut daemon, name).await;
            status.is_some_and(|status| {
                status["bus"]["publishing"] == true && status["links"][0]["phase"] == "ready"
            })
        })
        .await;
        sub0.broadcast("tick", &json!({ "n": 1 }));
        let (stream, server) =
            (format!("PONTOON_{}", name.to_uppercase()), if name == "d" { &tree.leaf } else { &tree.hub });
        let js = jetstream::new(server.client().await);
        let tick = format!("pontoon.event.sub0.{name}.resource.broadcast.tick");
        eventually(DEADLINE, async || {
            let Ok(stream) = js.get_stream(&stream).await else { return false };
            stream.get_last_raw_message_by_subject(&tick).await.is_ok()
        })
        .await;
        let client = tree.leaf.client().await;
        let reply = ask_when_served(&client, &format!("pontoon.command.sub0.{name}.call.x"), "{}").await;
        assert_eq!(reply.status, "response", "{name}");
        // A restart looks at the stream that is there.
        daemon.restart();
        eventually(DEADLINE, async || {
            instance(&mut daemon, name).await.is_some_and(|status| status["bus"]["publishing"] == true)
        })
        .await;
        if name != "d" {
            hub.push(stream);
        }
    }
    let sorted = async |nats| {
        let mut found = tree.streams(nats).await;
        found.sort();
        found
    };
    // Jobs and their results are where the events are.
    let of_jobs = ["PONTOON_JOBS".to_owned(), "PONTOON_RESULTS".to_owned()];
    hub.extend(of_jobs.clone());
    let leaf = [&["PONTOON_D".to_owned()], of_jobs.as_slice()].concat();
    assert_eq!((sorted(&tree.hub).await, sorted(&tree.leaf).await), (hub, leaf));
}
