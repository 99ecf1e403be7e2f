//! What breaks is seen by Prometheus, and nothing else is; and what is well again is seen to be.

use pontoon_testkit::{DaemonConfig, NatsServer, Refusal, Sub0, eventually};

use super::DEADLINE;
use super::prometheus::Prometheus;
use crate::support::start;

/// Waits until these alerts fire, and none but these and gaps, which any break may leave.
async fn fire(prometheus: &Prometheus, wanted: &[(&str, &str)]) {
    let mut wanted: Vec<_> =
        wanted.iter().map(|(alert, instance)| ((*alert).to_owned(), (*instance).to_owned())).collect();
    wanted.sort();
    let mut last = Vec::new();
    let firing = eventually(DEADLINE, async || {
        let mut firing = prometheus.firing().await;
        firing.retain(|(alert, _)| alert != "PontoonGap");
        firing.sort();
        if firing != last {
            eprintln!("firing: {firing:?}");
            last.clone_from(&firing);
        }
        firing == wanted
    });
    firing.await;
}

#[tokio::test]
async fn each_break_has_its_alert_and_no_other() {
    let mut nats = NatsServer::start().await;
    let (shop, bank) = (Sub0::start().await, Sub0::start().await);
    let mut daemon = start(DaemonConfig::new(&nats).sub0("shop", &shop).sub0("bank", &bank));
    shop.connected(1, DEADLINE).await;
    bank.connected(1, DEADLINE).await;
    let Some(prometheus) = Prometheus::beside(&daemon.admin().await).await else { return };
    fire(&prometheus, &[]).await;

    shop.stop_listening().await;
    shop.cut();
    let down = ("PontoonLinkDown", "shop");
    fire(&prometheus, &[down]).await;

    // One whose credentials are refused is down, too, but it is not for the service to mend.
    bank.refuse(Refusal::status(401));
    bank.cut();
    let refused = ("PontoonCredentialsRefused", "bank");
    fire(&prometheus, &[down, refused]).await;

    nats.kill();
    fire(&prometheus, &[down, refused, ("PontoonNatsAway", "shop"), ("PontoonNatsAway", "bank")]).await;

    nats.restart().await;
    shop.listen_again().await;
    fire(&prometheus, &[refused]).await;

    daemon.reconfigure(DaemonConfig::new(&nats).with("not toml ["));
    daemon.signal("HUP");
    let address = daemon.admin().await;
    let failed = ("PontoonReloadFailed", address.as_str());
    fire(&prometheus, &[refused, failed]).await;

    // The operator removes the instance: there is nothing to alert of.
    daemon.reconfigure(DaemonConfig::new(&nats).sub0("shop", &shop));
    daemon.signal("HUP");
    fire(&prometheus, &[]).await;

    daemon.kill();
    fire(&prometheus, &[("PontoonDown", &address)]).await;
}
