//! The key: a bad one is reported and tried slowly, and no key is shown anywhere, even if the service repeats it.

use futures_util::FutureExt as _;
use pontoon_testkit::AuiRefusal;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::*;
use crate::support::{listen, round_trip};

/// It looks otherwise in an address.
const CANARY: &str = "canary/key-7c31";
const ENCODED: &str = "canary%2Fkey-7c31";

#[tokio::test]
async fn a_bad_key_is_reported_and_tried_slowly_and_no_key_is_shown() {
    for auth in ["query", "header"] {
        for refusal in
            [None, Some(AuiRefusal::Close), Some(AuiRefusal::Error), Some(AuiRefusal::ErrorWithKey)]
        {
            let mut scenario = Scenario::start(auth, refusal).await;
            // One that is refused is replied to at the end of its time, which must be enough for a dial.
            let timeout = if refusal.is_some() { "3s" } else { "30s" };
            let first =
                scenario.network.send("t1", "hello", &[("Pontoon-Timeout", timeout)]).await.end().await;
            match refusal {
                None => assert_eq!(first.verdict(), ("response", None), "{auth}: {}", first.message()),
                Some(_) => scenario.is_refused(&first).await,
            }
            let output = scenario.all_output().await;
            assert!(output.contains("TRACE") || output.contains("DEBUG"), "the log was loud");
            let repeats = refusal == Some(AuiRefusal::ErrorWithKey);
            assert_eq!(output.contains("Invalid API key: ***"), repeats, "{auth} {refusal:?}");
            for key in [CANARY, ENCODED] {
                assert!(!output.contains(key), "{auth} {refusal:?}: the key was shown");
            }
        }
    }
}

/// A daemon whose log is at its loudest, and everything that passes on NATS.
struct Scenario {
    network: Network,
    all: Subscriber,
}

impl Scenario {
    /// With a service that takes our key, or refuses it in this way.
    async fn start(auth: &str, refusal: Option<AuiRefusal>) -> Self {
        let nats = NatsServer::start().await;
        let service = Aui::start(if refusal.is_some() { "another key" } else { CANARY }).await;
        service.refuses(refusal.unwrap_or_default());
        let client = nats.client().await;
        let all = listen(&client, ">").await;
        let url = service.url();
        let settings =
            format!("url = \"{url}\"\nauth = \"{auth}\"\nnetwork_api_key = {{ env = \"CANARY\" }}");
        let config = DaemonConfig::new(&nats)
            .with("log.level = \"trace,async_nats=trace\"")
            .connector("agents", "aui", &settings)
            .environment("CANARY", CANARY);
        let mut network = Network { daemon: start(config), service, nats, client };
        // NATS takes the subscriber of everything for one that may reply: a command that comes too early is lost.
        network.daemon.ready(DEADLINE).await;
        Self { network, all }
    }

    async fn is_refused(&self, first: &Reply) {
        let network = &self.network;
        // Whether the request was sent before the service had looked at the key is a matter of luck.
        let verdicts = [("expired", "408"), ("unknown", "502"), ("failed", "502")];
        let verdicts = verdicts.map(|(status, code)| (status, Some(code)));
        assert!(verdicts.contains(&first.verdict()), "{:?} {}", first.verdict(), first.message());
        let state = network.state(|state| state["links"][0]["phase"] == "credentials_refused").await;
        let time =
            |name: &str| OffsetDateTime::parse(state["links"][0][name].as_str().unwrap(), &Rfc3339).unwrap();
        assert!(time("retry_at") - time("since") > Duration::from_secs(200), "{state}");
        // A request now waits for that dial, and does not bring it forward.
        for _ in 0..3 {
            let later = network.send("t1", "hello?", &[("Pontoon-Timeout", "100ms")]).await.end().await;
            assert_eq!(later.verdict(), ("expired", Some("408")));
        }
        assert_eq!(network.service.dials().len(), 1);
        assert!(network.service.turns().is_empty());
    }

    /// Ends the daemon. Returns its log, its pages, and every message on NATS.
    async fn all_output(&mut self) -> String {
        let daemon = &mut self.network.daemon;
        let mut output = String::new();
        for page in ["/status", "/metrics", "/readyz"] {
            output.push_str(&daemon.get(page).await.1);
        }
        daemon.signal("TERM");
        assert_eq!(daemon.wait_exit(DEADLINE).await, Some(0));
        output.push_str(&daemon.log());
        round_trip(&self.network.client).await;
        while let Some(Some(message)) = self.all.next().now_or_never() {
            let body = String::from_utf8_lossy(&message.payload);
            output.push_str(&format!("{} {:?} {body}", message.subject, message.headers));
        }
        output
    }
}
