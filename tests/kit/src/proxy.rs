//! A TCP proxy on loopback that breaks what passes and refuses what comes, as networks do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::port::reserved_port;
use crate::wait::until_some;

/// How long the other side may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);

/// A proxy. It ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: SocketAddr,
    /// Counts the calls of [`Proxy::cut`].
    cuts: Arc<watch::Sender<usize>>,
    listening: Mutex<JoinSet<()>>,
}

impl Proxy {
    /// Listens, and connects every client to `target`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn to(target: SocketAddr) -> Self {
        let port = reserved_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let proxy = Self { address, target, cuts: Arc::default(), listening: Mutex::default() };
        proxy.listen(listener);
        proxy
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks the connections that are open (RST), both ways. New ones are taken.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Breaks the connections that are open, and has the system refuse new ones.
    pub async fn refuse(&self) {
        self.cut();
        let mut listening = std::mem::take(&mut *self.listening.lock().unwrap());
        listening.shutdown().await;
    }

    /// Takes connections again, on the same port.
    ///
    /// # Panics
    /// If another process keeps the port.
    pub async fn accept_again(&self) {
        self.refuse().await;
        self.listen(until_some(CONNECT, async || TcpListener::bind(self.address).await.ok()).await);
    }

    fn listen(&self, listener: TcpListener) {
        self.listening.lock().unwrap().spawn(accept(self.target, Arc::clone(&self.cuts), listener));
    }
}

/// Takes connections; they end with this task, since it owns theirs.
async fn accept(target: SocketAddr, cuts: Arc<watch::Sender<usize>>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((client, _)) = listener.accept().await {
            connections.spawn(connect(target, client, cuts.subscribe()));
        }
    }
}

async fn connect(target: SocketAddr, mut client: TcpStream, mut cuts: watch::Receiver<usize>) {
    let Ok(Ok(mut server)) = timeout(CONNECT, TcpStream::connect(target)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let cut = tokio::select! {
        _ = cuts.changed() => true,
        copied = copy_bidirectional(&mut client, &mut server) => copied.is_err(),
    };
    if cut {
        // Without lingering, the other side sees a reset.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}
