//! An HTTP proxy on loopback that makes tunnels with CONNECT (RFC 9110 §9.3.6) and records what it is asked for.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The longest request, in bytes.
const LONGEST: usize = 16 * 1024;

/// A request to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The request line without its version: `CONNECT host:port`.
    pub line: String,
    /// Header fields; names in lower case.
    pub headers: Vec<(String, String)>,
}

impl ConnectRequest {
    /// A header field; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the proxy does with those who connect.
#[derive(Debug, Clone, Default)]
pub enum ConnectAnswer {
    /// It connects them, if they show what it wants.
    #[default]
    Tunnel,
    /// It answers with these bytes, and hangs up.
    Send(String),
    /// It says nothing.
    Silent,
}

/// A running proxy. It ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    answer: ConnectAnswer,
    authorization: Option<String>,
    names: HashMap<String, SocketAddr>,
    requests: Vec<ConnectRequest>,
}

impl ConnectProxy {
    /// Listens, and connects everyone to the address that they ask for.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::<Mutex<Shared>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _tasks: tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has it know where an authority such as `svc.example:443` leads, as only the proxy can look such names up.
    pub fn name(&self, authority: &str, target: SocketAddr) {
        self.shared.lock().unwrap().names.insert(authority.to_owned(), target);
    }

    /// Wants this value of `Proxy-Authorization`, and answers 407 to any other.
    pub fn demand(&self, authorization: &str) {
        self.shared.lock().unwrap().authorization = Some(authorization.to_owned());
    }

    /// What it does from now on.
    pub fn answer(&self, answer: ConnectAnswer) {
        self.shared.lock().unwrap().answer = answer;
    }

    /// What it was asked, in order.
    pub fn requests(&self) -> Vec<ConnectRequest> {
        self.shared.lock().unwrap().requests.clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let shared = Arc::clone(&shared);
            // A client that hangs up ends its task.
            connections.spawn(async move { serve(stream, &shared).await.unwrap_or_default() });
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) -> io::Result<()> {
    let request = read(&mut stream).await?;
    let target = request.line.strip_prefix("CONNECT ").map(str::to_owned);
    let (answer, wanted, known) = {
        let mut shared = shared.lock().unwrap();
        let known = target.as_ref().and_then(|target| shared.names.get(target).copied());
        shared.requests.push(request.clone());
        (shared.answer.clone(), shared.authorization.clone(), known)
    };
    let target = match answer {
        ConnectAnswer::Silent => return std::future::pending().await,
        ConnectAnswer::Send(text) => return send(stream, &text).await,
        ConnectAnswer::Tunnel
            if wanted.is_some() && request.header("proxy-authorization") != wanted.as_deref() =>
        {
            let challenge = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"kit\"\r\n\r\n";
            return send(stream, challenge).await;
        }
        ConnectAnswer::Tunnel => match (known, target) {
            (Some(address), _) => TcpStream::connect(address).await,
            (None, Some(target)) => TcpStream::connect(target).await,
            (None, None) => {
                return send(stream, "HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n\r\n").await;
            }
        },
    };
    let Ok(mut target) = target else {
        return send(stream, "HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 kit\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut target).await?;
    Ok(())
}

/// Answers, and reads on until the client is gone, so that the answer is not lost.
async fn send(mut stream: TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}

async fn read(stream: &mut TcpStream) -> io::Result<ConnectRequest> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        if text.len() >= LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Byte by byte: what comes behind the head is for the target.
        text.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Ok(ConnectRequest { line, headers })
}
