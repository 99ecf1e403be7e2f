//! The HTTP endpoint: probes and metrics (`/livez`, `/readyz`, `/metrics`, `/status`), and the page (`/`).
//!
//! * `host`: which hosts requests may be for; `authorize`: who may use the page
//! * `scrape`: metrics
//! * `page`: the files of the page; `live`: what it shows, as server-sent events; `command`: what it sends
//!
//! It runs on a separate thread, so that a busy or stuck instance cannot delay its answers.

mod authorize;
mod command;
mod host;
mod live;
mod page;
mod scrape;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::future::join_all;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::authorize::Access;
use self::host::Hosts;
use crate::daemon::InstanceStatuses;
use crate::feed::Feed;
use crate::metrics::Exporter;
use crate::settings::Admin;

/// Connections at a time. One more ends the oldest, so that idle connections cannot keep a probe out.
const CONNECTIONS: usize = 64;
/// How long a client may take to send the request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last, unless its response goes on. It carries one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long closing waits for the port to be free, and for responses in progress.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the endpoint shows.
#[derive(Clone)]
struct View {
    statuses: Arc<InstanceStatuses>,
    metrics: Exporter,
    feed: Feed,
    /// Whether commands are taken.
    commands: bool,
}

/// The endpoint. Dropping it ends it.
pub struct Endpoint {
    /// The address it listens on.
    pub address: SocketAddr,
    settings: Admin,
    stop: CancellationToken,
    /// Disconnected once the listener is closed.
    closed: mpsc::Receiver<()>,
}

impl Endpoint {
    /// Binds the address, and serves it on a separate thread.
    ///
    /// # Errors
    /// A message with the address.
    pub fn start(
        settings: &Admin,
        statuses: &Arc<InstanceStatuses>,
        metrics: &Exporter,
        feed: &Feed,
    ) -> Result<Self, String> {
        let listener = bind(&settings.listen)?;
        let (statuses, metrics, feed) = (statuses.clone(), metrics.clone(), feed.clone());
        let view = View { statuses, metrics, feed, commands: settings.commands };
        serve(listener, view, settings.clone())
            .map_err(|error| format!("the admin endpoint cannot start: {error}"))
    }

    /// The settings it was started with.
    pub fn settings(&self) -> &Admin {
        &self.settings
    }

    /// Ends it, and waits up to `CLOSE_TIMEOUT` for the port to be free.
    pub fn close(self) {
        self.stop.cancel();
        let _ = self.closed.recv_timeout(CLOSE_TIMEOUT);
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

/// Serves requests whose host is an IP address, `localhost` or in `settings.hosts`.
fn serve(listener: TcpListener, view: View, settings: Admin) -> io::Result<Endpoint> {
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, (closing, closed)) = (CancellationToken::new(), mpsc::channel());
    let ends = stop.clone();
    let access = Access::new(&settings, address);
    let routes = routes(view, access).layer(from_fn_with_state(Hosts::new(&settings.hosts), host::check));
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let accepting = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let open = accept(listener, routes, &ends).await;
            drop(closing);
            // Lets a scrape in progress finish.
            timeout(CLOSE_TIMEOUT, join_all(open)).await.ok();
            io::Result::Ok(())
        });
        if let Err(error) = accepting {
            tracing::error!(%error, "the admin endpoint ended");
        }
    })?;
    Ok(Endpoint { address, settings, stop, closed })
}

/// Accepts connections until `stop`. Returns those that are open.
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
                open.push_back(tokio::spawn(serve_connection(stream, routes.clone())));
            }
            // Most likely no file descriptors are left: wait instead of trying again at once.
            Err(error) => {
                tracing::warn!(%error, "the admin endpoint cannot accept a connection");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, routes: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .keep_alive(false);
    let long = LongResponse::default();
    let service = TowerToHyperService::new(routes.layer(Extension(long.clone())));
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A client that breaks off or is too slow needs no report.
    if timeout(CONNECTION_TIMEOUT, &mut connection).await.is_err() && long.is_set() {
        drop(connection.await);
    }
}

/// Whether the response of a connection goes on until the client ends it.
#[derive(Clone, Default)]
struct LongResponse(Arc<AtomicBool>);

impl LongResponse {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn routes(view: View, access: Access) -> Router {
    let mut restricted =
        Router::new().route("/live", get(live::live)).route("/wire/{instance}", get(live::wire));
    if view.commands {
        restricted =
            restricted.route("/operations", get(command::operations)).route("/command", post(command::send));
    }
    Router::new()
        .route("/", get(page::index))
        .route("/page/{file}", get(page::file))
        .merge(restricted.layer(from_fn_with_state(access, authorize::check)))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape::scrape))
        .route("/status", get(status))
        .with_state(view)
}

/// Fails if a loop is stuck. A service that is away is not a reason to end the daemon.
async fn livez(State(view): State<View>) -> Response {
    probe_response(
        view.statuses
            .stuck(InstanceStatuses::STUCK)
            .into_iter()
            .map(|name| format!("{name} is stuck"))
            .collect(),
    )
}

/// Fails if events or commands cannot be taken. A service that is away is not a reason, nor is NATS while there is room:
/// those are named in the response, and with `?strict` they fail, too.
async fn readyz(State(view): State<View>, uri: Uri) -> Response {
    let (reasons, warnings) = (view.statuses.unready(), view.statuses.degraded());
    let is_ready = reasons.is_empty() && (uri.query() != Some("strict") || warnings.is_empty());
    let lines = reasons.into_iter().chain(warnings);
    if is_ready {
        let lines = std::iter::once("ok".to_owned()).chain(lines).collect::<Vec<_>>();
        return (StatusCode::OK, lines.join("\n") + "\n").into_response();
    }
    probe_response(lines.collect())
}

fn probe_response(reasons: Vec<String>) -> Response {
    if reasons.is_empty() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
}

async fn status(State(view): State<View>) -> Response {
    let body = view.statuses.status().to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
