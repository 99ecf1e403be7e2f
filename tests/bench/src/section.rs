//! The workloads: what is measured of whom, and in which unit.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::contender::{Contender, Task};
use crate::probe::Shape;
use crate::runs::{Bench, SIZE, Sample, ceiling};
use crate::tally::sorted;

/// A figure of a section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
}

const RATE: Metric = Metric { name: "events", unit: "/s" };
const ANSWERS: Metric = Metric { name: "answers", unit: "/s" };
const CPU: Metric = Metric { name: "CPU per event", unit: "µs" };
const CPU_ANSWER: Metric = Metric { name: "CPU per answer", unit: "µs" };
const PEAK: Metric = Metric { name: "peak memory", unit: "MiB" };
const P50: Metric = Metric { name: "p50", unit: "µs" };
const P99: Metric = Metric { name: "p99", unit: "µs" };
const OPENED: Metric = Metric { name: "all open after", unit: "s" };
const PER_LINK: Metric = Metric { name: "memory per idle link", unit: "KiB" };
const IDLE: Metric = Metric { name: "idle CPU", unit: "ms/s" };
const RESIDENT: Metric = Metric { name: "idle memory", unit: "MiB" };

/// A contender and its runs.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) samples: Vec<Sample>,
}

/// One workload.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) metrics: Vec<Metric>,
    /// Pontoon first.
    pub(crate) rows: Vec<Row>,
    /// How fast the generator is, if that may be what limits a result.
    pub(crate) ceiling: Option<f64>,
    pub(crate) notes: Vec<String>,
}

/// Median, minimum and maximum of the runs that are not void.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Row {
    /// A figure over all runs that count.
    pub(crate) fn spread(&self, metric: usize) -> Option<Spread> {
        let counted = self.samples.iter().filter(|sample| sample.fault.is_none());
        let values = sorted(counted.filter_map(|sample| sample.values.get(metric).copied()).collect());
        let median = match values.len() {
            0 => return None,
            even if even % 2 == 0 => (values[even / 2 - 1] + values[even / 2]) / 2.0,
            odd => values[odd / 2],
        };
        Some(Spread { median, least: *values.first()?, most: *values.last()? })
    }

    /// Why runs are void.
    pub(crate) fn faults(&self) -> Vec<&str> {
        self.samples.iter().filter_map(|sample| sample.fault.as_deref()).collect()
    }
}

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    pub(crate) rounds: usize,
    /// How long contenders run at full speed.
    pub(crate) blast: Duration,
    /// How long they run at a rate.
    pub(crate) paced: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) sizes: Vec<usize>,
    pub(crate) rates: Vec<f64>,
    pub(crate) in_flight: Vec<usize>,
    pub(crate) links: Vec<usize>,
    /// Whether idle links with TLS are measured.
    pub(crate) tls: bool,
    pub(crate) instances: Vec<usize>,
    pub(crate) idle: Duration,
}

impl Extent {
    /// What `make bench` measures, in less than five minutes.
    pub(crate) fn usual() -> Self {
        Self {
            rounds: 3,
            blast: Duration::from_millis(1000),
            paced: Duration::from_millis(1500),
            warm_up: Duration::from_millis(300),
            sizes: vec![SIZE],
            rates: vec![1_000.0, 10_000.0],
            in_flight: vec![1, 64],
            links: vec![1_000],
            tls: false,
            instances: vec![1, 100, 1_000],
            idle: Duration::from_secs(3),
        }
    }

    /// Everything.
    pub(crate) fn full() -> Self {
        Self {
            rounds: 5,
            blast: Duration::from_secs(3),
            paced: Duration::from_secs(5),
            warm_up: Duration::from_millis(500),
            sizes: vec![76, SIZE, 4 * 1024, 64 * 1024],
            rates: vec![1_000.0, 10_000.0],
            in_flight: vec![1, 64, 256],
            links: vec![1_000, 10_000],
            tls: true,
            instances: vec![1, 10, 100, 1_000],
            idle: Duration::from_secs(30),
        }
    }

    /// As little as shows that everything works; no figure of it means anything.
    pub(crate) fn smoke() -> Self {
        Self {
            rounds: 1,
            blast: Duration::from_millis(100),
            paced: Duration::from_millis(200),
            warm_up: Duration::from_millis(50),
            sizes: vec![SIZE],
            rates: vec![500.0],
            in_flight: vec![8],
            links: vec![20],
            tls: true,
            instances: vec![3],
            idle: Duration::from_millis(200),
        }
    }
}

/// Runs all workloads, and shows what is going on.
pub(crate) struct Runner<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) extent: &'a Extent,
    pub(crate) sections: Vec<Section>,
    /// Contenders that cannot run here, and why.
    pub(crate) missing: BTreeMap<Contender, &'static str>,
    /// What the titles of the workloads begin with that are measured.
    only: String,
}

impl<'a> Runner<'a> {
    /// Nothing yet.
    pub(crate) fn new(bench: &'a Bench, extent: &'a Extent, only: String) -> Self {
        Self { bench, extent, sections: Vec::new(), missing: BTreeMap::new(), only }
    }

    /// Whether a workload with this number is measured.
    fn wants(&self, number: &str) -> bool {
        number.starts_with(&self.only)
    }

    /// Measures everything.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        use Contender::{Coalescing, Minimal, Node, Pontoon, Python, RustSocketio};
        let (bench, extent) = (self.bench, self.extent);
        let websocket = [Pontoon, Minimal, Node, Python];
        for jetstream in [false, true] {
            for size in &extent.sizes {
                let task = Task::WebSocket { jetstream };
                let (id, to) = if jetstream { ("W2", "JetStream (file)") } else { ("W1", "core NATS") };
                if !self.wants(id) {
                    continue;
                }
                self.blast(&format!("{id} WebSocket to {to}, {}", bytes(*size)), task, *size, &websocket)?;
            }
        }
        if self.wants("W3") {
            let (task, title) = (Task::SocketIo { jetstream: false }, "W3 Socket.IO to core NATS");
            let contenders = [Pontoon, Minimal, RustSocketio, Node];
            self.blast(&format!("{title}, {}", bytes(SIZE)), task, SIZE, &contenders)?;
        }
        if self.wants("W4") {
            self.script()?;
        }
        if self.wants("W5") {
            self.calls(&[Pontoon, Minimal, Coalescing, Node])?;
        }
        if self.wants("W7") {
            self.latencies(&websocket)?;
        }
        if self.wants("W8") {
            self.links()?;
            self.instances();
        }
        if self.wants("W9") {
            let ready = Metric { name: "ready after", unit: "ms" };
            let metrics = vec![RESIDENT, IDLE, ready, Metric { name: "program", unit: "MiB" }];
            self.section("W9 five idle instances, JetStream".to_owned(), metrics, None, &[Pontoon], |_| {
                bench.five_instances(extent.idle)
            });
        }
        Ok(())
    }

    /// A table, a script and a connector in Rust that publish the same.
    fn script(&mut self) -> io::Result<()> {
        let (bench, extent) = (self.bench, self.extent);
        let table = Task::WebSocket { jetstream: false };
        let (table_shape, script_shape) =
            (Shape::of(bench, table, SIZE)?, Shape::of(bench, Task::Script, SIZE)?);
        let title = format!(
            "W4 WebSocket to core NATS by a table, a script and a connector in Rust, {}",
            bytes(SIZE)
        );
        let ceiling = ceiling(SIZE, extent.warm_up)?;
        let contenders = [Contender::Pontoon, Contender::Script, Contender::Connector];
        self.section(title, vec![RATE, CPU, PEAK], Some(ceiling), &contenders, |contender| {
            let (task, shape) = match contender {
                Contender::Script => (Task::Script, &script_shape),
                // It has the type of the table, and is to publish the very same.
                Contender::Connector => (Task::Connector, &table_shape),
                _ => (table, &table_shape),
            };
            bench.blast(contender, task, (SIZE, extent.blast), shape)
        });
        Ok(())
    }

    fn calls(&mut self, contenders: &[Contender]) -> io::Result<()> {
        let (bench, extent) = (self.bench, self.extent);
        for in_flight in &extent.in_flight {
            let title = format!("W5 requests, {in_flight} in flight");
            // One at a time is as fast as it is answered.
            let ceiling =
                if *in_flight > 1 { Some(bench.call_ceiling(*in_flight, extent.warm_up)?) } else { None };
            let metrics = vec![ANSWERS, P50, P99, CPU_ANSWER];
            self.section(title, metrics, ceiling, contenders, |contender| {
                bench.calls(contender, *in_flight, extent.blast)
            });
        }
        Ok(())
    }

    fn latencies(&mut self, contenders: &[Contender]) -> io::Result<()> {
        let (bench, extent) = (self.bench, self.extent);
        let task = Task::WebSocket { jetstream: false };
        let shape = Shape::of(bench, task, SIZE)?;
        for rate in &extent.rates {
            let title = format!("W7 latency at {rate} events/s, {}", bytes(SIZE));
            self.section(title, vec![P50, P99, CPU], None, contenders, |contender| {
                bench.paced(contender, task, (*rate, extent.paced), &shape)
            });
        }
        Ok(())
    }

    fn links(&mut self) -> io::Result<()> {
        let (bench, extent) = (self.bench, self.extent);
        let contenders = [Contender::Pontoon, Contender::Minimal];
        let shape = Shape::of(bench, Task::Links { count: 1, tls: false }, SIZE)?;
        for links in &extent.links {
            let title = format!("W8 {links} WebSockets, one event/s on each");
            let metrics = vec![OPENED, PER_LINK, IDLE, CPU];
            self.section(title, metrics, None, &contenders, |contender| {
                bench.links(contender, (*links, false), extent.idle, &shape)
            });
        }
        if let Some(links) = extent.links.first().filter(|_| extent.tls) {
            let title = format!("W8 {links} WebSockets with TLS, idle");
            self.section(title, vec![OPENED, PER_LINK, IDLE], None, &contenders, |contender| {
                bench.links(contender, (*links, true), extent.idle, &shape)
            });
        }
        Ok(())
    }

    fn instances(&mut self) {
        let (bench, extent) = (self.bench, self.extent);
        let rate = extent.rates.last().copied().unwrap_or_default();
        let time = extent.idle.min(Duration::from_secs(10));
        for count in &extent.instances {
            let title = format!("W8 {count} instances, together {rate} events/s");
            self.section(title, vec![RESIDENT, CPU], None, &[Contender::Pontoon], |_| {
                bench.instances(*count, rate, time)
            });
        }
    }

    fn blast(&mut self, title: &str, task: Task, size: usize, contenders: &[Contender]) -> io::Result<()> {
        let (bench, extent) = (self.bench, self.extent);
        let shape = Shape::of(bench, task, size)?;
        let ceiling = ceiling(size, extent.warm_up)?;
        self.section(title.to_owned(), vec![RATE, CPU, PEAK], Some(ceiling), contenders, |contender| {
            bench.blast(contender, task, (size, extent.blast), &shape)
        });
        Ok(())
    }

    /// Measures contenders in turn, round after round.
    fn section(
        &mut self,
        title: String,
        metrics: Vec<Metric>,
        ceiling: Option<f64>,
        contenders: &[Contender],
        measure: impl Fn(Contender) -> io::Result<Sample>,
    ) {
        let mut rows = Vec::new();
        for contender in contenders {
            match self.bench.programs.missing(*contender) {
                Some(reason) => _ = self.missing.insert(*contender, reason),
                None => {
                    rows.push((*contender, Row { name: contender.name().to_owned(), samples: Vec::new() }))
                }
            }
        }
        eprintln!("{title}");
        for round in 1..=self.extent.rounds {
            for (contender, row) in &mut rows {
                let start = Instant::now();
                let sample = measure(*contender)
                    .unwrap_or_else(|error| Sample { fault: Some(error.to_string()), ..Sample::default() });
                let figures: Vec<_> = metrics.iter().zip(&sample.values).collect();
                let figures = figures.iter().map(|(metric, value)| {
                    format!("{} {}", metric.name, crate::report::figure(**value, metric.unit))
                });
                let figures = figures.collect::<Vec<_>>().join(", ");
                let fault = sample.fault.as_ref().map(|fault| format!(" VOID: {fault}")).unwrap_or_default();
                let took = start.elapsed().as_secs_f64();
                eprintln!("  {round} {:<22} {figures}{fault} ({took:.1} s)", row.name);
                row.samples.push(sample);
            }
        }
        let mut notes = Vec::new();
        let late =
            rows.iter().flat_map(|(_, row)| row.samples.iter().map(|sample| sample.late)).fold(0.0, f64::max);
        if late > 0.0 {
            notes.push(format!("The generator was late by at most {late:.0} µs (p99 of the worst run)."));
        }
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        self.sections.push(Section { title, metrics, rows, ceiling, notes });
    }
}

fn bytes(size: usize) -> String {
    if size.is_multiple_of(1024) { format!("{} KiB", size / 1024) } else { format!("{size} B") }
}
