//! A daemon that was stopped for longer than its peers may be silent: what waits in its sockets is read before any of them
//! is judged.

use std::time::Duration;

use pontoon_testkit::{BareListener, BareSocket};
use tokio::time::{sleep, timeout};

use super::{CLOSE, PING, PONG, Scenario, TEXT, event, numbered};

/// How many messages come while the daemon is stopped.
const MESSAGES: usize = 3_000;
/// Longer than two of its ping intervals, which are a second, and than the silence that Engine.IO grants.
const STOPPED: Duration = Duration::from_secs(4);

/// How often a peer of Engine.IO sends a ping before the stop.
const PING_EVERY: Duration = Duration::from_millis(500);

/// What the peer does at the end of the stop.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Stays,
    Closes,
    /// Ends the connection below, so that the first write of the daemon fails.
    Vanishes,
}

async fn check(
    kind: &'static str,
    scenario: Scenario,
    mut socket: BareSocket,
    message: fn(usize) -> String,
    end: End,
) {
    let opened = usize::from(kind == "streamavatars");
    socket.send(TEXT, message(0).as_bytes()).await;
    let begun = async {
        scenario.ready().await;
        scenario.stored(1 + opened).await;
    };
    // However long that takes, the peer is not silent meanwhile.
    tokio::select! {
        () = begun => {}
        () = keep_alive(&mut socket, kind) => unreachable!("it goes on for ever"),
    }
    scenario.daemon.freeze();
    for number in 1..=MESSAGES {
        socket.send(TEXT, message(number).as_bytes()).await;
    }
    // How long it is stopped is what the test is about.
    sleep(STOPPED).await;
    match end {
        End::Stays => {}
        End::Closes => socket.send(CLOSE, &1012_u16.to_be_bytes()).await,
        End::Vanishes => drop(socket),
    }
    scenario.daemon.thaw();
    let wanted: Vec<_> = (0..=MESSAGES).map(|number| number.to_string()).collect();
    let stored = scenario.stored(wanted.len() + opened).await;
    let numbers: Vec<_> = stored.into_iter().filter(|shown| !shown.starts_with("gap")).collect();
    assert!(numbers == wanted, "{kind}: {} of {MESSAGES}\n{}", numbers.len(), scenario.daemon.log());
}

/// Answers pings, and sends those of Engine.IO.
async fn keep_alive(socket: &mut BareSocket, kind: &str) {
    loop {
        match timeout(PING_EVERY, socket.frame()).await {
            Ok(frame) => {
                let frame = frame.expect("the connection stays");
                if frame.first & 0x0F == PING & 0x0F {
                    socket.send(PONG, &frame.payload).await;
                }
            }
            Err(_) if kind == "socketio" => socket.send(TEXT, b"2").await,
            Err(_) => {}
        }
    }
}

async fn websocket(end: End) {
    let listener = BareListener::start().await;
    let settings = format!("url = \"{}/x\"\ntransport.ping_interval = \"1s\"", listener.url());
    let scenario = Scenario::new("websocket", &settings).await;
    let (_, socket) = listener.accept().await;
    check("websocket", scenario, socket, numbered, end).await;
}

#[tokio::test]
async fn what_a_service_sent_meanwhile_is_read() {
    websocket(End::Stays).await;
}

#[tokio::test]
async fn what_a_service_sent_before_it_closed_is_read() {
    websocket(End::Closes).await;
}

#[tokio::test]
async fn what_a_service_sent_before_it_was_gone_is_read() {
    websocket(End::Vanishes).await;
}

#[tokio::test]
async fn what_a_service_of_socket_io_sent_meanwhile_is_read() {
    let listener = BareListener::start().await;
    let scenario = Scenario::new("socketio", &format!("url = \"{}/x\"", listener.url())).await;
    let (_, mut socket) = listener.accept().await;
    let open = br#"0{"sid":"e","upgrades":[],"pingInterval":1500,"pingTimeout":500,"maxPayload":1000000}"#;
    socket.send(TEXT, open).await;
    assert_eq!(socket.frame().await.unwrap().payload, b"40");
    socket.send(TEXT, br#"40{"sid":"s"}"#).await;
    check("socketio", scenario, socket, event, End::Stays).await;
}

#[tokio::test]
async fn what_a_script_sent_meanwhile_is_read() {
    let settings = "listen = { address = \"127.0.0.1:0\", token = \"t0ken\", silence = \"1s\" }\ntransport.ping_interval = \"1s\"";
    let mut scenario = Scenario::new("streamavatars", settings).await;
    let url = scenario.daemon.listener("any").await;
    let mut socket = BareSocket::dial(&url).await;
    socket.send(TEXT, br#"{"type":"auth","token":"t0ken"}"#).await;
    assert_eq!(socket.frame().await.unwrap().first, TEXT, "the welcome");
    check("streamavatars", scenario, socket, numbered, End::Stays).await;
}

#[tokio::test]
async fn a_service_that_really_is_silent_is_still_noticed() {
    let listener = BareListener::start().await;
    let settings = format!("url = \"{}/x\"\ntransport.ping_interval = \"1s\"", listener.url());
    let scenario = Scenario::new("websocket", &settings).await;
    let (_, _silent) = listener.accept().await;
    let (_, _again) = listener.accept().await;
    scenario.daemon.logs("not even a pong").await;
}

#[tokio::test]
async fn a_session_that_became_ready_meanwhile_is_ready() {
    let listener = BareListener::start().await;
    let settings = format!(
        "url = \"{}/x\"\nkind = \"/type\"\nready_when = \"welcome\"\ntransport.connect_timeout = \"4s\"",
        listener.url()
    );
    let scenario = Scenario::new("websocket", &settings).await;
    let (_, mut socket) = listener.accept().await;
    socket.send(PING, b"there?").await;
    assert_eq!(socket.frame().await.unwrap().first, PONG, "it is open, and not ready yet");
    scenario.daemon.freeze();
    socket.send(TEXT, br#"{"type":"welcome"}"#).await;
    sleep(STOPPED).await;
    scenario.daemon.thaw();
    scenario.ready().await;
    assert_eq!(scenario.daemon.logged("link down").len(), 0, "{}", scenario.daemon.log());
}
