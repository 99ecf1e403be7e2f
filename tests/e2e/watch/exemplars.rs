//! Prometheus asks for OpenMetrics by itself, and keeps the traces of commands.

use pontoon_testkit::eventually;

use super::DEADLINE;
use super::prometheus::Prometheus;
use crate::support::Fixture;

#[tokio::test]
async fn prometheus_finds_the_trace_of_a_command() {
    let mut fixture = Fixture::start().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let header = format!("00-{trace}-b7ad6b7169203331-01");
    assert_eq!(fixture.ask("call.x", "{}", &[("traceparent", &header)]).await.status, "response");
    let Some(prometheus) = Prometheus::beside(&fixture.daemon.admin().await).await else { return };
    for series in ["pontoon_command_duration_seconds_bucket", "pontoon_commands_total"] {
        eventually(DEADLINE, async || {
            let found = prometheus.exemplars(series).await;
            found.iter().any(|exemplar| exemplar["labels"]["trace_id"] == trace)
        })
        .await;
    }
}
