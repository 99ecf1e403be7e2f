//! The whole export: that it is complete from the start, consistent with the table, and clean for promtool.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ::metrics::with_local_recorder;

use super::*;

/// What is exported once these instances exist and `then` has happened.
fn export(then: impl FnOnce(&InstanceMetrics)) -> String {
    let recorder = builder().unwrap().build_recorder();
    let exporter = Exporter::new(recorder.handle());
    with_local_recorder(&recorder, || {
        describe();
        let daemon = DaemonMetrics::new();
        daemon.reloaded(ReloadOutcome::Failed);
        let _cluster = ClusterMetrics::default();
        let support = InstanceMetrics::new("support", "sub0", &["call", "status", "unknown"]);
        let _other = InstanceMetrics::new("other", "minchat", &["message"]);
        then(&support);
        exporter.render()
    })
}

/// The samples by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(key, n)| (key.to_owned(), n.parse().unwrap()))
        .collect()
}

#[test]
fn every_metric_of_the_table_is_there_with_its_labels_and_nothing_else_is() {
    let command = |metrics: &InstanceMetrics| {
        metrics.command_answered("call", Outcome::Sent, Duration::from_millis(100), None);
    };
    let from_the_start = export(|_| ());
    let text = export(command);
    let before = samples(&from_the_start);
    let new: BTreeSet<_> = samples(&text).into_keys().filter(|key| !before.contains_key(key)).collect();
    let of_operations = |key: &String| key.contains("operation=\"call\"");
    assert!(new.len() > Outcome::ALL.len() && new.iter().all(of_operations), "{new:?}");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for key in samples(&text).keys() {
        let (name, labels) = key.split_once('{').unwrap_or((key, ""));
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|end| name.strip_suffix(end))
            .find(|name| TABLE.iter().any(|metric| metric.name == *name))
            .unwrap_or(name);
        let keys = labels.split(',').filter_map(|label| label.split_once('=')).map(|(key, _)| key.to_owned());
        found.entry(name.to_owned()).or_default().extend(keys.filter(|key| key != "le"));
    }
    let table = TABLE.iter().map(|metric| {
        (metric.name.to_owned(), metric.labels.iter().map(|label| (*label).to_owned()).collect())
    });
    assert_eq!(found, table.collect());
    for Metric { name, kind, help, .. } in TABLE {
        assert!(text.contains(&format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str())), "{name}");
    }
}

#[test]
fn each_handle_counts_where_its_name_says() {
    let text = export(|support| {
        for (n, reason) in (1..).zip(DropReason::ALL) {
            support.dropped(reason).increment(n);
        }
        for (n, reason) in (1..).zip(GapReason::ALL) {
            support.gap(reason).increment(n);
        }
        for (n, outcome) in (1..).zip(ConnectOutcome::ALL) {
            support.connects(outcome).increment(n);
        }
        for (n, outcome) in (1..).zip(Outcome::ALL) {
            (0..n).for_each(|_| support.command_ended("status", outcome));
        }
        support.command_ended("no-such-operation", Outcome::Sent);
        support.command_answered("call", Outcome::Sent, Duration::from_millis(300), None);
        support.event_latency.record(std::time::Duration::from_micros(60));
        support.link_connected.set(2.0);
        support.links_down([1, 2, 3]);
    });
    let samples = samples(&text);
    let own = "pontoon_instance=\"support\",type=\"sub0\"";
    let value = |key: String| *samples.get(&key).unwrap_or_else(|| panic!("{key} is not in\n{text}"));
    for (n, reason) in (1..).zip(DropReason::ALL) {
        let key = format!("pontoon_events_dropped_total{{{own},reason=\"{}\"}}", reason.as_str());
        assert_eq!(value(key), f64::from(n));
    }
    for (n, reason) in (1..).zip(GapReason::ALL) {
        assert_eq!(
            value(format!("pontoon_gaps_total{{{own},reason=\"{}\"}}", reason.as_str())),
            f64::from(n)
        );
    }
    for (n, outcome) in (1..).zip(ConnectOutcome::ALL) {
        let key = format!("pontoon_link_connects_total{{{own},outcome=\"{}\"}}", outcome.as_str());
        assert_eq!(value(key), f64::from(n));
    }
    for (n, outcome) in (1..).zip(Outcome::ALL) {
        let outcome = outcome.as_str();
        let key = |operation| {
            format!("pontoon_commands_total{{{own},operation=\"{operation}\",outcome=\"{outcome}\"}}")
        };
        assert_eq!(value(key("status")), f64::from(n));
        assert_eq!(value(key("call")), f64::from(u8::from(outcome == "sent")));
        assert!(!samples.contains_key(&key("unknown")), "no command of it has come");
    }
    let bucket = |le| {
        value(format!("pontoon_command_duration_seconds_bucket{{{own},operation=\"call\",le=\"{le}\"}}"))
    };
    assert_eq!((bucket("0.25"), bucket("0.5"), bucket("+Inf")), (0.0, 1.0, 1.0));
    assert_eq!(value(format!("pontoon_event_latency_seconds_bucket{{{own},le=\"0.0001\"}}")), 1.0);
    assert_eq!(value(format!("pontoon_link_connected{{{own}}}")), 2.0);
    for (n, phase) in (1..).zip(Phase::DOWN) {
        let state = phase.as_str();
        assert_eq!(value(format!("pontoon_link_down{{{own},state=\"{state}\"}}")), f64::from(n));
    }
    assert_eq!(value(format!("pontoon_instance_running{{{own}}}")), 1.0);
    assert_eq!(value("pontoon_config_reloads_total{outcome=\"failed\"}".to_owned()), 1.0);
    assert_eq!(value("pontoon_config_reload_failed".to_owned()), 1.0);
    assert!(value("process_resident_memory_bytes".to_owned()) > 1e6);
    let started = value("process_start_time_seconds".to_owned());
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((now - 86_400.0..now + 2.0).contains(&started), "{started} is not shortly before {now}");
}

#[test]
fn an_instance_that_ended_keeps_its_counts_and_one_that_comes_back_goes_on_counting() {
    let recorder = builder().unwrap().build_recorder();
    let text = with_local_recorder(&recorder, || {
        let first = InstanceMetrics::new("a", "sub0", &[]);
        first.frames_sent.increment(3);
        first.nats_connected.set(1.0);
        first.links_down([1, 1, 1]);
        drop(first);
        let once = recorder.handle().render();
        InstanceMetrics::new("a", "sub0", &[]).frames_sent.increment(4);
        once + &recorder.handle().render()
    });
    let own = "{pontoon_instance=\"a\",type=\"sub0\"}";
    for name in ["nats_connected", "instance_running"] {
        assert!(text.contains(&format!("pontoon_{name}{own} 0\n")), "{text}");
    }
    let down: Vec<_> = text.lines().filter(|line| line.starts_with("pontoon_link_down{")).collect();
    assert!(down.len() == 6 && down.iter().all(|line| line.ends_with(" 0")), "{down:?}");
    for n in [3, 7] {
        assert!(text.contains(&format!("pontoon_frames_sent_total{own} {n}\n")), "{text}");
    }
}

#[test]
fn an_instance_that_was_removed_is_not_exported_until_it_comes_back() {
    let recorder = builder().unwrap().build_recorder();
    let exporter = Exporter::new(recorder.handle());
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
    let (removed, back) = with_local_recorder(&recorder, || {
        for name in ["a", "ab"] {
            let metrics = InstanceMetrics::new(name, "sub0", &["call"]);
            metrics.frames_sent.increment(1);
            metrics.command_answered("call", Outcome::Sent, Duration::from_secs(90), Some(&traceparent));
        }
        exporter.remove("a");
        let removed = exporter.render();
        exporter.add("a");
        (removed, exporter.render_openmetrics())
    });
    let of_a = |text: &str| text.lines().filter(|line| line.contains("=\"a\"")).count();
    assert_eq!(of_a(&removed), 0);
    assert!(removed.contains("pontoon_frames_sent_total{pontoon_instance=\"ab\",type=\"sub0\"} 1\n"));
    assert!(of_a(&back) > 10);
    let traced: Vec<_> = back.lines().filter(|line| line.contains(trace)).collect();
    assert!(traced.len() == 2 && traced.iter().all(|line| line.contains("=\"ab\"")), "{traced:?}");
    assert!(
        traced.iter().any(|line| line.contains("le=\"+Inf\"} 1 # ")),
        "longer than every bound: {traced:?}"
    );
}

#[test]
fn promtool_finds_nothing_to_say() {
    let mut check = Command::new(promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is no promtool: run `make tools`, or name one in PONTOON_PROMTOOL");
    check.stdin.take().unwrap().write_all(export(|_| ()).as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && printed.is_empty(), "{}", String::from_utf8_lossy(&printed));
}

fn promtool() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/promtool");
    match std::env::var_os("PONTOON_PROMTOOL") {
        Some(named) => named.into(),
        None if fetched.is_file() => fetched,
        None => "promtool".into(),
    }
}
