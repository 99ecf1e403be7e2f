//! The HTTP endpoint for probes and metrics: `/livez`, `/readyz`, `/metrics`, `/status`.
//!
//! It has a thread of its own, so that it answers whatever the instances do.

mod host;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::join_all;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::host::Hosts;
use crate::daemon::Roster;
use crate::metrics::Exporter;
use crate::settings::Admin;

/// Connections at a time. One more ends the oldest, so that no crowd of idle ones keeps a probe out.
const CONNECTIONS: usize = 64;
/// How long a client may take to ask.
const ASK: Duration = Duration::from_secs(5);
/// How long a connection may last, the answer read and all. It carries one request.
const LAST: Duration = Duration::from_secs(30);
/// How long an endpoint that ends waits for its port to be free, and for answers under way.
const CLOSE: Duration = Duration::from_secs(1);

/// What the endpoint shows.
#[derive(Clone)]
struct View {
    roster: Arc<Roster>,
    metrics: Exporter,
}

/// The endpoint. It ends when it is dropped.
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    settings: Admin,
    stop: CancellationToken,
    /// Disconnected once nothing listens there any more.
    closed: mpsc::Receiver<()>,
}

impl Endpoint {
    /// Listens and serves, on a thread of its own.
    ///
    /// # Errors
    /// A sentence that names the address.
    pub fn start(settings: &Admin, roster: &Arc<Roster>, metrics: &Exporter) -> Result<Self, String> {
        let listener = bind(&settings.listen)?;
        let view = View { roster: roster.clone(), metrics: metrics.clone() };
        serve(listener, view, settings.clone())
            .map_err(|error| format!("the admin endpoint cannot start: {error}"))
    }

    /// What it was started with.
    pub fn settings(&self) -> &Admin {
        &self.settings
    }

    /// Ends it, and waits for a moment until its port is free.
    pub fn close(self) {
        self.stop.cancel();
        let _ = self.closed.recv_timeout(CLOSE);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn bind(listen: &str) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(listen).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; is another daemon running there?",
            _ => "",
        };
        format!("admin.listen {listen} cannot be used: {error}{hint}")
    })?;
    listener.set_nonblocking(true).map_err(|error| format!("admin.listen {listen}: {error}"))?;
    Ok(listener)
}

/// Serves requests for addresses, `localhost` and the names of `hosts`.
fn serve(listener: TcpListener, view: View, settings: Admin) -> io::Result<Endpoint> {
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, (closing, closed)) = (CancellationToken::new(), mpsc::channel());
    let ends = stop.clone();
    let routes = routes(view).layer(from_fn_with_state(Hosts::new(&settings.hosts), host::check));
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let accepting = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let open = accept(listener, routes, &ends).await;
            drop(closing);
            // A scrape that is being answered gets the rest of it.
            timeout(CLOSE, join_all(open)).await.ok();
            io::Result::Ok(())
        });
        if let Err(error) = accepting {
            tracing::error!(%error, "the admin endpoint ended");
        }
    })?;
    Ok(Endpoint { address, settings, stop, closed })
}

/// Accepts until it is to stop. Returns the connections that are open.
async fn accept(
    listener: tokio::net::TcpListener,
    routes: Router,
    stop: &CancellationToken,
) -> VecDeque<JoinHandle<()>> {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return open,
        };
        match accepted {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(tokio::spawn(answer(stream, routes.clone())));
            }
            // No descriptors are left, most likely; a loop would make it worse.
            Err(error) => {
                tracing::warn!(%error, "the admin endpoint cannot accept a connection");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, routes: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(ASK).max_buf_size(16 * 1024).keep_alive(false);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // A client that breaks off or is slow is its own trouble.
    drop(timeout(LAST, connection).await);
}

fn routes(view: View) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .route("/status", get(status))
        .with_state(view)
}

/// Whether every loop comes round. A service that is away is no reason to end the daemon.
async fn livez(State(view): State<View>) -> Response {
    verdict(view.roster.stuck(Roster::STUCK).into_iter().map(|name| format!("{name} is stuck")).collect())
}

/// Whether events and commands can be taken. A service that is away is no reason to take the pod out.
async fn readyz(State(view): State<View>) -> Response {
    verdict(view.roster.unready())
}

fn verdict(reasons: Vec<String>) -> Response {
    if reasons.is_empty() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
}

async fn scrape(State(view): State<View>) -> Response {
    let form = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (form, view.metrics.render()).into_response()
}

async fn status(State(view): State<View>) -> Response {
    let body = json!({ "version": env!("CARGO_PKG_VERSION"), "instances": view.roster.shown() });
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
