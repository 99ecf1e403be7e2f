//! Publishing against a server that is not as it should be: nothing that it sends confirms an event which it may not have,
//! takes memory without end, or keeps the events from a server that is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::join_all;
use pontoon_sdk::{Event, EventType, LinkKey, Raw};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::bus::connect;
use crate::bus::connections::Connections;
use crate::envelope::Envelope;
use crate::metrics::InstanceMetrics;
use crate::settings::{Delivery, DeliveryMode, Events, Nats, Urls};

const DEADLINE: Duration = Duration::from_secs(60);
const INFO: &str =
    r#"INFO {"server_id":"X","version":"2.10.0","max_payload":1048576,"headers":true,"proto":1}"#;

/// When a server misbehaves on a connection for events.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Accepted,
    Connected,
    FirstEvent,
}

/// What it does after that.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Close,
    /// It reads and writes no more.
    Hang,
    GoOn,
}

#[derive(Debug, Clone)]
struct Misbehaviour {
    when: When,
    send: Vec<u8>,
    then: Then,
}

/// What arrived on the connections for events.
#[derive(Default)]
struct Arrived {
    connections: usize,
    /// The connection, and what was published on it.
    events: Vec<(usize, Vec<u8>)>,
    pings: usize,
    /// The ping that is answered only once two more events have come.
    slow_ping: Option<usize>,
}

/// A server that takes everything as NATS does, except on its first connections for events, which misbehave in turn.
struct Server {
    url: String,
    arrived: Rc<RefCell<Arrived>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(misbehaviours: impl IntoIterator<Item = Misbehaviour>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let arrived = Rc::new(RefCell::new(Arrived::default()));
        let mut misbehaviours: VecDeque<_> = misbehaviours.into_iter().collect();
        let task = spawn_local({
            let arrived = arrived.clone();
            async move {
                // The first connection is the client's.
                let mut is_client = true;
                let mut tasks = tokio::task::JoinSet::new();
                loop {
                    let (tcp, _) = listener.accept().await.unwrap();
                    let connection = if std::mem::take(&mut is_client) {
                        None
                    } else {
                        arrived.borrow_mut().connections += 1;
                        Some((arrived.clone(), misbehaviours.pop_front()))
                    };
                    tasks.spawn_local(async move { serve(tcp, connection).await.unwrap_or_default() });
                }
            }
        });
        Self { url, arrived, _task: AbortOnDropHandle::new(task) }
    }
}

/// Serves one connection. Events are kept if it is one for events, and its misbehaviour is shown.
async fn serve(
    tcp: TcpStream,
    connection: Option<(Rc<RefCell<Arrived>>, Option<Misbehaviour>)>,
) -> std::io::Result<()> {
    let (arrived, mut misbehaviour) = connection.unzip();
    let mut misbehaviour = misbehaviour.take().flatten();
    let number = arrived.as_ref().map_or(0, |arrived| arrived.borrow().connections);
    let (mut tcp, mut late) = (BufReader::new(tcp), None);
    let mut events = 0;
    let mut now = When::Accepted;
    loop {
        if let Some(Misbehaviour { send, then, .. }) = misbehaviour.take_if(|it| it.when == now) {
            // A peer that reads no more must not keep this from its end.
            let sent = tcp.write_all(&send);
            let _ = timeout(Duration::from_secs(20), sent).await;
            match then {
                Then::Close => return Ok(()),
                Then::Hang => std::future::pending().await,
                Then::GoOn => {}
            }
        }
        if now == When::Accepted {
            tcp.write_all(format!("{INFO}\r\n").as_bytes()).await?;
        }
        let mut line = String::new();
        if tcp.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let size = line.split_whitespace().last().and_then(|size| size.parse::<usize>().ok());
        if line.starts_with("CONNECT") {
            if arrived.is_some() {
                assert!(line.contains(r#""name":"pontoon/shop/events""#), "{line}");
            }
            now = When::Connected;
        } else if line.starts_with("PUB") || line.starts_with("HPUB") {
            let mut body = vec![0; size.unwrap() + 2];
            tcp.read_exact(&mut body).await?;
            events += 1;
            now = When::FirstEvent;
            if let Some(arrived) = &arrived {
                arrived.borrow_mut().events.push((number, body));
            }
            if late.take_if(|due| *due == events).is_some() {
                tcp.write_all(b"PONG\r\n").await?;
            }
        } else if line.starts_with("PING") {
            let is_slow = arrived.as_ref().is_some_and(|arrived| {
                let arrived = &mut *arrived.borrow_mut();
                arrived.pings += 1;
                arrived.slow_ping == Some(arrived.pings)
            });
            if is_slow {
                late = Some(events + 2);
            } else {
                assert!(late.is_none(), "a ping is under way already");
                tcp.write_all(b"PONG\r\n").await?;
            }
        }
    }
}

/// A publisher to such a server, in core mode.
struct Publishing {
    server: Server,
    spool: Rc<Spool>,
    status: watch::Receiver<BusStatus>,
    _task: AbortOnDropHandle<()>,
}

impl Publishing {
    async fn start(misbehaviours: impl IntoIterator<Item = Misbehaviour>) -> Self {
        let server = Server::start(misbehaviours).await;
        let nats = Nats { url: Urls::One(server.url.clone()), ..Nats::default() };
        let (client, connection) = connect::client(&nats, "pontoon/shop", "_INBOX_shop", "c").await.unwrap();
        let delivery = Delivery { mode: DeliveryMode::Core, ..Delivery::default() };
        let envelope = Rc::new(Envelope::new("pontoon", "t", "shop", 1, &Events::default()));
        let metrics = Arc::new(InstanceMetrics::new("shop", "t", &[]));
        let spool = Rc::new(Spool::new("shop", envelope, metrics, &delivery));
        let connections = Connections::new("pontoon/shop/events".into(), |task| drop(spawn_local(task)));
        let opener = Opener::new(connections, nats);
        let tracker = Tracker::new(delivery, "shop", "$JS.API".into(), Default::default());
        let sender = watch::Sender::new(BusStatus::default());
        let status = sender.subscribe();
        let limit = Size::mib(1);
        let mut publisher = Publisher::new(client, connection, opener, spool.clone(), sender, tracker, limit);
        let task = AbortOnDropHandle::new(spawn_local(async move { publisher.run().await }));
        Self { server, spool, status, _task: task }
    }

    fn offer(&self, count: usize, raw: &str) {
        for _ in 0..count {
            let raw = Raw::of_bytes(&bytes::Bytes::from(format!("\"{raw}\"")));
            let event = Box::new(Event::new(EventType::LogEntry, raw));
            self.spool.offer(
                &LinkKey::new("main"),
                event,
                Instant::now().into_std(),
                OffsetDateTime::now_utc(),
            );
        }
    }

    async fn published(&self) {
        timeout(DEADLINE, self.spool.empty()).await.expect("all are confirmed");
    }

    /// The numbers of the events that arrived on a connection, in order.
    fn sequences(&self, connection: usize) -> Vec<u64> {
        let arrived = self.server.arrived.borrow();
        let of_it = arrived.events.iter().filter(|(number, _)| *number == connection);
        of_it.map(|(_, event)| sequence(event)).collect()
    }
}

fn sequence(event: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(event);
    let (_, id) = text.split_once("ce-id: 1-").expect("an id");
    id.split("\r\n").next().unwrap().parse().unwrap()
}

fn misbehaviours() -> Vec<Misbehaviour> {
    let endless = [b"INFO ".as_slice(), &[b'x'; 1 << 20]].concat();
    let huge = [b"MSG a 1 9999999999\r\n".as_slice(), &[b'x'; 1 << 20]].concat();
    let mut all = Vec::new();
    for when in [When::Accepted, When::Connected, When::FirstEvent] {
        let mut add = |send: &[u8], then| all.push(Misbehaviour { when, send: send.to_vec(), then });
        add(b"", Then::Close);
        add(b"", Then::Hang);
        add(&endless, Then::Hang);
        add(&endless, Then::GoOn);
        add(&huge, Then::GoOn);
        for line in
            ["MSG a 1 99999999999", "MSG a 1 x", "HMSG a 1 9 3", "HTTP/1.1 400 Bad Request", "INFO 5", "\0"]
        {
            add(format!("{line}\r\n").as_bytes(), Then::GoOn);
        }
        for error in [
            "Authorization Violation",
            "Authentication Timeout",
            "User Authentication Expired",
            "User Authentication Revoked",
            "Account Authentication Expired",
            "Stale Connection",
            "maximum connections exceeded",
            "maximum account active connections exceeded",
            "Maximum Payload Violation",
            "Maximum Control Line Exceeded",
            "Secure Connection - TLS Required",
            "Unknown Protocol Operation",
            "Slow Consumer",
            "Permissions Violation for Publish to \"pontoon.event.t.shop.log.entry._\"",
        ] {
            let line = format!("-ERR '{error}'\r\n");
            add(line.as_bytes(), Then::Close);
            if when != When::Accepted {
                // Whatever answers the ping then does not confirm what was refused.
                add(line.as_bytes(), Then::GoOn);
            }
        }
        add(format!("{}\r\n", INFO.replace('}', ",\"ldm\":true}")).as_bytes(), Then::Close);
    }
    all
}

#[tokio::test]
async fn no_misbehaviour_of_a_server_confirms_an_event_or_keeps_it_for_ever() {
    LocalSet::new()
        .run_until(join_all(misbehaviours().into_iter().map(async |misbehaviour| {
            let name = format!(
                "{:?} {:?} {:?}",
                misbehaviour.when,
                misbehaviour.then,
                String::from_utf8_lossy(&misbehaviour.send[..misbehaviour.send.len().min(60)])
            );
            let publishing = Publishing::start([misbehaviour.clone()]).await;
            publishing.offer(3, "x");
            publishing.published().await;
            let last = publishing.server.arrived.borrow().connections;
            assert!(last <= 2, "{name}: one more connection is enough");
            // The first is the gap with which every run begins.
            let sequences = publishing.sequences(last);
            assert!(sequences.ends_with(&[1, 2, 3, 4]), "{name}: {sequences:?}");
            // One event waits for its confirmation, and goes out again if that does not come.
            let refused = usize::from(misbehaviour.when == When::FirstEvent);
            assert_eq!(publishing.server.arrived.borrow().events.len(), refused + 4, "{name}");
        })))
        .await;
}

#[tokio::test]
async fn what_keeps_events_from_the_server_is_in_the_status() {
    let refuse = |text: &str| Misbehaviour {
        when: When::Connected,
        send: format!("-ERR '{text}'\r\n").into_bytes(),
        then: Then::Close,
    };
    for (refusal, detail) in [
        (refuse("maximum connections exceeded"), "maximum connections exceeded"),
        (refuse("Authorization Violation"), "NATS refused our credentials"),
    ] {
        let local = LocalSet::new();
        let shown = async {
            let mut publishing = Publishing::start(vec![refusal; 1_000]).await;
            let is_shown = |status: &BusStatus| {
                !status.publishing && status.detail.as_deref().is_some_and(|text| text.contains(detail))
            };
            publishing.status.wait_for(is_shown).await.unwrap();
        };
        local.run_until(timeout(DEADLINE, shown)).await.expect(detail);
    }
}

#[tokio::test]
async fn a_server_that_reads_nothing_is_given_up_for_one_that_does() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let publishing = Publishing::start([]).await;
            publishing.offer(1, "x");
            publishing.published().await;
            // It stops between the events: what is in the buffers of the system is more than it has read.
            let hangs = Misbehaviour { when: When::FirstEvent, send: Vec::new(), then: Then::Hang };
            let publishing = Publishing::start([hangs]).await;
            let raw = "x".repeat(500_000);
            publishing.offer(60, &raw);
            publishing.published().await;
            assert_eq!(publishing.sequences(2), (1..=61).collect::<Vec<_>>());
        })
        .await;
}

#[tokio::test]
async fn a_limit_that_the_server_lowers_is_kept() {
    let info = INFO.replace("1048576", "900");
    let lowered =
        Misbehaviour { when: When::FirstEvent, send: format!("{info}\r\n").into_bytes(), then: Then::GoOn };
    let local = LocalSet::new();
    local
        .run_until(async {
            let publishing = Publishing::start([lowered]).await;
            publishing.offer(1, "x");
            publishing.published().await;
            publishing.offer(1, &"x".repeat(2_000));
            publishing.published().await;
            assert_eq!(publishing.sequences(1), [1, 2, 3]);
            let arrived = publishing.server.arrived.borrow();
            let (_, event) = arrived.events.last().unwrap();
            let body = event.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            let body: Value = serde_json::from_slice(&event[body..]).unwrap();
            assert_eq!(body["raw_omitted"], 2_002);
        })
        .await;
}

#[tokio::test]
async fn no_ping_follows_an_event_while_another_is_under_way() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let publishing = Publishing::start([]).await;
            // The handshake's, and that behind the first event.
            publishing.offer(1, "x");
            publishing.published().await;
            let pings = publishing.server.arrived.borrow().pings;
            publishing.server.arrived.borrow_mut().slow_ping = Some(pings + 1);
            for _ in 0..3 {
                let before = publishing.server.arrived.borrow().events.len();
                publishing.offer(1, "x");
                let arrives = async {
                    while publishing.server.arrived.borrow().events.len() == before {
                        tokio::task::yield_now().await;
                    }
                };
                timeout(DEADLINE, arrives).await.expect("it does not wait for the ping");
            }
            publishing.published().await;
            assert_eq!(
                publishing.server.arrived.borrow().pings,
                pings + 2,
                "one for the two that came meanwhile"
            );
        })
        .await;
}
