//! Services behind TLS, and one that only records what it receives.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use pontoon_testkit::Sub0;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A Sub0 behind TLS, as behind a proxy that ends it.
pub(super) struct Service {
    pub(super) sub0: Sub0,
    pub(super) address: SocketAddr,
    versions: Arc<Mutex<Vec<ProtocolVersion>>>,
}

impl Service {
    pub(super) async fn start(config: Arc<ServerConfig>) -> Self {
        let sub0 = Sub0::start().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let versions = Arc::<Mutex<Vec<_>>>::default();
        let (acceptor, behind, agreed) = (TlsAcceptor::from(config), sub0.address(), versions.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, agreed) = (acceptor.clone(), agreed.clone());
                tokio::spawn(async move {
                    match acceptor.accept(stream).into_fallible().await {
                        Ok(mut secure) => {
                            agreed.lock().unwrap().extend(secure.get_ref().1.protocol_version());
                            let mut plain = TcpStream::connect(behind).await.expect("the service is there");
                            let _ = copy_bidirectional(&mut secure, &mut plain).await;
                        }
                        // The alert has been sent; a socket closed with unread bytes could take it back.
                        Err((_, mut stream)) => {
                            let _ = copy(&mut stream, &mut sink()).await;
                        }
                    }
                });
            }
        });
        Self { sub0, address, versions }
    }

    /// The settings of an instance, with more lines.
    pub(super) fn settings(&self, host: &str, lines: &str) -> String {
        format!("url = \"wss://{host}:{}/ws\"\n{lines}", self.address.port())
    }

    /// Which versions were agreed on, one for each connection.
    pub(super) fn versions(&self) -> Vec<ProtocolVersion> {
        self.versions.lock().unwrap().clone()
    }
}

/// A server without TLS, which keeps what it receives.
pub(super) struct Plain {
    pub(super) port: u16,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Plain {
    /// Answers everything so, and hangs up.
    pub(super) async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let received = Arc::<Mutex<Vec<_>>>::default();
        let kept = received.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let mut bytes = Vec::with_capacity(16 * 1024);
                    let _ = stream.read_buf(&mut bytes).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                    let _ = stream.read_to_end(&mut bytes).await;
                    kept.lock().unwrap().push(bytes);
                });
            }
        });
        Self { port, received }
    }

    /// The bytes received on each connection that is over.
    pub(super) fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap().clone()
    }
}
