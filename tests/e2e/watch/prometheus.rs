//! A running Prometheus with the configuration and the rules that are shipped. Only times are shorter: it scrapes and
//! evaluates every second, and alerts wait for two seconds (`for`). The expressions stay as they are.

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, Command, Stdio};

use pontoon_testkit::{Dir, eventually, until_some};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{DEADLINE, program, shipped};

/// It is killed when this value is dropped.
pub(crate) struct Prometheus {
    process: Process,
    address: String,
    dir: Dir,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Prometheus {
    /// Starts it beside a daemon, or returns `None` where there is no Prometheus to be had.
    pub(crate) async fn beside(admin: &str) -> Option<Self> {
        let targets = shipped("prometheus/targets.yaml");
        let ours = targets.replace("127.0.0.1:9464", admin);
        assert_ne!(targets, ours, "targets.yaml names the default of admin.listen");
        let config = shipped("prometheus/prometheus.yaml");
        let prometheus = Self::start(&config, &[("targets.yaml", &ours)]).await?;
        eventually(DEADLINE, async || {
            !prometheus.query("up{job=\"pontoon\"} == 1").await.is_empty()
                && prometheus.rules().await.iter().all(|rule| rule["health"] == "ok")
        })
        .await;
        Some(prometheus)
    }

    /// Starts it with this configuration, the shipped rules, and these files beside them.
    pub(crate) async fn start(config: &str, files: &[(&str, &str)]) -> Option<Self> {
        let binary = program("prometheus")?;
        let dir = Dir::new("prometheus");
        let config = dir.write("prometheus.yaml", &faster(config));
        dir.write("rules.yaml", &faster(&shipped("prometheus/rules.yaml")));
        for (name, text) in files {
            dir.write(name, text);
        }
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(binary)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .arg("--enable-feature=exemplar-storage")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut prometheus = Self { process: Process(child), address: String::new(), dir };
        prometheus.address = until_some(DEADLINE, async || prometheus.listens()).await;
        eventually(DEADLINE, async || prometheus.page("/-/ready").await.is_some()).await;
        Some(prometheus)
    }

    fn listens(&mut self) -> Option<String> {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let ended = self.process.0.try_wait().unwrap();
        assert!(ended.is_none(), "Prometheus ended:\n{log}");
        let (_, line) = log.split_once("msg=\"Listening on\" address=")?;
        // The line may not be whole yet.
        Some(line.split_once('\n')?.0.trim().to_owned())
    }

    /// What an expression gives: its series.
    pub(crate) async fn query(&self, expression: &str) -> Vec<Value> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            write!(encoded, "%{byte:02X}").unwrap();
        }
        let answer = self.json(&format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(answer["status"], "success", "{expression}\n{answer}");
        let series = answer["data"]["result"].as_array();
        series.unwrap_or_else(|| panic!("{expression} gives no series")).clone()
    }

    /// The exemplars of these series.
    pub(crate) async fn exemplars(&self, series: &str) -> Vec<Value> {
        let answer =
            self.json(&format!("/api/v1/query_exemplars?query={series}&start=0&end=9999999999")).await;
        let found = answer["data"].as_array().cloned().unwrap_or_default();
        found.iter().filter_map(|series| series["exemplars"].as_array()).flatten().cloned().collect()
    }

    /// Every rule, as Prometheus has understood it.
    pub(crate) async fn rules(&self) -> Vec<Value> {
        let answer = self.json("/api/v1/rules").await;
        let groups = answer["data"]["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// The targets that are scraped, and those that were found and are not.
    pub(crate) async fn targets(&self) -> (Vec<Value>, Vec<Value>) {
        let answer = self.json("/api/v1/targets").await;
        let of = |which: &str| answer["data"][which].as_array().cloned().unwrap_or_default();
        (of("activeTargets"), of("droppedTargets"))
    }

    /// The alerts that fire, as name and instance; one of a daemon as a whole has its address.
    pub(crate) async fn firing(&self) -> Vec<(String, String)> {
        let answer = self.json("/api/v1/alerts").await;
        let alerts = answer["data"]["alerts"].as_array().unwrap();
        let label = |alert: &Value, name: &str| alert["labels"][name].as_str().map(str::to_owned);
        let place = |alert: &Value| label(alert, "pontoon_instance").or_else(|| label(alert, "instance"));
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| (label(alert, "alertname").unwrap_or_default(), place(alert).unwrap_or_default()))
            .collect()
    }

    async fn json(&self, path: &str) -> Value {
        until_some(DEADLINE, async || serde_json::from_str(&self.page(path).await?).ok()).await
    }

    /// The body of a page; `None` unless the answer is a result or reports an error in the query.
    async fn page(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).await.ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let good = ["200", "400", "422"].contains(&head.split(' ').nth(1)?);
        good.then(|| body.to_owned())
    }
}

/// The same with shorter times.
fn faster(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let key = line.split_once(':').map_or("", |(key, _)| key);
        match key.trim() {
            "scrape_interval" | "evaluation_interval" => writeln!(out, "{key}: 1s").unwrap(),
            "for" => writeln!(out, "{key}: 2s").unwrap(),
            _ => writeln!(out, "{line}").unwrap(),
        }
    }
    assert_ne!(out, text, "there is nothing to make faster");
    out
}
