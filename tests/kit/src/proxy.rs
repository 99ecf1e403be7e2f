//! A TCP proxy on loopback that can harm what passes: the network's faults, one direction at a time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::wait::until_some;

/// How long the other side may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);
const STEP: usize = 16 * 1024;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From those who dialled the proxy to those behind it.
    Up,
    /// From those behind it.
    Down,
}

/// What happens to bytes that go one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toxic {
    /// They pass.
    None,
    /// They wait until this is lifted, as when packets are lost and sent again.
    Stall,
    /// They vanish, and so does the end of the connection.
    BlackHole,
    /// They arrive later.
    Latency(Duration),
    /// So many pass each second.
    Bandwidth(usize),
    /// So many pass, on each connection, and then the connection is broken (RST), both ways.
    CutAfter(usize),
}

/// A proxy. It ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    controls: Arc<Controls>,
    listening: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Controls {
    target: SocketAddr,
    up: watch::Sender<Toxic>,
    down: watch::Sender<Toxic>,
    /// Counts the calls of [`Proxy::cut`].
    cuts: watch::Sender<usize>,
}

impl Proxy {
    /// Listens, and connects everyone to `target`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let controls = Arc::new(Controls {
            target,
            up: watch::Sender::new(Toxic::None),
            down: watch::Sender::new(Toxic::None),
            cuts: watch::Sender::new(0),
        });
        let mut listening = JoinSet::new();
        listening.spawn(accept(Arc::clone(&controls), listener));
        Self { address, controls, listening: Mutex::new(listening) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happens one way, from now on, on connections that are open too.
    pub fn set(&self, direction: Direction, toxic: Toxic) {
        self.controls.toxic(direction).send_replace(toxic);
    }

    /// What happens both ways.
    pub fn set_both(&self, toxic: Toxic) {
        self.set(Direction::Up, toxic);
        self.set(Direction::Down, toxic);
    }

    /// Breaks the connections that are open (RST), both ways. New ones are taken.
    pub fn cut(&self) {
        self.controls.cuts.send_modify(|cuts| *cuts += 1);
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
    /// If somebody else keeps the port.
    pub async fn accept_again(&self) {
        self.refuse().await;
        let listener = until_some(CONNECT, async || TcpListener::bind(self.address).await.ok()).await;
        self.listening.lock().unwrap().spawn(accept(Arc::clone(&self.controls), listener));
    }
}

impl Controls {
    fn toxic(&self, direction: Direction) -> &watch::Sender<Toxic> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

/// Takes connections; they end with this task, since it owns theirs.
async fn accept(controls: Arc<Controls>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((client, _)) = listener.accept().await {
            let cuts = controls.cuts.subscribe();
            connections.spawn(connect(Arc::clone(&controls), client, cuts));
        }
    }
}

async fn connect(controls: Arc<Controls>, client: TcpStream, mut cuts: watch::Receiver<usize>) {
    let Ok(Ok(server)) = timeout(CONNECT, TcpStream::connect(controls.target)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut up = Pump { from: from_client, to: to_server, toxic: controls.up.subscribe(), passed: 0 };
    let mut down = Pump { from: from_server, to: to_client, toxic: controls.down.subscribe(), passed: 0 };
    let cut = tokio::select! {
        _ = cuts.changed() => true,
        cut = async { tokio::try_join!(up.run(), down.run()).is_err() } => cut,
    };
    if cut {
        // No lingering and no FIN from a half that is dropped: what the other side sees is a reset.
        for half in [up.to, down.to] {
            let _ = half.as_ref().set_zero_linger();
            half.forget();
        }
    }
}

/// One direction of one connection.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    toxic: watch::Receiver<Toxic>,
    passed: usize,
}

impl Pump {
    /// Passes bytes on until they end.
    ///
    /// # Errors
    /// When the connection is to be broken, or is.
    async fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; STEP];
        loop {
            let length = self.from.read(&mut buffer).await?;
            if length == 0 {
                return self.end().await;
            }
            self.pass(&buffer[..length]).await?;
        }
    }

    /// The end of one direction is passed on when its turn comes, and the other direction goes on.
    async fn end(&mut self) -> io::Result<()> {
        let _ = self.toxic.wait_for(|toxic| !matches!(toxic, Toxic::Stall | Toxic::BlackHole)).await;
        self.to.shutdown().await
    }

    async fn pass(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let toxic = *self.toxic.borrow_and_update();
            let mut next = bytes.len();
            match toxic {
                Toxic::None => {}
                Toxic::Stall => {
                    let _ = self.toxic.changed().await;
                    continue;
                }
                Toxic::BlackHole => return Ok(()),
                Toxic::Latency(time) => sleep(time).await,
                Toxic::Bandwidth(rate) => {
                    // In twentieths of a second, so that the rate may change soon; never less than a byte.
                    next = next.min((rate / 20).max(1));
                    let wait = Duration::from_secs_f64(next as f64 / rate.max(1) as f64);
                    let _ = timeout(wait, self.toxic.changed()).await;
                }
                Toxic::CutAfter(limit) => next = next.min(limit.saturating_sub(self.passed)),
            }
            let (now, later) = bytes.split_at(next);
            self.to.write_all(now).await?;
            self.passed += now.len();
            bytes = later;
            if matches!(toxic, Toxic::CutAfter(limit) if self.passed >= limit) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        Ok(())
    }
}
