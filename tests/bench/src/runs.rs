//! One run of one contender: with a new nats-server and a new service, so that no run leaves anything to the next.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, push};
use pontoon_testkit::{Daemon, DaemonConfig, Dir, NatsServer};
use tokio::runtime::Runtime;

use crate::caller;
use crate::contender::{Contender, Place, Programs, Running, Task, connector};
use crate::nats::Subscriber;
use crate::probe::Shape;
use crate::service::{Protocol, Service};
use crate::tally::{FIRST, quantile};
use crate::tls;
use crate::usage::{self, Load};

/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(1);
/// Where a stream is read back to.
const READ_BACK: &str = "bench.read";
const STREAM: &str = "PONTOON_BENCH";
/// The usual message, in bytes.
pub(crate) const SIZE: usize = 300;

/// What was measured in one run, in the order of the section's metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) values: Vec<f64>,
    /// Why the run is void.
    pub(crate) fault: Option<String>,
    /// Which part of the machine others used, 0 to 1.
    pub(crate) others: f64,
    /// How late the generator was, in microseconds: the 99th percentile.
    pub(crate) late: f64,
}

/// What all runs share.
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    pub(crate) runtime: Runtime,
    /// How long a contender is warmed up.
    pub(crate) warm_up: Duration,
}

/// What runs.
pub(crate) struct Run<'a> {
    bench: &'a Bench,
    contender: Running,
    service: Service,
    nats: NatsServer,
    admin: async_nats::Client,
    /// How long it took from the start of the process until all links were open.
    opened: Duration,
    /// What the stream holds besides the numbered events.
    besides: u64,
    _dir: Dir,
}

/// CPU time, memory and foreign load over a span of a run.
struct Meter {
    pid: u32,
    start: Instant,
    cpu: f64,
    load: Load,
}

impl Meter {
    fn start(pid: u32) -> Self {
        Self { pid, start: Instant::now(), cpu: usage::cpu(pid), load: Load::now() }
    }

    /// Microseconds of CPU for each of so many events.
    fn cpu_per(&self, events: u64) -> f64 {
        (usage::cpu(self.pid) - self.cpu) * 1e6 / events.max(1) as f64
    }

    /// Milliseconds of CPU for each second.
    fn cpu_share(&self) -> f64 {
        (usage::cpu(self.pid) - self.cpu) * 1e3 / self.start.elapsed().as_secs_f64()
    }

    fn others(&self) -> f64 {
        Load::now().others_since(self.load, self.start.elapsed().as_secs_f64())
    }
}

impl Task {
    fn protocol(self) -> Protocol {
        if matches!(self, Self::SocketIo { .. }) { Protocol::SocketIo } else { Protocol::WebSocket }
    }

    fn jetstream(self) -> bool {
        matches!(self, Self::WebSocket { jetstream: true } | Self::SocketIo { jetstream: true })
    }

    fn links(self) -> usize {
        match self {
            Self::Links { count, .. } | Self::Instances { count } => count,
            _ => 1,
        }
    }

    /// The subjects of its numbered events.
    fn subject(self) -> String {
        let kind = if matches!(self, Self::Links { .. }) { "socket.message" } else { "message.created" };
        format!("pontoon.event.{}.*.{kind}.>", connector(self))
    }
}

impl Bench {
    /// Starts a contender between a new server and a new service, and waits until all its links are open.
    pub(crate) fn start(
        &self,
        contender: Contender,
        task: Task,
        shape: Option<&Shape>,
    ) -> io::Result<Run<'_>> {
        let options = NatsServer::options().max_file_store("16GB").config("max_pending: 1GB");
        let (nats, admin) = self.runtime.block_on(async {
            let nats = options.start().await;
            let admin = nats.client().await;
            (nats, admin)
        });
        let dir = Dir::new("bench-tls");
        let (mut acceptor, mut ca_file): (_, Option<PathBuf>) = (None, None);
        if matches!(task, Task::Links { tls: true, .. }) {
            let (made, pem) = tls::acceptor()?;
            (acceptor, ca_file) = (Some(made), Some(dir.write("ca.pem", &pem)));
        }
        let service = Service::start(task.protocol(), acceptor)?;
        if contender != Contender::Pontoon && task.jetstream() {
            let config = shape.and_then(|shape| shape.stream.clone());
            let config = config.ok_or_else(|| io::Error::other("Pontoon's stream is not known"))?;
            self.runtime.block_on(async {
                let stream = jetstream::new(admin.clone()).create_stream(config).await;
                stream.map(|_| ()).map_err(io::Error::other)
            })?;
        }
        let place = Place { service: service.address(), nats: &nats, ca_file: ca_file.as_deref(), shape };
        let began = Instant::now();
        let contender_runs = Running::start(&self.programs, contender, task, &place)?;
        let mut run = Run {
            bench: self,
            contender: contender_runs,
            service,
            nats,
            admin,
            opened: Duration::ZERO,
            besides: 0,
            _dir: dir,
        };
        run.wait("its connections", |run| run.service.ready() == task.links())?;
        run.opened = began.elapsed();
        run.contender.ready(&self.runtime);
        if task.jetstream() && contender == Contender::Pontoon {
            // Each run of the daemon begins with a gap.
            run.wait("the stream", |run| run.stored() > 0)?;
            run.besides = run.stored();
        }
        Ok(run)
    }

    /// Events as fast as they are read: events/s, CPU for each, peak memory.
    pub(crate) fn blast(
        &self,
        contender: Contender,
        task: Task,
        (size, time): (usize, Duration),
        shape: &Shape,
    ) -> io::Result<Sample> {
        let mut run = self.start(contender, task, Some(shape))?;
        let subscriber = if task.jetstream() { None } else { Some(run.subscribe(task)?) };
        let warm = run.service.blast(FIRST, size, self.warm_up)?;
        run.confirmed(subscriber.as_ref(), warm)?;
        let meter = Meter::start(run.contender.id());
        let count = run.service.blast(FIRST + warm, size, time)?;
        let end = run.confirmed(subscriber.as_ref(), warm + count)?;
        let took = end.saturating_duration_since(meter.start).as_secs_f64();
        let values = vec![count as f64 / took, meter.cpu_per(count), mebibytes(usage::peak(meter.pid))];
        let others = meter.others();
        let subscriber = match subscriber {
            Some(subscriber) => subscriber,
            None => run.read_back(warm + count)?,
        };
        let fault = fault(&subscriber, warm + count, shape);
        Ok(Sample { values, fault, others, late: 0.0 })
    }

    /// Events at a rate, each in its own write: how late they are received (50 %, 99 %), CPU for each.
    pub(crate) fn paced(
        &self,
        contender: Contender,
        task: Task,
        (rate, time): (f64, Duration),
        shape: &Shape,
    ) -> io::Result<Sample> {
        let mut run = self.start(contender, task, Some(shape))?;
        let subscriber = run.subscribe(task)?;
        let warm = run.service.paced(FIRST, SIZE, (rate, self.warm_up), |_| ())?.count;
        run.confirmed(Some(&subscriber), warm)?;
        let meter = Meter::start(run.contender.id());
        let paced = run.service.paced(FIRST + warm, SIZE, (rate, time), |plan| subscriber.measure(plan))?;
        run.confirmed(Some(&subscriber), warm + paced.count)?;
        let latencies = subscriber.tally().latencies();
        let values = vec![quantile(&latencies, 0.5), quantile(&latencies, 0.99), meter.cpu_per(paced.count)];
        let fault = fault(&subscriber, warm + paced.count, shape);
        Ok(Sample { values, fault, others: meter.others(), late: paced.late })
    }

    /// Requests: answers/s, how long they take (50 %, 99 %), CPU for each.
    pub(crate) fn calls(&self, contender: Contender, in_flight: usize, time: Duration) -> io::Result<Sample> {
        let run = self.start(contender, Task::Calls, None)?;
        let subject = "pontoon.command.websocket.bench.call";
        let header = b"Pontoon-Status: response";
        let warm = caller::call(run.nats.address(), subject, in_flight, self.warm_up, header)?;
        let meter = Meter::start(run.contender.id());
        let calls = caller::call(run.nats.address(), subject, in_flight, time, header)?;
        let values = vec![
            calls.rate(),
            quantile(&calls.latencies, 0.5),
            quantile(&calls.latencies, 0.99),
            meter.cpu_per(calls.count),
        ];
        Ok(Sample { values, fault: warm.fault.or(calls.fault), others: meter.others(), late: 0.0 })
    }

    /// Links that receive nothing: seconds until all are open, memory for each in KiB, CPU in ms/s; and then, without TLS, with
    /// one event a second on each, CPU for each event.
    pub(crate) fn links(
        &self,
        contender: Contender,
        (count, tls): (usize, bool),
        time: Duration,
        shape: &Shape,
    ) -> io::Result<Sample> {
        let idle = Duration::from_secs(1).min(time);
        let alone = self.start(contender, Task::Links { count: 1, tls }, Some(shape))?;
        pause(idle);
        let base = usage::resident(alone.contender.id());
        drop(alone);
        let task = Task::Links { count, tls };
        let mut run = self.start(contender, task, Some(shape))?;
        pause(idle);
        let meter = Meter::start(run.contender.id());
        pause(time);
        let resident = usage::resident(meter.pid);
        let each = resident.saturating_sub(base) as f64 / 1024.0 / (count as f64 - 1.0).max(1.0);
        let mut values = vec![run.opened.as_secs_f64(), each, meter.cpu_share()];
        let (mut fault, mut late) = (None, 0.0);
        if !tls {
            let subscriber = run.subscribe(task)?;
            let rate = count as f64;
            let meter = Meter::start(run.contender.id());
            let paced = run.service.paced(FIRST, SIZE, (rate, time), |_| ())?;
            run.confirmed(Some(&subscriber), paced.count)?;
            values.push(meter.cpu_per(paced.count));
            late = paced.late;
            fault = subscriber.tally().fault(paced.count);
        }
        Ok(Sample { values, fault, others: meter.others(), late })
    }

    /// Instances with a link each: memory of all in MiB while they are idle, then CPU for each event at this rate over all.
    pub(crate) fn instances(&self, count: usize, rate: f64, time: Duration) -> io::Result<Sample> {
        let task = Task::Instances { count };
        let mut run = self.start(Contender::Pontoon, task, None)?;
        pause(time);
        let resident = mebibytes(usage::resident(run.contender.id()));
        let subscriber = run.subscribe(task)?;
        let meter = Meter::start(run.contender.id());
        let paced = run.service.paced(FIRST, SIZE, (rate, time), |_| ())?;
        run.confirmed(Some(&subscriber), paced.count)?;
        let values = vec![resident, meter.cpu_per(paced.count)];
        let fault = subscriber.tally().fault(paced.count);
        Ok(Sample { values, fault, others: meter.others(), late: paced.late })
    }
}

impl Run<'_> {
    /// Receives the numbered events of a task.
    pub(crate) fn subscribe(&self, task: Task) -> io::Result<Subscriber> {
        Subscriber::start(self.nats.address(), &task.subject(), task.links())
    }

    /// Sends the first event.
    pub(crate) fn send_one(&self, size: usize) -> io::Result<()> {
        self.service.paced(FIRST, size, (1000.0, Duration::from_millis(1)), |_| ()).map(|_| ())
    }

    /// Waits for something that must happen.
    pub(crate) fn wait(&mut self, what: &str, is_there: impl Fn(&Self) -> bool) -> io::Result<()> {
        let end = Instant::now() + 3 * PATIENCE;
        while !is_there(self) {
            if self.contender.has_ended() || Instant::now() > end {
                let text = format!("it did not get to {what}\n{}", self.contender.log());
                return Err(io::Error::other(text));
            }
            pause(POLL);
        }
        Ok(())
    }

    /// Waits until so many events were received or stored, or nothing happens any more. Returns when that was.
    fn confirmed(&mut self, subscriber: Option<&Subscriber>, count: u64) -> io::Result<Instant> {
        let mut last = (0, Instant::now());
        loop {
            let there = match subscriber {
                Some(subscriber) => subscriber.tally().distinct,
                None => self.stored().saturating_sub(self.besides),
            };
            let now = Instant::now();
            if there > last.0 {
                last = (there, now);
            }
            if there >= count || now.duration_since(last.1) > PATIENCE || self.contender.has_ended() {
                let received = subscriber.and_then(|subscriber| subscriber.tally().last_at);
                return Ok(received.unwrap_or(last.1));
            }
            pause(if subscriber.is_some() { POLL } else { 5 * POLL });
        }
    }

    /// How many messages the stream holds.
    fn stored(&self) -> u64 {
        self.bench.runtime.block_on(async {
            let context = jetstream::new(self.admin.clone());
            match context.get_stream(STREAM).await {
                Ok(stream) => stream.cached_info().state.messages,
                Err(_) => 0,
            }
        })
    }

    /// How the stream was created.
    pub(crate) fn stream_config(&self, task: Task) -> io::Result<Option<jetstream::stream::Config>> {
        if !task.jetstream() {
            return Ok(None);
        }
        self.bench.runtime.block_on(async {
            let context = jetstream::new(self.admin.clone());
            let stream = context.get_stream(STREAM).await.map_err(io::Error::other)?;
            Ok(Some(stream.cached_info().config.clone()))
        })
    }

    /// Reads the whole stream.
    fn read_back(&mut self, count: u64) -> io::Result<Subscriber> {
        let subscriber = Subscriber::start(self.nats.address(), READ_BACK, 1)?;
        self.bench.runtime.block_on(async {
            let context = jetstream::new(self.admin.clone());
            let config = push::Config {
                deliver_subject: READ_BACK.to_owned(),
                filter_subject: "pontoon.event.*.*.message.created.>".to_owned(),
                ack_policy: AckPolicy::None,
                ..Default::default()
            };
            let made = context.create_consumer_on_stream(config, STREAM).await;
            made.map(|_| ()).map_err(io::Error::other)
        })?;
        self.confirmed(Some(&subscriber), count)?;
        Ok(subscriber)
    }
}

/// What is wrong with what was received, if anything is.
fn fault(subscriber: &Subscriber, sent: u64, shape: &Shape) -> Option<String> {
    let tally = subscriber.tally();
    let differs = || shape.form.difference(tally.form.as_ref()?);
    tally.fault(sent).or_else(differs)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

#[expect(clippy::disallowed_methods, reason = "the harness's own thread")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// How fast the generator sends messages of this size to a reader that only counts bytes.
pub(crate) fn ceiling(size: usize, time: Duration) -> io::Result<f64> {
    use std::io::{Read as _, Write as _};
    let service = Service::start(Protocol::WebSocket, None)?;
    let mut socket = std::net::TcpStream::connect(service.address())?;
    let request = "GET / HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes())?;
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        while socket.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    while service.ready() == 0 {
        pause(POLL);
    }
    let start = Instant::now();
    let count = service.blast(FIRST, size, time)?;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    drop(service);
    let _ = reader.join();
    Ok(rate)
}

impl Bench {
    /// How fast requests are answered where nothing is between the caller and the server.
    pub(crate) fn call_ceiling(&self, in_flight: usize, time: Duration) -> io::Result<f64> {
        let nats = self.runtime.block_on(NatsServer::options().start());
        let address: SocketAddr = nats.address();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let answering = scope.spawn(|| caller::answer(address, "bench.call", &stop));
            pause(Duration::from_millis(100));
            let calls = caller::call(address, "bench.call", in_flight, time, b"Pontoon-Status: response");
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            answering.join().map_err(|_| io::Error::other("the answering thread has failed"))??;
            let calls = calls?;
            Ok(calls.rate())
        })
    }
}

impl Bench {
    /// Five idle instances of three connectors: memory in MiB, CPU in ms/s, milliseconds until ready, and the program's size in
    /// MiB.
    pub(crate) fn five_instances(&self, time: Duration) -> io::Result<Sample> {
        let (service, nats) = (
            Service::start(Protocol::WebSocket, None)?,
            self.runtime.block_on(NatsServer::options().max_file_store("16GB").start()),
        );
        let address = service.address();
        let url = format!("url = \"ws://{address}/ws\"");
        let config = DaemonConfig::new(&nats)
            .connector("one", "websocket", &url)
            .connector("two", "websocket", &url)
            .connector("three", "sub0", &url)
            .connector("four", "sub0", &url)
            .connector("five", "streamavatars", &format!("sockets.main.{url}"));
        let start = Instant::now();
        let mut daemon = Daemon::start(&self.programs.pontoon, config);
        self.runtime.block_on(daemon.ready(PATIENCE));
        let ready = start.elapsed().as_secs_f64() * 1e3;
        let end = Instant::now() + PATIENCE;
        while service.ready() < 5 && Instant::now() < end {
            pause(POLL);
        }
        pause(time.min(Duration::from_secs(2)));
        let meter = Meter::start(daemon.id());
        pause(time);
        let program = std::fs::metadata(&self.programs.pontoon)?.len();
        let fault = (service.ready() != 5).then(|| format!("{} of 5 links are open", service.ready()));
        let values =
            vec![mebibytes(usage::resident(meter.pid)), meter.cpu_share(), ready, mebibytes(program)];
        Ok(Sample { values, fault, others: meter.others(), late: 0.0 })
    }
}
