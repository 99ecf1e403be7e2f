//! The connection to NATS: addresses, credentials, TLS, and what is known of its state.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, Server, ServerAddr, ServerError};
use nkeys::KeyPair;
use tokio::sync::watch;

use super::context;
use crate::backoff;
use crate::settings::Nats;
use crate::transport::tls::{self, Store, Trust};

/// How often the server is pinged. It counts as gone when the second ping in a row is not answered.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much the client reads of its socket at a time. It reads on until nothing is there, or for the 128 operations that
/// the runtime allows a task in one turn: 2 MiB.
const READ_BUFFER: u16 = 16 * 1024;
/// Messages that may wait on one subscription. Past it the client drops them. The smallest command takes about 30 bytes on
/// the wire, so what is read in one turn is below it; after that turn, [`super::commands::Requests`] takes all.
const SUBSCRIPTION_CAPACITY: usize = 131_072;

/// The text of the client's error where the server refuses our credentials.
const REFUSED: &str = "authorization violation";
const REFUSED_HINT: &str =
    "NATS refused our credentials; check nats.user and password, token, nkey or credentials";

/// How the text begins where the server's challenge could not be signed.
const UNSIGNED: &str = "failed signing nonce: AuthError(";
/// What stands before the reason why it could not.
pub(super) const CANNOT_SIGN_IN: &str = "cannot sign in to NATS: ";

/// What is known of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connection {
    /// Whether it is up.
    pub up: bool,
    /// Grows with every disconnect, to distinguish what was sent before from what is sent now.
    pub generation: u64,
    /// Whether the server has refused the subscription to commands on this connection.
    pub commands_refused: bool,
    /// How many messages the client dropped because they came faster than they were taken; at least, as its notices of that
    /// can be lost, too.
    pub dropped: u64,
    /// The last error of the server or the client, while there is one.
    pub detail: Option<String>,
}

/// Connects in the background: returns at once, and goes on trying while a receiver of the state is there. `name` is what the server's operator
/// sees; inboxes begin with `inbox`. It is noted if the server refuses the subscription to `commands`.
///
/// # Errors
/// A sentence on what is wrong with the settings; an unreachable server is not an error.
pub async fn client(
    nats: &Nats,
    name: &str,
    inbox: &str,
    commands: &str,
) -> Result<(Client, watch::Receiver<Connection>), String> {
    let nats = context::apply(nats)?;
    let addresses = addresses(&nats)?;
    let inbox = match &nats.inbox_prefix {
        Some(prefix) => {
            let own = inbox.trim_start_matches("_INBOX").trim_start_matches(['_', '.']);
            if own.is_empty() { prefix.clone() } else { format!("{prefix}.{own}") }
        }
        None => inbox.to_owned(),
    };
    let (state, watched) = watch::channel(Connection::default());
    let state = Arc::new(state);
    let mut options = ConnectOptions::with_auth_callback({
        let nats = nats.clone();
        move |nonce| {
            let auth = authenticate(&nats, &nonce).map_err(AuthError::new);
            async move { auth }
        }
    })
    .name(name)
    .custom_inbox_prefix(inbox)
    .ping_interval(PING_INTERVAL)
    .connection_timeout(CONNECT_TIMEOUT)
    .subscription_capacity(SUBSCRIPTION_CAPACITY)
    .read_buffer_capacity(READ_BUFFER)
    .max_reconnects(None)
    .retry_on_initial_connect()
    .reconnect_delay_callback({
        let state = state.clone();
        move |attempt| {
            let refused = state.borrow().detail.as_deref() == Some(REFUSED_HINT);
            if refused {
                backoff::NATS_REFUSED.delay(attempt) + CONNECT_TIMEOUT
            } else {
                backoff::NATS.delay(attempt)
            }
        }
    })
    .reconnect_to_server_callback({
        let state = state.clone();
        let rounds = Mutex::new(Rounds::default());
        let handshake_first = nats.tls.handshake_first;
        // It does not choose a server: it is called before every round of attempts, with the errors of the last one.
        move |servers, _| {
            let failed = rounds.lock().unwrap_or_else(PoisonError::into_inner).failed(servers);
            if let Some(why) = why(&failed, handshake_first) {
                state.send_modify(|connection| connection.detail = Some(why));
            }
            let given_up = state.is_closed();
            async move {
                if given_up {
                    // The client's task has no other end while there is no connection; here it holds no socket.
                    std::future::pending().await
                }
                None
            }
        }
    })
    .event_callback({
        let commands = format!("\"{commands}.");
        move |event| {
            note(&state, event, &commands);
            std::future::ready(())
        }
    });
    if nats.tls.ca_file.is_some() {
        options =
            options.tls_client_config(Store::new(nats.tls.certificates(), Trust::FileAlone).reloading());
    } else if let (Some(cert), Some(key)) = (&nats.tls.cert_file, &nats.tls.key_file) {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    if nats.tls.required {
        options = options.require_tls(true);
    }
    if nats.tls.handshake_first {
        options = options.tls_first();
    }
    let client = options.connect(addresses).await.map_err(|error| format!("NATS: {error}"))?;
    Ok((client, watched))
}

fn addresses(nats: &Nats) -> Result<Vec<ServerAddr>, String> {
    let parse = |url: &str| {
        url.parse()
            .map_err(|_| format!("\"{}\" is not a NATS address; write nats://host:4222", redacted(url)))
    };
    nats.url.list().into_iter().map(parse).collect()
}

/// The address without what may stand before its `@`.
fn redacted(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}***{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

/// Signs the server's challenge. Files are read again each time, so that they can be replaced.
pub(super) fn authenticate(nats: &Nats, nonce: &[u8]) -> Result<Auth, String> {
    let mut auth = Auth::new();
    if let Some(file) = &nats.credentials {
        let text = std::fs::read_to_string(file).map_err(|error| {
            format!("the NATS credentials file {} cannot be read: {error}", file.display())
        })?;
        let wrong = || format!("the NATS credentials file {} holds no user JWT and seed", file.display());
        let jwt = block(&text, "NATS USER JWT").ok_or_else(wrong)?;
        let seed = block(&text, "USER NKEY SEED").ok_or_else(wrong)?;
        auth.signature = Some(sign(seed, nonce)?.0);
        auth.jwt = Some(jwt.to_owned());
    }
    if let Some(seed) = &nats.nkey {
        let (signature, public) = sign(&reveal(seed)?, nonce)?;
        auth.signature = Some(signature);
        auth.nkey = Some(public);
    }
    auth.jwt = auth.jwt.or(nats.user_jwt.as_ref().map(reveal).transpose()?);
    if let Some(seed) = &nats.user_seed {
        auth.signature = Some(sign(&reveal(seed)?, nonce)?.0);
    }
    if let Some(token) = &nats.token {
        auth.token = Some(reveal(token)?);
    }
    auth.username = nats.user.clone();
    auth.password = nats.password.as_ref().map(reveal).transpose()?;
    Ok(auth)
}

fn reveal(secret: &pontoon_sdk::Secret) -> Result<String, String> {
    secret.reveal().map_err(|error| error.to_string())
}

fn sign(seed: &str, nonce: &[u8]) -> Result<(Vec<u8>, String), String> {
    let pair =
        KeyPair::from_seed(seed.trim()).map_err(|error| format!("the nkey seed is not valid: {error}"))?;
    let signature =
        pair.sign(nonce).map_err(|error| format!("the server's challenge cannot be signed: {error}"))?;
    Ok((signature, pair.public_key()))
}

/// The text between `-----BEGIN <name>-----` and the next line of dashes.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("BEGIN {name}-----"))?;
    rest.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('-'))
}

/// How often each server had failed when the last round of attempts began.
#[derive(Default)]
struct Rounds(HashMap<ServerAddr, usize>);

impl Rounds {
    /// The servers that have failed since. What the client remembers of the others is old: it keeps an error until
    /// that very server takes us.
    fn failed(&mut self, servers: Vec<Server>) -> Vec<Server> {
        let counts = servers.iter().map(|server| (server.addr.clone(), server.failed_attempts)).collect();
        let before = std::mem::replace(&mut self.0, counts);
        let is_new =
            |server: &Server| server.failed_attempts > before.get(&server.addr).copied().unwrap_or(0);
        servers.into_iter().filter(is_new).collect()
    }
}

/// Why there is no connection, from the last errors of the servers that failed.
fn why(servers: &[Server], handshake_first: bool) -> Option<String> {
    let failed: Vec<_> =
        servers.iter().filter_map(|server| Some((&server.addr, server.last_error.as_deref()?))).collect();
    if failed.iter().any(|(_, error)| error.contains(REFUSED)) {
        return Some(REFUSED_HINT.into());
    }
    let (address, error) = failed.first()?;
    if let Some(ours) = error.strip_prefix(UNSIGNED) {
        return Some(format!("{CANNOT_SIGN_IN}{}", ours.strip_suffix(')').unwrap_or(ours)));
    }
    let text =
        ["IO error: ", "nats: "].iter().fold(*error, |text, kind| text.strip_prefix(kind).unwrap_or(text));
    Some(unreachable(address, text, handshake_first))
}

/// Why a server cannot be connected to, with what to do about it.
pub(super) fn unreachable(address: &ServerAddr, text: &str, handshake_first: bool) -> String {
    if text.to_ascii_lowercase().contains(REFUSED) {
        return REFUSED_HINT.into();
    }
    let host = address.host();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("NATS cannot be reached at {host}:{}: {text}{}", address.port(), advice(text, handshake_first))
}

/// What to do about an error of TLS. The client hands on nothing but its text.
fn advice(error: &str, handshake_first: bool) -> Cow<'static, str> {
    if let Some(advice) = tls::advice(error) {
        return format!("; {}", advice.replace("ca_file", "nats.tls.ca_file")).into();
    }
    let advice = if error.contains("not valid for name") {
        "; check the host in nats.url"
    } else if error.contains("invalid peer certificate") {
        "; if it is the right server, put its authority, or exactly its certificate, into nats.tls.ca_file"
    } else if error.contains("fatal alert") {
        "; check nats.tls.cert_file and key_file"
    } else if error.contains("corrupt message") && handshake_first {
        "; it does not speak TLS before its first message: leave nats.tls.handshake_first out"
    } else if error.contains("corrupt message") {
        "; it does not speak TLS"
    } else if error.contains("could not load platform certs") {
        "; check SSL_CERT_FILE and SSL_CERT_DIR in the environment"
    } else if error.contains("expected INFO, got nothing") {
        "; if its tls block has handshake_first, set nats.tls.handshake_first = true"
    } else {
        ""
    };
    advice.into()
}

fn note(state: &watch::Sender<Connection>, event: Event, commands: &str) {
    let set = |up: Option<bool>, detail: Option<String>| {
        state.send_modify(|connection| {
            if let Some(up) = up {
                connection.generation += u64::from(connection.up && !up);
                connection.up = up;
                connection.commands_refused = false;
            }
            connection.detail = detail;
        });
    };
    match event {
        Event::Connected => set(Some(true), None),
        Event::Disconnected | Event::Closed => set(Some(false), Some("not connected to NATS".into())),
        Event::ServerError(ServerError::AuthorizationViolation) => set(None, Some(REFUSED_HINT.into())),
        Event::ServerError(error) => {
            let text = error.to_string();
            state.send_modify(|connection| connection.commands_refused |= text.contains(commands));
            set(None, Some(not_allowed(&text)));
        }
        // It names only the kind of an error; `why` has the rest before the next attempt.
        Event::ClientError(_) => {}
        Event::SlowConsumer(_) => state.send_modify(|connection| connection.dropped += 1),
        Event::LameDuckMode | Event::Draining => {}
    }
}

/// The status when the server refuses a publish or a subscription.
pub(super) fn not_allowed(text: &str) -> String {
    format!("NATS does not permit this user what it did: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_never_show_a_password() {
        assert_eq!(redacted("nats://user:pw@host:4222"), "nats://***@host:4222");
        assert_eq!(redacted("nats://host:4222"), "nats://host:4222");
    }

    #[test]
    fn an_old_error_of_another_server_is_no_reason() {
        let server = |url: &str, failed_attempts| Server {
            addr: url.parse().unwrap(),
            failed_attempts,
            did_connect: true,
            is_discovered: false,
            last_error: (failed_attempts > 0).then(|| "authorization violation".to_owned()),
        };
        let mut rounds = Rounds::default();
        // How often `a` and `b` have failed when a round begins, and how many of them failed in the last one.
        for (a, b, failed) in [(0, 0, 0), (1, 0, 1), (1, 0, 0), (1, 1, 1), (2, 2, 2), (2, 0, 0), (2, 1, 1)] {
            let servers = vec![server("nats://a:1", a), server("nats://b:1", b)];
            assert_eq!(rounds.failed(servers).len(), failed, "{a} {b}");
        }
    }

    #[test]
    fn why_there_is_no_connection_is_said_with_what_to_do() {
        let server = |url: &str, error: Option<&str>| Server {
            addr: url.parse().unwrap(),
            failed_attempts: 1,
            did_connect: false,
            is_discovered: false,
            last_error: error.map(str::to_owned),
        };
        let reason = |error| {
            why(&[server("nats://a:1", None), server("nats://u:p@[::1]:2", Some(error))], false).unwrap()
        };
        for (error, wanted) in [
            ("authorization violation: nats: authorization violation", REFUSED_HINT),
            ("failed signing nonce: AuthError(no (such) file)", "cannot sign in to NATS: no (such) file"),
            ("timed out", "NATS cannot be reached at [::1]:2: timed out"),
            (
                "IO error: nats: maximum connections exceeded",
                "NATS cannot be reached at [::1]:2: maximum connections exceeded",
            ),
            (
                "IO error: invalid peer certificate: UnknownIssuer",
                "NATS cannot be reached at [::1]:2: invalid peer certificate: UnknownIssuer; if it is the right server, put its authority, or exactly its certificate, into nats.tls.ca_file",
            ),
            (
                "IO error: expected INFO, got nothing",
                "NATS cannot be reached at [::1]:2: expected INFO, got nothing; if its tls block has handshake_first, set nats.tls.handshake_first = true",
            ),
        ] {
            assert_eq!(reason(error), wanted);
        }
        assert_eq!(why(&[server("nats://a:1", None)], false), None);
    }

    #[tokio::test]
    async fn messages_that_the_client_drops_are_counted() {
        let patience = Duration::from_secs(60);
        let server = pontoon_testkit::NatsServer::options().without_jetstream().start().await;
        let nats = Nats { url: crate::settings::Urls::One(server.url()), ..Nats::default() };
        let (client, mut connection) = client(&nats, "test", "_INBOX_test", "c").await.unwrap();
        connection.wait_for(|connection| connection.up).await.unwrap();
        // Nothing is read here.
        let slow = client.subscribe("slow").await.unwrap();
        assert!(super::super::commands::barrier(&client, patience).await);
        let other = server.client().await;
        for _ in 0..SUBSCRIPTION_CAPACITY + 1_000 {
            other.publish("slow", "".into()).await.unwrap();
        }
        let dropped = connection.wait_for(|connection| connection.dropped > 0);
        assert!(tokio::time::timeout(patience, dropped).await.is_ok(), "none is counted");
        drop(slow);
    }

    #[test]
    fn a_credentials_file_is_read_by_its_blocks() {
        let text = "-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n\n****\n-----BEGIN USER NKEY SEED-----\nSUX\n------END";
        assert_eq!(block(text, "NATS USER JWT"), Some("abc"));
        assert_eq!(block(text, "USER NKEY SEED"), Some("SUX"));
        assert_eq!(block(text, "OTHER"), None);
    }
}
