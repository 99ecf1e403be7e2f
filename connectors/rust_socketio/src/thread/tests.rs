use pontoon_sdk::socketio::{Args, Endpoint};
use pontoon_sdk::{Kind, Raw};
use pontoon_testkit::{SocketIoServer, Timers, eventually};
use serde_json::json;
use tokio::time::timeout;

use super::*;
use pontoon::settings;

/// The deadline of conditions that are waited for.
const HOLD_LIMIT: Duration = Duration::from_secs(30);

/// A connection to a server that pings often.
async fn connect(server: &SocketIoServer) -> Dialled<Reader, Writer> {
    let often = Duration::from_millis(100);
    server.timers(Timers { ping_interval: often, ping_timeout: often * 50, ..Timers::default() });
    let mut endpoint = Endpoint::new(&server.url()).unwrap();
    endpoint.engine = Some("rust-socketio");
    let settings = Settings::new(settings::Transport::default());
    open(Plan::new(&endpoint, &settings).unwrap(), &settings).await.unwrap()
}

fn event(size: usize) -> Frame {
    Frame::event("load", Raw::json(&"x".repeat(size)).unwrap())
}

#[tokio::test]
async fn a_crate_that_hangs_is_noticed() {
    let server = SocketIoServer::start().await;
    let Dialled { mut reader, mut writer, .. } = connect(&server).await;
    reader.silence = Duration::from_secs(2);
    // The blocked write holds the lock that the crate needs to report missing pings.
    server.freeze();
    let full = timeout(Duration::from_secs(1), async {
        loop {
            writer.feed(event(1_000_000)).await.unwrap();
            writer.flush().await.unwrap();
        }
    });
    assert!(full.await.is_err());
    let end = timeout(HOLD_LIMIT, reader.read()).await.expect("it is noticed").unwrap_err();
    assert!(end.reason.contains("not even a ping"), "{end}");
    // The writer gets the same error.
    assert_eq!(writer.feed(event(1)).await.unwrap_err(), end);
}

#[tokio::test]
async fn a_service_that_only_pings_is_not_silent() {
    let server = SocketIoServer::start().await;
    let Dialled { mut reader, .. } = connect(&server).await;
    reader.silence = Duration::from_secs(2);
    tokio::select! {
        queued = reader.read() => panic!("no frame was sent: {queued:?}"),
        () = eventually(HOLD_LIMIT, async || server.peer(0).pongs > 50) => {}
    }
    assert_eq!(server.upgrades(), 1);
}

#[tokio::test]
async fn an_unsupported_frame_ends_the_link_with_a_hint() {
    let server = SocketIoServer::start().await;
    let Dialled { mut writer, .. } = connect(&server).await;
    let placed = vec![Raw::json(&json!({"_placeholder": true, "num": 0})).unwrap()];
    let args = Args::with_attachments(placed, vec![bytes::Bytes::from_static(b"x")]).unwrap();
    for frame in [
        Frame::call(1, "echo", Raw::null()),
        Frame::ack(1, Vec::new()),
        Frame::Event(Event { name: "file".into(), args, ack: None }),
    ] {
        let end = writer.feed(frame).await.unwrap_err();
        assert_eq!(end.kind, Kind::Disconnected);
        assert!(end.reason.contains("engine = \"native\""), "{end}");
    }
}

#[tokio::test]
async fn the_thread_disconnects_and_ends_with_the_last_half() {
    let server = SocketIoServer::start().await;
    let Dialled { mut reader, mut writer, .. } = connect(&server).await;
    writer.feed(event(10)).await.unwrap();
    writer.flush().await.unwrap();
    writer.close().await.unwrap();
    let end = timeout(HOLD_LIMIT, reader.read()).await.expect("it ends").unwrap_err();
    assert!(end.reason.contains("closed the connection"), "{end}");
    server.connected(0, HOLD_LIMIT).await;
    eventually(HOLD_LIMIT, async || server.peer(0).others.iter().any(|packet| packet == "41")).await;
    assert_eq!(server.frames(), [event(10)]);

    let Dialled { reader, writer, .. } = connect(&server).await;
    server.connected(1, HOLD_LIMIT).await;
    drop(reader);
    drop(writer);
    server.connected(0, HOLD_LIMIT).await;
}
