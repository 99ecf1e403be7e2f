//! From the addresses of a server to a `PublishConnection`: TCP, INFO, TLS, CONNECT, and a first round trip.
//!
//! It has the addresses, the credentials and the certificates of the client's connection, and goes to the same server, or
//! to another one of its cluster: with any other server, what it publishes would not be where the client looks for it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use async_nats::{Client, ConnectInfo, Protocol, ServerAddr, ServerInfo};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::{self, CONNECT_TIMEOUT};
use super::protocol::{Incoming, Operation, ProtocolError};
use super::publish_connection::{ConnectionError, PublishConnection, info};
use crate::settings::Nats;
use crate::transport::deadline::within;
use crate::transport::tls::{Store, Trust};
use crate::transport::wire::Wire;

/// How long all attempts of one [`Dialer::dial`] may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// How many servers are tried, and how many addresses of each.
const MAX_SERVERS: usize = 16;
const MAX_ADDRESSES: usize = 8;

/// Opens connections for events.
pub struct Dialer {
    nats: Nats,
    /// What the server's operator sees.
    name: String,
    tls: Store,
}

/// Which server may be connected to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The client's.
    Same,
    /// One of its cluster.
    Cluster,
}

/// Why there is no connection.
enum Refused {
    /// It is not the client's server.
    OtherServer,
    /// Anything else.
    Failed(ConnectionError),
}

impl<T: Into<ConnectionError>> From<T> for Refused {
    fn from(error: T) -> Self {
        Self::Failed(error.into())
    }
}

impl Dialer {
    /// With these settings, to which those of a context were added.
    pub fn new(nats: Nats, name: String) -> Self {
        let tls = Store::new(nats.tls.certificates(), Trust::FileAlone);
        Self { nats, name, tls }
    }

    /// Connects to the server of this client.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) async fn dial(&self, client: &Client) -> Result<PublishConnection, String> {
        let dialled = async {
            let mut servers = client.server_pool().await.map_err(|error| format!("NATS: {error}"))?;
            // The one that the client is connected to is one of those that have not failed since they were connected to.
            servers.sort_by_key(|server| (server.failed_attempts, !server.did_connect));
            let servers: Vec<_> = servers.into_iter().map(|server| server.addr).take(MAX_SERVERS).collect();
            self.try_servers(&servers, &client.server_info()).await
        };
        let dialled = within(DIAL_TIMEOUT, dialled).await;
        dialled.unwrap_or_else(|| Err("NATS takes no second connection: timed out".into()))
    }

    async fn try_servers(
        &self,
        servers: &[ServerAddr],
        wanted: &ServerInfo,
    ) -> Result<PublishConnection, String> {
        let (mut reason, mut others) = (None, Vec::new());
        for server in servers {
            let addresses = match lookup_host((server.host(), server.port())).await {
                Ok(addresses) => addresses.take(MAX_ADDRESSES),
                Err(error) => {
                    reason = Some(self.unreachable(server, &error.to_string()));
                    continue;
                }
            };
            for address in addresses {
                match self.try_in_time(address, server, (wanted, Which::Same)).await {
                    Ok(connection) => return Ok(connection),
                    Err(None) => others.push((address, server)),
                    Err(failed) => reason = failed,
                }
            }
        }
        for (address, server) in others {
            match self.try_in_time(address, server, (wanted, Which::Cluster)).await {
                Ok(connection) => return Ok(connection),
                Err(failed) => reason = failed.or(reason),
            }
        }
        Err(reason.unwrap_or_else(|| {
            "the addresses of nats.url lead to servers that are not one cluster; events wait until the one that the client is connected to is reached".into()
        }))
    }

    fn unreachable(&self, server: &ServerAddr, text: &str) -> String {
        connect::unreachable(server, text, self.nats.tls.handshake_first)
    }

    /// Tries one address. The error is `None` if it leads to another server than it may.
    async fn try_in_time(
        &self,
        address: SocketAddr,
        server: &ServerAddr,
        wanted: (&ServerInfo, Which),
    ) -> Result<PublishConnection, Option<String>> {
        match within(CONNECT_TIMEOUT, self.try_address(address, server, wanted)).await {
            Some(Ok(connection)) => Ok(connection),
            Some(Err(Refused::OtherServer)) => Err(None),
            Some(Err(Refused::Failed(error))) => Err(Some(self.unreachable(server, &error.to_string()))),
            None => Err(Some(self.unreachable(server, "timed out"))),
        }
    }

    async fn try_address(
        &self,
        address: SocketAddr,
        server: &ServerAddr,
        (wanted, which): (&ServerInfo, Which),
    ) -> Result<PublishConnection, Refused> {
        let mut tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let (stream, info) = if self.nats.tls.handshake_first {
            let mut tls = self.encrypt(server, tcp).await?;
            let info = first(&mut tls).await?;
            (Wire::encrypted(tls.into()), info)
        } else {
            let info = first(&mut tcp).await?;
            if self.nats.tls.required || info.tls_required || server.tls_required() {
                (Wire::encrypted(self.encrypt(server, tcp).await?.into()), info)
            } else {
                (Wire::plain(tcp), info)
            }
        };
        let connect = self.connect(server, &info)?;
        let is_same = info.server_id == wanted.server_id;
        let mut connection = PublishConnection::new(stream, info);
        if !is_same && (which == Which::Same || !connection.leads_to(wanted)) {
            return Err(Refused::OtherServer);
        }
        connection.send_line(&connect);
        connection.round_trip().await?;
        Ok(connection)
    }

    async fn encrypt(
        &self,
        server: &ServerAddr,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ConnectionError> {
        let config = self.tls.client().map_err(ConnectionError::Settings)?;
        let name = ServerName::try_from(server.host().to_owned())
            .map_err(|error| ConnectionError::Settings(error.to_string()))?;
        Ok(TlsConnector::from(config).connect(name, tcp).await?)
    }

    /// The CONNECT of this server, with its end.
    fn connect(&self, server: &ServerAddr, info: &ServerInfo) -> Result<Vec<u8>, ConnectionError> {
        let auth = connect::authenticate(&self.nats, info.nonce.as_bytes())
            .map_err(|error| ConnectionError::Settings(format!("{}{error}", connect::CANNOT_SIGN_IN)))?;
        let connect = ConnectInfo {
            verbose: false,
            pedantic: false,
            user_jwt: auth.jwt,
            nkey: auth.nkey,
            signature: auth.signature.map(|signature| URL_SAFE_NO_PAD.encode(signature)),
            name: Some(self.name.clone()),
            echo: false,
            lang: "rust".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: Protocol::Dynamic,
            tls_required: self.nats.tls.required || server.tls_required(),
            user: auth.username,
            pass: auth.password,
            auth_token: auth.token,
            headers: true,
            no_responders: true,
        };
        let mut line = b"CONNECT ".to_vec();
        serde_json::to_writer(&mut line, &connect)
            .map_err(|error| ConnectionError::Settings(error.to_string()))?;
        line.extend_from_slice(b"\r\n");
        Ok(line)
    }
}

/// The INFO with which a server begins. Nothing may follow it before we have answered: behind it TLS may begin, and what
/// came before that could be anybody's.
async fn first(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<ServerInfo, ConnectionError> {
    let mut incoming = Incoming::new();
    let info = loop {
        match incoming.next()? {
            Some(Operation::Info(json)) => break info(json)?,
            Some(Operation::Error(text)) => {
                return Err(ConnectionError::Server(
                    String::from_utf8_lossy(text).trim_matches('\'').to_owned(),
                ));
            }
            Some(_) => return Err(ProtocolError::First.into()),
            None => poll_fn(|cx| incoming.poll_read(stream, cx)).await?,
        }
    };
    if incoming.is_empty() { Ok(info) } else { Err(ProtocolError::First.into()) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    /// A server that begins with these bytes and answers a ping. Returns what it received before that.
    async fn server(first: String) -> (ServerAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let received = async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tcp.write_all(first.as_bytes()).await.unwrap();
            let (mut received, mut bytes) = (String::new(), [0; 1024]);
            while !received.ends_with("PING\r\n") {
                match tcp.read(&mut bytes).await {
                    Ok(1..) => received.push_str(std::str::from_utf8(&bytes).unwrap().trim_end_matches('\0')),
                    _ => return received,
                }
                bytes.fill(0);
            }
            let _ = tcp.write_all(b"PONG\r\n").await;
            received
        };
        (address, tokio::spawn(received))
    }

    fn info(id: &str, cluster: Option<&str>) -> String {
        let info = serde_json::json!({ "server_id": id, "cluster": cluster, "max_payload": 9, "nonce": "n" });
        format!("INFO {info}\r\n")
    }

    /// Connects where the client is connected to the server `A` of the cluster `C`.
    async fn dial(nats: Nats, servers: &[ServerAddr]) -> Result<PublishConnection, String> {
        let wanted = ServerInfo { server_id: "A".into(), cluster: Some("C".into()), ..ServerInfo::default() };
        Dialer::new(nats, "name".into()).try_servers(servers, &wanted).await
    }

    #[tokio::test]
    async fn the_connection_has_a_name_and_the_credentials_of_the_client() {
        let (address, received) = server(info("A", None)).await;
        let password = Some(pontoon_sdk::Secret::plain("pw"));
        let nats = Nats { user: Some("u".into()), password, ..Nats::default() };
        let connection = dial(nats, &[address]).await.unwrap();
        assert_eq!(connection.max_payload(), 9);
        let received = received.await.unwrap();
        let (connect, rest) = received.split_once("\r\n").unwrap();
        assert_eq!(rest, "PING\r\n");
        let connect: serde_json::Value =
            serde_json::from_str(connect.strip_prefix("CONNECT ").unwrap()).unwrap();
        for (name, value) in [("name", "name"), ("user", "u"), ("pass", "pw"), ("lang", "rust")] {
            assert_eq!(connect[name], value);
        }
        for (name, value) in [("verbose", false), ("pedantic", false), ("echo", false), ("headers", true)] {
            assert_eq!(connect[name], value, "{name}");
        }
        assert_eq!((&connect["no_responders"], &connect["protocol"]), (&true.into(), &1.into()));
    }

    #[tokio::test]
    async fn events_go_to_the_clients_server_or_else_to_its_cluster_and_nowhere_else() {
        for (servers, chosen) in [
            (&[("B", Some("C")), ("A", Some("C"))][..], Some(1)),
            (&[("B", None), ("A", None)], Some(1)),
            (&[("B", None), ("D", Some("D")), ("E", Some("C"))], Some(2)),
            (&[("B", None)], None),
            (&[("B", Some("D"))], None),
        ] {
            let (mut addresses, mut received) = (Vec::new(), Vec::new());
            for (id, cluster) in servers {
                // It may be tried twice.
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                addresses.push(listener.local_addr().unwrap().to_string().parse().unwrap());
                let first = info(id, *cluster);
                received.push(tokio::spawn(async move {
                    loop {
                        let (mut tcp, _) = listener.accept().await.unwrap();
                        tcp.write_all(first.as_bytes()).await.unwrap();
                        let mut bytes = [0; 1024];
                        if tcp.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                            tcp.write_all(b"PONG\r\n").await.unwrap();
                            return;
                        }
                    }
                }));
            }
            let connected = dial(Nats::default(), &addresses).await;
            assert_eq!(connected.is_ok(), chosen.is_some(), "{servers:?}");
            match chosen {
                Some(chosen) => received.swap_remove(chosen).await.unwrap(),
                None => assert!(connected.err().unwrap().contains("not one cluster")),
            }
            received.iter().for_each(JoinHandle::abort);
        }
    }

    #[tokio::test]
    async fn nothing_may_stand_behind_the_first_info() {
        let injected = format!("{}-ERR 'x'\r\n", info("A", Some("C")));
        for (first, reason) in [
            (injected, "more than that before TLS"),
            ("PING\r\n".to_owned(), "something else than INFO first"),
            ("-ERR 'maximum connections exceeded'\r\n".to_owned(), "maximum connections exceeded"),
        ] {
            let (address, _) = server(first).await;
            let refused = dial(Nats::default(), &[address]).await.err().unwrap();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_server_without_tls_gets_no_credentials_where_tls_is_required() {
        let (address, received) = server(info("A", None)).await;
        let mut nats = Nats { user: Some("u".into()), ..Nats::default() };
        nats.tls.required = true;
        assert!(dial(nats, &[address]).await.is_err());
        assert!(!received.await.unwrap_or_default().contains("CONNECT"));
    }
}
