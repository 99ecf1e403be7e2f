//! A thread with a separate runtime for each connection of the crate: if the crate hangs or breaks, the runtime is dropped
//! with everything in it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pontoon_sdk::End;
use pontoon_sdk::socketio::{Event, Frame};
use rust_socketio::asynchronous::{Client, ClientBuilder};
use rust_socketio::{Event as Name, Payload, TransportType};
use serde_json::Value;
use tokio::runtime::{Builder, Handle, RuntimeMetrics};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::callbacks::{Callbacks, Queued, Signal};
use crate::plan::Plan;
use pontoon::transport::socketio::refused;
use pontoon::transport::{DialError, Dialled, Read, Received, Resumed, Settings, Write};

/// How many requests may be queued for the thread.
const QUEUE: usize = 16;
/// How often the crate's task is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the thread may be idle. The crate notices a missing ping itself, but can then wait forever to report it; it
/// does not expose the ping interval of the service.
const SILENCE: Duration = Duration::from_secs(300);

/// Connects, and waits for the namespace to be confirmed. Dropping the future ends the thread.
pub(crate) async fn open(plan: Plan, settings: &Settings) -> Result<Dialled<Reader, Writer>, DialError> {
    let (callbacks, queue, signals) = Callbacks::new(settings.config.message_limit.0);
    let (requests, receiver) = mpsc::channel(QUEUE);
    let (up, confirmed) = oneshot::channel();
    let ending = Arc::new(Ending::default());
    let guard = Arc::new(Guard(ending.clone()));
    let worker = Worker { plan, callbacks, signals, requests: receiver, up };
    let name = "rust-socketio".to_owned();
    std::thread::Builder::new()
        .name(name)
        .spawn(move || worker.run(&ending))
        .map_err(|error| DialError::unreachable(format!("no thread can be started: {error}")))?;
    let metrics = match confirmed.await {
        Ok(dialled) => dialled?,
        Err(_) => return Err(DialError::unreachable(guard.0.end().to_string())),
    };
    let mut checks = interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let parks = metrics.worker_park_count(0);
    let (since, silence) = (Instant::now(), SILENCE);
    let reader = Reader { queue, checks, metrics, parks, since, silence, guard: guard.clone() };
    Ok(Dialled { reader, writer: Writer { requests, guard }, resumed: Resumed::No, limit: None })
}

/// How a connection ended; set once.
#[derive(Default)]
struct Ending {
    end: OnceLock<End>,
    stop: CancellationToken,
}

impl Ending {
    /// Sets the end, unless it was set before.
    fn set(&self, end: End) {
        let _ = self.end.set(end);
        self.stop.cancel();
    }

    fn end(&self) -> End {
        self.end.get().cloned().unwrap_or_else(|| End::disconnected("the engine rust-socketio is gone"))
    }
}

/// Ends the thread when reader and writer are dropped.
struct Guard(Arc<Ending>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

/// A request to the crate.
enum Request {
    /// Send an event.
    Emit(String, Vec<Value>),
    /// Report when the requests before it are done.
    Report(oneshot::Sender<()>),
    /// Disconnect.
    Close,
}

/// The state of the thread.
struct Worker {
    plan: Plan,
    callbacks: Callbacks,
    signals: mpsc::Receiver<Signal>,
    requests: mpsc::Receiver<Request>,
    up: oneshot::Sender<Result<RuntimeMetrics, DialError>>,
}

impl Worker {
    fn run(self, ending: &Ending) {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return ending.set(End::disconnected(format!("no runtime can be made: {error}"))),
        };
        let work = ending.stop.run_until_cancelled(self.run_client());
        match catch_unwind(AssertUnwindSafe(|| runtime.block_on(work))) {
            Ok(Some(end)) => ending.set(end),
            Ok(None) => {}
            Err(_) => ending.set(panicked()),
        }
        // Not dropped: that would wait for a name lookup in progress.
        runtime.shutdown_background();
    }

    async fn run_client(self) -> End {
        let Self { plan, callbacks, mut signals, mut requests, up } = self;
        let unread = End::disconnected("there was no connection");
        let client = match callbacks.register(plan.builder()).connect().await {
            Ok(client) => client,
            Err(fault) => {
                let _ = up.send(Err(plan.explain(&fault)));
                return unread;
            }
        };
        // The crate's `connect` does not wait for this, and events that are sent earlier are lost.
        let confirmed = match signals.recv().await {
            Some(Signal::Confirmed) => Ok(Handle::current().metrics()),
            Some(Signal::Refused(text)) => Err(refused(&plan.namespace, &text)),
            Some(Signal::Ended(end)) => {
                Err(DialError::unreachable(format!("the handshake of Socket.IO was broken off: {end}")))
            }
            None => Err(DialError::unreachable("the engine rust-socketio reports nothing")),
        };
        let refused = confirmed.is_err();
        if up.send(confirmed).is_err() || refused {
            return unread;
        }
        loop {
            let done = async {
                match requests.recv().await {
                    Some(request) => request.perform(&client).await,
                    // The writer is gone; queued frames may still be read.
                    None => std::future::pending().await,
                }
            };
            let ended = tokio::select! {
                biased;
                signal = signals.recv() => Err(ending(signal)),
                done = done => done,
            };
            if let Err(end) = ended {
                return end;
            }
        }
    }
}

impl Plan {
    fn builder(&self) -> ClientBuilder {
        let builder = ClientBuilder::new(self.url.clone())
            .namespace(self.namespace.clone())
            // Its long-polling loses what does not fit one chunk.
            .transport_type(TransportType::Websocket)
            // Only to be called back when the connection is lost: see `Callbacks::register`.
            .reconnect(true)
            .reconnect_on_disconnect(true);
        let builder = match self.auth.as_object().is_some_and(|auth| auth.is_empty()) {
            true => builder,
            false => builder.auth(self.auth.clone()),
        };
        let builder = self.tls.iter().fold(builder, |builder, tls| builder.tls_config(tls.clone()));
        self.headers
            .iter()
            .fold(builder, |builder, (name, value)| builder.opening_header(name.clone(), value.as_str()))
    }
}

impl Request {
    async fn perform(self, client: &Client) -> Result<(), End> {
        match self {
            Self::Emit(name, values) => {
                // Converted from a string, a name such as "open" would be sent as another.
                let emitted = client.emit(Name::Custom(name), Payload::Text(values)).await;
                emitted.map_err(|fault| End::disconnected(format!("an event cannot be sent: {fault}")))
            }
            Self::Report(done) => {
                let _ = done.send(());
                Ok(())
            }
            Self::Close => {
                let _ = client.disconnect().await;
                Err(End::disconnected("the daemon closed the connection"))
            }
        }
    }
}

fn ending(signal: Option<Signal>) -> End {
    match signal {
        Some(Signal::Ended(end)) => end,
        Some(Signal::Refused(text)) => {
            End::disconnected(format!("the service refused the namespace: {text}"))
        }
        Some(Signal::Confirmed) | None => End::disconnected("the engine rust-socketio ended unexpectedly"),
    }
}

fn panicked() -> End {
    End::disconnected("the engine rust-socketio stopped without an error: most likely it panicked")
}

/// Receives frames, and checks the crate's task.
pub struct Reader {
    queue: mpsc::Receiver<Queued>,
    checks: Interval,
    metrics: RuntimeMetrics,
    /// The thread's park count at the last check, and since when it is unchanged.
    parks: u64,
    since: Instant,
    silence: Duration,
    guard: Arc<Guard>,
}

impl Read<Frame> for Reader {
    async fn read(&mut self) -> Result<Received<Frame>, End> {
        loop {
            tokio::select! {
                            biased;
                            queued = self.queue.recv() => return match queued {
                                Some(queued) => Ok(Received::Message(queued.frame)),
            // All queued frames have been read, and the callbacks are gone.
                                None => Err(self.guard.0.end()),
                            },
                            _ = self.checks.tick() => self.check_task(),
                        }
        }
    }
}

impl Reader {
    /// The crate exposes no handle of its task, but it is the only task of its runtime.
    fn check_task(&mut self) {
        let (alive, parks) = (self.metrics.num_alive_tasks(), self.metrics.worker_park_count(0));
        if parks != self.parks {
            (self.parks, self.since) = (parks, Instant::now());
        }
        if alive == 0 {
            self.guard.0.set(panicked());
        } else if self.since.elapsed() >= self.silence {
            let reason = format!("nothing was received for {:?}, not even a ping", self.silence);
            self.guard.0.set(End::disconnected(reason));
        }
    }
}

/// Sends frames.
pub struct Writer {
    requests: mpsc::Sender<Request>,
    guard: Arc<Guard>,
}

impl Write<Frame> for Writer {
    async fn feed(&mut self, frame: Frame) -> Result<(), End> {
        match frame {
            Frame::Event(Event { name, args, ack: None }) if args.attachments().is_empty() => {
                let values: Result<_, _> = args.values().iter().map(|value| value.parse()).collect();
                self.request(Request::Emit(name, values.map_err(End::from)?)).await
            }
            Frame::Event(Event { ack: None, .. }) => Err(unable("send binary data")),
            Frame::Event(_) => Err(unable("ask for an acknowledgement")),
            Frame::Ack { .. } => Err(unable("send an acknowledgement")),
            // A malformed message is never sent.
            Frame::Malformed { .. } => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        let (done, reported) = oneshot::channel();
        self.request(Request::Report(done)).await?;
        reported.await.map_err(|_| self.guard.0.end())
    }

    /// Does nothing: the service pings, and the crate answers.
    async fn ping(&mut self) -> Result<(), End> {
        Ok(())
    }

    async fn close(&mut self) -> Result<(), End> {
        self.request(Request::Close).await?;
        self.requests.closed().await;
        Ok(())
    }
}

impl Writer {
    async fn request(&self, request: Request) -> Result<(), End> {
        self.requests.send(request).await.map_err(|_| self.guard.0.end())
    }
}

fn unable(what: &str) -> End {
    End::disconnected(format!("the engine rust-socketio cannot {what}; write engine = \"native\""))
}

#[cfg(test)]
mod tests;
