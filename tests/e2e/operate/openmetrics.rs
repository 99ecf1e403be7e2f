//! `/metrics` as OpenMetrics: held to the parser of Prometheus' own client and to the other format, with the traces of
//! commands as exemplars.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::probes::exchange;
use crate::support::Fixture;

const ASK: &str = "Accept: application/openmetrics-text; version=1.0.0, text/plain; q=0.5";
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_SAMPLED: &str = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// Head and body of `/metrics`.
async fn scrape(fixture: &mut Fixture, header: &str) -> (String, String) {
    let address = fixture.daemon.admin().await;
    let answer = exchange(&address, &format!("GET /metrics HTTP/1.0\r\n{header}\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// The families, as the parser has read them.
fn parsed(text: &str) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut parser = Command::new("python3")
        .arg(root.join("tests/e2e/operate/openmetrics.py"))
        .env("PYTHONPATH", root.join("target/tools/python"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Name, kind and help of each family, by Prometheus' names.
fn families(text: &str) -> BTreeSet<String> {
    let described = text.lines().filter_map(|line| line.strip_prefix("# "));
    described.filter(|line| *line != "EOF").map(str::to_owned).collect()
}

#[tokio::test]
async fn the_same_is_exported_as_openmetrics_where_it_is_asked_for() {
    let mut fixture = Fixture::start().await;
    assert_eq!(fixture.ask("call.x", "{}", &[]).await.verdict(), ("response", None));
    let (head, text) = scrape(&mut fixture, ASK).await;
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    let (head, plain) = scrape(&mut fixture, "Accept: */*").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");

    let (mut described, mut series) = (BTreeSet::new(), BTreeSet::new());
    for family in parsed(&text) {
        let word = |key: &str| family[key].as_str().unwrap();
        let total = if word("kind") == "counter" { "_total" } else { "" };
        let name = format!("{}{total}", word("name"));
        described.insert(format!("TYPE {name} {}", word("kind")));
        described.insert(format!("HELP {name} {}", word("help")));
        let unit = ["seconds", "bytes"].into_iter().find(|unit| word("name").ends_with(unit));
        assert_eq!(word("unit"), unit.unwrap_or(""), "{name}");
        for sample in family["samples"].as_array().unwrap() {
            let labels = sample["labels"].as_object().unwrap().iter();
            let labels: BTreeSet<_> = labels.map(|(key, value)| format!("{key}={value}")).collect();
            series.insert((sample["name"].as_str().unwrap().to_owned(), labels));
            assert_eq!(sample["exemplar"], Value::Null, "no command had a trace: {sample}");
        }
    }
    assert_eq!(described, families(&plain));
    let samples = plain.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let expected = samples.map(|line| {
        let (name, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = name.trim_end_matches('}').split_once('{').unwrap_or((name, ""));
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            // 1 in Prometheus' format.
            let whole = label.strip_prefix("le=\"").is_some_and(|bound| !bound.contains(['.', 'I']));
            if whole { format!("{}.0\"", label.trim_end_matches('"')) } else { label.to_owned() }
        });
        (name.to_owned(), labels.collect())
    });
    assert_eq!(series, expected.collect());
}

#[tokio::test]
async fn the_trace_of_a_command_is_an_exemplar_of_its_counter_and_of_its_bucket() {
    let mut fixture = Fixture::start().await;
    fixture.ask("call.x", "{}", &[("traceparent", SAMPLED)]).await;
    // Of a trace that its caller does not record there is nothing to look at.
    fixture.ask("call.x", "{}", &[("traceparent", NOT_SAMPLED)]).await;
    fixture.ask("call.x", "{}", &[]).await;
    let families = parsed(&scrape(&mut fixture, ASK).await.1);
    let samples = families.iter().flat_map(|family| family["samples"].as_array().unwrap());
    let found: Vec<_> = samples.filter(|sample| !sample["exemplar"].is_null()).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    let trace = json!({"trace_id": &SAMPLED[3..35], "span_id": &SAMPLED[36..52]});
    for sample in &found {
        assert_eq!((&sample["exemplar"]["labels"], &sample["labels"]["operation"]), (&trace, &json!("call")));
        assert!(sample["exemplar"]["time"].as_f64() > Some(1.7e9), "{sample}");
        let value = sample["exemplar"]["value"].as_f64().unwrap();
        match sample["name"].as_str().unwrap() {
            "pontoon_commands_total" => {
                assert_eq!((value, &sample["labels"]["outcome"]), (1.0, &json!("response")));
                assert_eq!(sample["value"], 3.0);
            }
            "pontoon_command_duration_seconds_bucket" => {
                let bound: f64 = sample["labels"]["le"].as_str().unwrap().parse().unwrap();
                assert!(value <= bound && sample["value"].as_f64() >= Some(1.0), "{sample}");
            }
            other => panic!("{other}"),
        }
    }
    let (_, plain) = scrape(&mut fixture, "").await;
    assert!(!plain.contains(&SAMPLED[3..35]) && !plain.contains("EOF"), "{plain}");
}
