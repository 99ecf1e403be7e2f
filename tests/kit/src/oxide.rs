//! A Socket.IO server by other hands (the crate `socketioxide`), for simulators of whole services.
//!
//! It differs from the server that the services run (npm `socket.io`) in little that matters here: its first ping comes
//! at once, and it ends a connection with Engine.IO's own close packet before the WebSocket's.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use socketioxide::SocketIo;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, SocketRef, TryData};
use socketioxide::handler::{self, ConnectHandler as _, FromMessage};
use socketioxide::socket::{Sid, Socket};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::proxy::Proxy;
use crate::socketio::{Connect, Timers};
use crate::wait::eventually;

/// How long what happens by itself on this machine may take.
const SOON: Duration = Duration::from_secs(10);
/// How many packets may wait for one client. What finds no room is lost, so that it must never be reached.
const QUEUE: usize = 1_000_000;

/// A Socket.IO server on loopback, behind a [`Proxy`] that can do what networks do. It is gone when it is dropped.
pub struct OxideServer {
    house: Arc<House>,
    /// The server's thread ends when this is dropped.
    _stop: oneshot::Sender<()>,
}

/// An event that a client emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// Which connection it came over, from 0 in the order of confirmed CONNECTs.
    pub connection: usize,
    /// Its name.
    pub name: String,
    /// What came with it.
    pub args: Vec<Value>,
    /// Whether it asks for an acknowledgement.
    pub asks: bool,
}

impl Emitted {
    /// What came with it first, or `null`.
    pub fn payload(&self) -> &Value {
        self.args.first().unwrap_or(&Value::Null)
    }
}

/// What a service does with what its clients say. Everything is called on the server's own thread, in order.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Judges a CONNECT; the words are those of the refusal.
    fn authorize(&self, _socket: &SocketRef, _auth: &Value) -> Result<(), String> {
        Ok(())
    }

    fn connected(&self, _socket: &SocketRef, _auth: &Value) {}

    fn event(&self, house: &Arc<House>, socket: &SocketRef, event: &Emitted, ack: AckSender);
}

/// What the service and those who test it share.
pub(crate) struct House {
    io: SocketIo,
    proxy: Proxy,
    heard: Mutex<Heard>,
    /// What is left of the service after it has died.
    dying: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Heard {
    connects: Vec<Connect>,
    /// How many were confirmed.
    sockets: usize,
    emitted: Vec<Emitted>,
}

impl OxideServer {
    /// Starts one. A client that sends no CONNECT is dropped after `connect_timeout`.
    pub(crate) async fn start(backend: impl Backend, timers: Timers, connect_timeout: Duration) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        listener.set_nonblocking(true).expect("a listener need not block");
        let inner = listener.local_addr().expect("a listener has an address");
        let (service, io) = SocketIo::builder()
            .ping_interval(timers.ping_interval)
            .ping_timeout(timers.ping_timeout)
            .max_payload(timers.max_payload)
            .ws_max_message_size(usize::try_from(timers.max_payload).expect("a size fits in memory"))
            .connect_timeout(connect_timeout)
            .max_buffer_size(QUEUE)
            .build_svc();
        let house = Arc::new(House {
            io,
            proxy: Proxy::to(inner).await,
            heard: Mutex::default(),
            dying: Mutex::default(),
        });
        house.serve(Arc::new(backend));
        let (stop, stopped) = oneshot::channel();
        // A thread with a runtime of its own: there, nothing of a client's can be read between its CONNECT's answer and
        // the moment at which its events are listened for.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be had").block_on(async move {
                let listener = TcpListener::from_std(listener).expect("the runtime takes a listener");
                let accepting = async {
                    loop {
                        let Ok((stream, _)) = listener.accept().await else { continue };
                        let _ = stream.set_nodelay(true);
                        let connection =
                            http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
                        tokio::spawn(connection.with_upgrades());
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        });
        Self { house, _stop: stop }
    }

    pub(crate) fn house(&self) -> &Arc<House> {
        &self.house
    }

    /// What a client is given as its URL.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address())
    }

    /// Where it listens; the same after every restart.
    pub fn address(&self) -> SocketAddr {
        self.house.proxy.address()
    }

    /// What stands between it and its clients.
    pub fn proxy(&self) -> &Proxy {
        &self.house.proxy
    }

    // --- What it says ---

    /// Emits to everyone.
    pub fn emit(&self, name: &str, payload: &Value) {
        self.house.tell_all(name, payload);
    }

    /// Emits to those who are in a room, by the server's own name for it.
    pub fn emit_to(&self, room: &str, name: &str, payload: &Value) {
        self.house.tell(room, None, name, payload);
    }

    // --- How it ends ---

    /// Disconnects everyone from the namespace (`41`), and leaves the connections open.
    pub fn disconnect(&self) {
        for socket in self.house.sockets() {
            let _ = socket.disconnect();
        }
    }

    /// Breaks every connection (RST). New ones are taken.
    pub fn cut(&self) {
        self.house.proxy.cut();
    }

    /// Stops, as a process that is killed: connections break, and the system refuses new ones. What the service itself
    /// keeps is kept.
    ///
    /// # Panics
    /// If it does not notice.
    pub async fn stop(&self) {
        // Otherwise it would take a new listener for the old one.
        let dying = self.house.dying.lock().unwrap().take();
        if let Some(dying) = dying {
            let _ = dying.await;
        }
        self.house.proxy.refuse().await;
        eventually(SOON, async || self.connections() == 0).await;
    }

    /// Takes connections again, on the same port.
    ///
    /// # Panics
    /// If somebody else keeps the port.
    pub async fn restart(&self) {
        self.stop().await;
        self.house.proxy.accept_again().await;
    }

    // --- What it saw ---

    /// How many clients are connected to the namespace.
    pub fn connections(&self) -> usize {
        self.house.sockets().len()
    }

    /// Waits until this many are.
    ///
    /// # Panics
    /// If that takes longer than `deadline`.
    #[track_caller]
    pub fn connected(&self, count: usize, deadline: Duration) -> impl Future<Output = ()> {
        eventually(deadline, async move || self.connections() == count)
    }

    /// Every CONNECT, those that were refused included.
    pub fn connects(&self) -> Vec<Connect> {
        self.house.heard().connects.clone()
    }

    /// Every event that came, whether it was understood or not.
    pub fn emitted(&self) -> Vec<Emitted> {
        self.house.heard().emitted.clone()
    }

    /// The payloads of the events of this name.
    pub fn payloads(&self, name: &str) -> Vec<Value> {
        let heard = self.house.heard();
        let events = heard.emitted.iter().filter(|event| event.name == name);
        events.map(|event| event.payload().clone()).collect()
    }
}

impl fmt::Debug for OxideServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OxideServer").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl House {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    /// Has the service hear what clients say.
    fn serve(self: &Arc<Self>, backend: Arc<dyn Backend>) {
        // The server keeps what is given to it here, and is itself kept by `self`.
        let house = Arc::downgrade(self);
        let listener = Arc::clone(&backend);
        let authorize = {
            let house = house.clone();
            move |socket: SocketRef, TryData(auth): TryData<Value>| {
                let auth = auth.ok();
                if let Some(house) = house.upgrade() {
                    house.heard().connects.push(Connect { namespace: "/".to_owned(), auth: auth.clone() });
                }
                std::future::ready(listener.authorize(&socket, &auth.unwrap_or_default()))
            }
        };
        let greet = move |socket: SocketRef, TryData(auth): TryData<Value>| {
            let Some(here) = house.upgrade() else { return std::future::ready(()) };
            let connection = {
                let mut heard = here.heard();
                heard.sockets += 1;
                heard.sockets - 1
            };
            let service = Arc::clone(&backend);
            let house = house.clone();
            socket.on_fallback(move |socket: SocketRef, ack: AckSender, packet: Packet| {
                if let Some(house) = house.upgrade() {
                    let Packet { name, args, asks } = packet;
                    let event = Emitted { connection, name, args, asks };
                    house.heard().emitted.push(event.clone());
                    service.event(&house, &socket, &event, ack);
                }
                std::future::ready(())
            });
            backend.connected(&socket, &auth.unwrap_or_default());
            std::future::ready(())
        };
        self.io.ns("/", greet.with(authorize));
    }

    /// Emits to those who are in a room, but for one.
    pub(crate) fn tell(&self, room: &str, but: Option<Sid>, name: &str, payload: &Value) {
        for socket in self.io.within(room.to_owned()).sockets() {
            if Some(socket.id) != but {
                let _ = socket.emit(name, payload);
            }
        }
    }

    /// Emits to everyone.
    pub(crate) fn tell_all(&self, name: &str, payload: &Value) {
        for socket in self.sockets() {
            let _ = socket.emit(name, payload);
        }
    }

    /// Everyone who is connected.
    pub(crate) fn sockets(&self) -> Vec<SocketRef> {
        self.io.sockets()
    }

    /// How many are in a room.
    pub(crate) fn members(&self, room: &str) -> usize {
        self.io.within(room.to_owned()).sockets().len()
    }

    /// The service dies: its connections break, and nobody is let in.
    pub(crate) fn die(self: &Arc<Self>) {
        let house = Arc::clone(self);
        let dying = tokio::spawn(async move { house.proxy.refuse().await });
        *self.dying.lock().unwrap() = Some(dying);
    }
}

/// An event as the server hands it over.
struct Packet {
    name: String,
    args: Vec<Value>,
    asks: bool,
}

impl<A: Adapter> FromMessage<A> for Packet {
    type Error = serde_json::Error;

    fn from_message(_: Arc<Socket<A>>, packet: handler::Value, ack: Option<i64>) -> serde_json::Result<Self> {
        let text = packet.as_str().map(|text| text.as_str()).unwrap_or_default();
        let (name, args) = match serde_json::from_str::<Vec<Value>>(text)?.split_first() {
            Some((name, args)) => (name.as_str().unwrap_or_default().to_owned(), args.to_vec()),
            None => (String::new(), Vec::new()),
        };
        Ok(Self { name, args, asks: ack.is_some() })
    }
}
