//! Stream Avatars with the real daemon: titled sockets, what callers may create, and scripts that dial in.

mod cycles;
mod dynamic;
mod lua;
mod script;
mod scripts;
mod sockets;

use async_nats::{Client, Subscriber};
use pontoon_testkit::{Daemon, DaemonConfig, Echo, NatsServer, until_ok};
use serde_json::Value;

use crate::support::{self, DEADLINE, Reply, listen, next};

/// A daemon with one instance, `avatars`, between NATS and an echo server.
struct Fixture {
    daemon: Daemon,
    echo: Echo,
    client: Client,
    events: Subscriber,
    // Last, so that the daemon is gone before it.
    nats: NatsServer,
}

impl Fixture {
    /// With these settings; `{url}` in them is the address of the echo server, `{port}` its port.
    async fn start(settings: &str) -> Self {
        let nats = NatsServer::start().await;
        let echo = Echo::start().await;
        let client = nats.client().await;
        let events = listen(&client, "pontoon.event.streamavatars.avatars.>").await;
        let port = echo.address().port().to_string();
        let settings = settings.replace("{url}", &echo.url()).replace("{port}", &port);
        let mut daemon =
            support::start(DaemonConfig::new(&nats).connector("avatars", "streamavatars", &settings));
        daemon.ready(DEADLINE).await;
        let fixture = Self { daemon, echo, client, events, nats };
        fixture.state(|state| state["bus"]["publishing"] == true).await;
        fixture
    }

    async fn ask(&self, operation: &str, body: &str) -> Reply {
        self.ask_with(operation, body, &[]).await
    }

    async fn ask_with(&self, operation: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        let subject = format!("pontoon.command.streamavatars.avatars.{operation}");
        support::ask(&self.client, &subject, body, headers).await
    }

    /// Waits for a state of the instance that is so.
    async fn state(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        until_ok(DEADLINE, async || {
            let state = self.ask("status", "").await.body["data"].take();
            if wanted(&state) { Ok(state) } else { Err(format!("{state}\n{}", self.daemon.log())) }
        })
        .await
    }

    /// The next event of this type: the service's name for it, and its body.
    async fn event(&mut self, kind: &str) -> (String, Value) {
        let wanted = format!("pontoon.{kind}.v1");
        let (message, body) = next(&mut self.events, |message, _| {
            let headers = message.headers.as_ref();
            headers.and_then(|headers| headers.get("ce-type")).is_some_and(|got| got.as_str() == wanted)
        })
        .await;
        let upstream = message.headers.as_ref().and_then(|headers| headers.get("ce-upstreamevent"));
        (upstream.map(|name| name.as_str().to_owned()).unwrap_or_default(), body)
    }
}
