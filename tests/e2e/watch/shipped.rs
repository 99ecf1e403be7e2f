//! The files themselves: Prometheus' own tool understands them, each alert has its annotations, and both sides of
//! its threshold are tested.

use std::process::Command;

use pontoon_testkit::{Dir, eventually};
use serde_json::{Value, json};

use super::prometheus::Prometheus;
use super::{DEADLINE, deploy, program, shipped};

/// What Debian's Prometheus is built without, and what stands in its place: pods as a file.
const DISCOVERY: (&str, &str) =
    ("kubernetes_sd_configs:\n      - role: pod\n", "file_sd_configs:\n      - files: [pods.json]\n");

/// Runs promtool, and returns its output.
fn promtool(arguments: &[&str]) -> Option<String> {
    let output = Command::new(program("promtool")?)
        .args(arguments)
        .current_dir(deploy("prometheus"))
        .output()
        .unwrap();
    let output_text = [output.stdout, output.stderr].concat();
    let output_text = String::from_utf8_lossy(&output_text).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}\n{output_text}");
    Some(output_text)
}

#[test]
fn promtool_takes_the_rules_and_their_tests_hold() {
    promtool(&["check", "rules", "rules.yaml"]);
    promtool(&["test", "rules", "rules.test.yaml"]);
    promtool(&["check", "config", "prometheus.yaml"]);
    let dir = Dir::new("promtool");
    dir.write("rules.yaml", &shipped("prometheus/rules.yaml"));
    dir.write("pods.json", &pods());
    let config = dir.write("prometheus.yaml", &for_pods());
    promtool(&["check", "config", config.to_str().unwrap()]);
}

#[tokio::test]
async fn every_alert_has_severity_meaning_and_action_and_is_tested_on_both_sides() {
    let config = shipped("prometheus/prometheus.yaml");
    let Some(prometheus) = Prometheus::start(&config, &[("targets.yaml", "[]")]).await else {
        return;
    };
    let tests = shipped("prometheus/rules.test.yaml");
    let rules = prometheus.rules().await;
    let alerts: Vec<_> = rules.iter().filter(|rule| rule["type"] == "alerting").collect();
    assert!(alerts.len() >= 10);
    for alert in alerts {
        let name = alert["name"].as_str().unwrap();
        let severity = &alert["labels"]["severity"];
        assert!(["critical", "warning", "info"].iter().any(|word| severity == word), "{name}: {severity}");
        for note in ["summary", "description", "runbook"] {
            assert!(
                alert["annotations"][note].as_str().is_some_and(|text| text.len() > 10),
                "{name}: {note}"
            );
        }
        let (quiet, fires) = (format!("{{alertname: {name}, "), format!("- alertname: {name}\n"));
        assert!(tests.contains(&quiet) && tests.contains(&fires), "{name} is not tested on both sides");
    }
}

/// What the discovery of pods would find: two daemons, and what must not be taken for one.
fn pods() -> String {
    let pods = [
        ("pontoon", "admin", "Running"),
        ("pontoon", "admin", "Pending"),
        ("pontoon", "http", "Running"),
        ("app", "admin", "Running"),
        ("pontoon", "admin", "Succeeded"),
    ];
    let found = pods.iter().zip(0..).map(|((container, port, phase), number)| {
        json!({"targets": [format!("127.0.0.1:{}", number + 1)], "labels": {
            "__meta_kubernetes_namespace": "shop",
            "__meta_kubernetes_pod_name": format!("shop-{number}"),
            "__meta_kubernetes_pod_phase": phase,
            "__meta_kubernetes_pod_container_init": "true",
            "__meta_kubernetes_pod_container_name": container,
            "__meta_kubernetes_pod_container_port_name": port,
        }})
    });
    Value::Array(found.collect()).to_string()
}

fn for_pods() -> String {
    let config = shipped("prometheus/prometheus-kubernetes.yaml");
    assert_eq!(config.matches(DISCOVERY.0).count(), 1);
    config.replace(DISCOVERY.0, DISCOVERY.1)
}

#[tokio::test]
async fn in_a_cluster_every_daemon_is_found_by_its_port_and_nothing_else_is() {
    let Some(prometheus) = Prometheus::start(&for_pods(), &[("pods.json", &pods())]).await else { return };
    eventually(DEADLINE, async || {
        let (active, dropped) = prometheus.targets().await;
        active.len() + dropped.len() == 5
    })
    .await;
    let (active, dropped) = prometheus.targets().await;
    let mut labels: Vec<_> = active.into_iter().map(|mut target| target["labels"].take()).collect();
    labels.sort_by_key(|labels| labels["pod"].as_str().unwrap().to_owned());
    let of = |number: usize| {
        let pod = format!("shop-{number}");
        let (daemon, address) = (format!("shop/{pod}"), format!("127.0.0.1:{}", number + 1));
        json!({"job": "pontoon", "instance": address, "daemon": daemon, "namespace": "shop", "pod": pod})
    };
    assert_eq!(labels, [of(0), of(1)]);
    assert_eq!(dropped.len(), 3);
}
