//! Many connections at a time, each with a title, in the small buffers that many connections need.

use std::rc::Rc;
use std::sync::Arc;

use async_nats::header::HeaderValue;
use futures_util::StreamExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::job::{Job, Result};
use crate::publish::Publisher;

const READ_BUFFER: usize = 4 * 1024;
/// How many connections are being made at a time.
const DIALS: usize = 64;

#[derive(Serialize)]
struct Event<'a> {
    title: &'a str,
    message: &'a str,
    raw: &'a str,
}

/// Connects all links, and publishes what they send, until one of them ends.
pub(crate) async fn run(job: &Job) -> Result<()> {
    let publisher = Rc::new(Publisher::connect(job).await?);
    let tls = job.ca_file.as_deref().map(connector).transpose()?;
    let (dials, url): (_, Rc<str>) = (Rc::new(Semaphore::new(DIALS)), job.url.as_str().into());
    let mut links = JoinSet::new();
    for number in 0..job.links {
        let title = format!("t{number}");
        let (publisher, tls, dials, url) =
            (Rc::clone(&publisher), tls.clone(), Rc::clone(&dials), Rc::clone(&url));
        links.spawn_local(async move {
            // Boxed, so that what dialling needs is not kept as long as the link is.
            match tls {
                None => read(Box::pin(dial(&url, &dials)).await?, &title, &publisher).await,
                Some(tls) => read(Box::pin(dial_tls(&url, &dials, &tls)).await?, &title, &publisher).await,
            }
        });
    }
    links.join_next().await.ok_or("there are no links")??
}

async fn dial(url: &str, dials: &Semaphore) -> Result<WebSocketStream<TcpStream>> {
    let _permit = dials.acquire().await?;
    upgrade(url, tcp(url).await?).await
}

async fn dial_tls(
    url: &str,
    dials: &Semaphore,
    tls: &TlsConnector,
) -> Result<WebSocketStream<TlsStream<TcpStream>>> {
    let _permit = dials.acquire().await?;
    upgrade(url, tls.connect(ServerName::try_from("localhost")?, tcp(url).await?).await?).await
}

async fn tcp(url: &str) -> Result<TcpStream> {
    let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(url: &str, stream: S) -> Result<WebSocketStream<S>> {
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER).write_buffer_size(0);
    Ok(client_async_with_config(url, stream, Some(config)).await?.0)
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    title: &str,
    publisher: &Publisher,
) -> Result<()> {
    let link = HeaderValue::from(title);
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        let body = serde_json::to_vec(&Event { title, message: &text, raw: &text })?;
        publisher.publish(&link, title, body.into()).await?;
    }
    Err("a link has ended".into())
}

fn connector(ca_file: &str) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into())
}
