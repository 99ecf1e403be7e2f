//! Tests: a dial connects only to addresses that the guard allows, for any result of the lookup.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pontoon_sdk::WebSocket;
use pontoon_sdk::connector::AllowList;
use pontoon_sdk::websocket::Endpoint;
use pontoon_testkit::{Connection, Refusal, Service, WebSocketServer, eventually};
use proptest::prelude::*;

use crate::settings;
use crate::transport::guard::Guard;
use crate::transport::resolve::Resolver;
use crate::transport::upgrade::Upgrade;
use crate::transport::{Dial as _, DialError, DialErrorKind, Settings};

const DEADLINE: Duration = Duration::from_secs(10);

/// A service that sends nothing.
struct Silent;

impl Service for Silent {
    fn text(&self, _: &Arc<Connection>, _: &str) {}
}

/// Resolves names for the test, and counts the lookups.
#[derive(Clone, Default)]
struct Zone {
    /// For each name, its addresses at the first lookup, the second, and so on; the last entry repeats.
    answers: Arc<Mutex<HashMap<String, Vec<Vec<IpAddr>>>>>,
    asked: Arc<AtomicUsize>,
}

impl Zone {
    fn add(&self, name: &str, addresses: &str) {
        let addresses = addresses.split_whitespace().map(|address| address.parse().unwrap()).collect();
        self.answers.lock().unwrap().entry(name.to_owned()).or_default().push(addresses);
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }

    fn settings(&self) -> Settings {
        let zone = self.clone();
        let answer = move |name: &str, port: u16| {
            zone.asked.fetch_add(1, Ordering::SeqCst);
            let mut answers = zone.answers.lock().unwrap();
            let answers = answers.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
            let now = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
            Ok(now.into_iter().map(|address| SocketAddr::new(address, port)).collect())
        };
        let mut settings = Settings::new(settings::Transport::default());
        settings.resolver = Resolver::of(answer);
        settings
    }
}

fn allow(hosts: &str, addresses: &str) -> AllowList {
    let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    AllowList { hosts: list(hosts), addresses: list(addresses), proxy: false, pointer: "/dynamic" }
}

async fn dial(endpoint: &Endpoint, settings: &Settings) -> Result<(), DialError> {
    WebSocket::dial(endpoint, &mut (), settings).await.map(|_| ())
}

fn lines(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[tokio::test]
async fn every_dial_of_the_table_ends_as_expected() {
    let server = WebSocketServer::start(Arc::new(Silent)).await;
    let table = include_str!("guard.txt").replace("{port}", &server.address().port().to_string());
    let zone = Zone::default();
    let settings = zone.settings();
    let (mut allowed, mut connected) = (allow("", ""), 0);
    for line in lines(&table) {
        if let Some(entry) = line.strip_prefix("zone ") {
            let (name, addresses) = entry.split_once(' ').unwrap_or((entry, ""));
            zone.add(name, addresses);
            continue;
        }
        if let Some(lists) = line.strip_prefix("= ") {
            let (hosts, addresses) = lists.split_once('|').unwrap();
            allowed = allow(hosts, addresses);
            continue;
        }
        let [kind, word, lookups, url] = line.splitn(4, ' ').collect::<Vec<_>>().try_into().unwrap();
        let ended = dial(&Endpoint::restricted(url, allowed.clone()), &settings).await;
        assert_eq!(zone.asked().to_string(), lookups, "{line}");
        match (kind, ended) {
            ("connected", Ok(())) => {
                connected += 1;
                eventually(DEADLINE, async || server.upgrades() == connected).await;
            }
            ("connected", Err(error)) => panic!("{line}: {error}"),
            (_, Ok(())) => panic!("{line}: connected"),
            (kind, Err(error)) => {
                let expected =
                    if kind == "forbidden" { DialErrorKind::Forbidden } else { DialErrorKind::Unreachable };
                assert_eq!(error.kind, expected, "{line}: {error}");
                assert!(error.message.contains(word), "{line}: {error}");
            }
        }
        assert_eq!(server.dials().len(), connected, "{line}");
    }
    assert!(connected > 10, "{connected} connections");
}

#[tokio::test]
async fn the_host_of_a_refused_url_is_not_looked_up() {
    let server = WebSocketServer::start(Arc::new(Silent)).await;
    let address = server.address();
    let zone = Zone::default();
    let mut settings = zone.settings();
    let asked = Arc::clone(&zone.asked);
    // Every name resolves to the server.
    settings.resolver = Resolver::of(move |_, _| {
        asked.fetch_add(1, Ordering::SeqCst);
        Ok(vec![address])
    });
    let (mut allowed, mut count) = (allow("", ""), 0);
    for line in lines(include_str!("../guard/urls.txt")) {
        if let Some(hosts) = line.strip_prefix("= hosts ") {
            allowed = allow(hosts, "");
            continue;
        }
        let [verdict, _, url] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
        let url = if url.starts_with('"') { serde_json::from_str(url).unwrap() } else { url.to_owned() };
        if verdict == "allowed" {
            dials_the_checked_host(&allowed, &url).unwrap_or_else(|wrong| panic!("{line}: {wrong}"));
            continue;
        }
        let error = dial(&Endpoint::restricted(&url, allowed.clone()), &settings).await.expect_err(line);
        assert_eq!((error.kind, zone.asked()), (DialErrorKind::Forbidden, 0), "{line}: {error}");
        count += 1;
    }
    assert!(count > 150, "{count} URLs");
    assert_eq!(server.dials().len(), 0);
}

#[tokio::test]
async fn a_lookup_that_changes_after_the_check_changes_nothing() {
    let server = WebSocketServer::start(Arc::new(Silent)).await;
    let url = format!("ws://rebind.example:{}/", server.address().port());
    let zone = Zone::default();
    // The system refuses to connect to the broadcast address, so no packet leaves this machine.
    zone.add("rebind.example", "255.255.255.255");
    zone.add("rebind.example", "127.0.0.1");
    let settings = zone.settings();
    let endpoint = Endpoint::restricted(&url, allow("rebind.example", "255.255.255.255"));
    let first = dial(&endpoint, &settings).await.unwrap_err();
    assert_eq!((first.kind, zone.asked()), (DialErrorKind::Unreachable, 1), "{first}");
    let second = dial(&endpoint, &settings).await.unwrap_err();
    assert_eq!((second.kind, zone.asked()), (DialErrorKind::Forbidden, 1), "{second}");
    assert!(second.message.contains("loopback"), "{second}");
    assert!(!second.message.contains("127.0.0.1"), "the caller must not learn the address: {second}");
    assert_eq!(server.dials().len(), 0);
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let server = WebSocketServer::start(Arc::new(Silent)).await;
    let url = format!("ws://rebind.example:{}/", server.address().port());
    let zone = Zone::default();
    zone.add("rebind.example", "127.0.0.1");
    zone.add("rebind.example", "127.0.0.2");
    let settings = zone.settings();
    let endpoint = Endpoint::restricted(&url, allow("rebind.example", "127.0.0.1"));
    dial(&endpoint, &settings).await.unwrap();
    assert_eq!((server.upgrades(), zone.asked()), (1, 1));
    let later = dial(&endpoint, &settings).await.unwrap_err();
    assert_eq!((later.kind, zone.asked(), server.dials().len()), (DialErrorKind::Forbidden, 1, 1), "{later}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = WebSocketServer::start(Arc::new(Silent)).await;
    let elsewhere = WebSocketServer::start(Arc::new(Silent)).await;
    let settings = Zone::default().settings();
    let endpoint = Endpoint::restricted(&format!("ws://{}/", server.address()), allow("*", "127.0.0.1"));
    for (place, status) in [301, 302, 303, 307, 308].into_iter().enumerate() {
        let location = format!("ws://{}/", elsewhere.address());
        server.refuse(Refusal::status(status).header("Location", &location));
        let error = dial(&endpoint, &settings).await.unwrap_err();
        assert_eq!(error.kind, DialErrorKind::WrongAddress, "{error}");
        assert!(error.message.contains("redirects are not followed"), "{error}");
        assert_eq!(server.dials().len(), place + 1);
    }
    assert_eq!(elsewhere.dials().len(), 0);
}

#[tokio::test]
async fn without_a_guard_every_address_is_dialled() {
    let server = WebSocketServer::start(Arc::new(Silent)).await;
    let zone = Zone::default();
    zone.add("home.example", "127.0.0.1");
    let endpoint = Endpoint::new(&format!("ws://home.example:{}/", server.address().port())).unwrap();
    dial(&endpoint, &zone.settings()).await.unwrap();
    assert_eq!((server.upgrades(), zone.asked()), (1, 1));
}

/// Checks that the upgrade request goes to the host and port that the guard has checked.
fn dials_the_checked_host(allowed: &AllowList, url: &str) -> Result<(), String> {
    let guard = Guard::new(allowed).map_err(|error| error.to_string())?;
    let form = guard.check_url(url).map_err(|error| error.to_string())?.to_string();
    let endpoint = Endpoint::restricted(url, allowed.clone());
    let address = Upgrade::new(&endpoint, "test").map_err(|error| error.to_string())?.address;
    guard.check_host(&address.host, address.port).map_err(|error| error.to_string())?;
    let (scheme, usual) = if address.secure { ("wss", 443) } else { ("ws", 80) };
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host };
    let with_port = format!("{scheme}://{host}:{}/", address.port);
    let same = form.starts_with(&with_port)
        || (address.port == usual && form.starts_with(&format!("{scheme}://{host}/")));
    same.then_some(()).ok_or(format!("{} would lead to {with_port}", form))
}

proptest! {
    #[test]
    fn an_allowed_url_dials_the_checked_host(
        url in "[wW][sS]{1,2}://[a-z0-9.:@/\\\\?#%\\[\\]é -]{0,10}(good|8\\.8\\.8\\.8|\\[2003::[0-9a-f:.]{1,4}\\])(:[0-9]{1,5})?([/?][ -~]{0,20})?",
    ) {
        let allowed = allow("*", "");
        if Guard::new(&allowed).unwrap().check_url(&url).is_ok() {
            prop_assert_eq!(dials_the_checked_host(&allowed, &url), Ok(()));
        }
    }
}
