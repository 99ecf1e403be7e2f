//! Tests: two channels of one connection, and a server that is played by hand.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::transport::wire::Wire;

type Server = BufReader<TcpStream>;

/// Two channels, and the server's end of their connection.
async fn pair() -> ([Channel; 2], Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let connection = PublishConnection::new(Wire::plain(ours.unwrap()), ServerInfo::default());
    let connection = Rc::new(SharedConnection::new(connection));
    let channels = ["a.", "b."].map(|subject| {
        Channel::open(
            connection.clone(),
            Some(&format!("_I_{subject}")),
            &[&format!("event.{subject}")],
            Fence::default(),
        )
    });
    spawn_local(async move { poll_fn(|cx| connection.poll_drive(cx)).await });
    let mut server = BufReader::new(theirs.unwrap().0);
    assert_eq!(line(&mut server).await, "SUB _I_a.> 1");
    assert_eq!(line(&mut server).await, "SUB _I_b.> 2");
    (channels, server)
}

async fn line(server: &mut Server) -> String {
    let mut line = String::new();
    server.read_line(&mut line).await.unwrap();
    line.trim_end().to_owned()
}

fn event(body: &[u8]) -> Publish<'_> {
    Publish { subject: b"event.a.x", reply: None, headers: &[], expected: None, body }
}

/// The next that the server receives is an event.
async fn is_event(server: &mut Server) {
    for wanted in ["HPUB event.a.x 12 13", "NATS/1.0", "", "1"] {
        assert_eq!(line(server).await, wanted);
    }
}

/// The next that is received, as text.
async fn next(channel: &mut Channel) -> String {
    loop {
        match channel.next() {
            Ok(Some(Received::Message(message))) => {
                return String::from_utf8_lossy(message.payload).into_owned();
            }
            Ok(Some(other)) => return format!("{other:?}"),
            Ok(None) => channel.ready().await,
            Err(error) => return format!("error: {error}"),
        }
    }
}

#[tokio::test]
async fn each_channel_gets_its_confirmations_and_refusals_and_one_ping_serves_both() {
    let test = async {
        let ([mut a, mut b], mut server) = pair().await;
        a.publish(&event(b"1"));
        assert_eq!((a.ping(), b.ping()), (1, 1));
        is_event(&mut server).await;
        assert_eq!(line(&mut server).await, "PING");
        let refused = "-ERR 'Permissions Violation for Publish to \"event.b.x\"'\r\n";
        server.write_all(format!("MSG _I_a.1 1 3\r\none\r\n{refused}PONG\r\n").as_bytes()).await.unwrap();
        assert_eq!([next(&mut a).await, next(&mut a).await], ["one", "Pong(1)"]);
        let refused = "Refused(\"Permissions Violation for Publish to \\\"event.b.x\\\"\")";
        assert_eq!([next(&mut b).await, next(&mut b).await], [refused, "Pong(1)"]);
        assert_eq!(b.ping(), 2);
        assert_eq!(line(&mut server).await, "PING");
        // One is under way, so that the next one waits, and nothing else does.
        for _ in 0..2 {
            assert_eq!(a.ping(), 3);
            a.publish(&event(b"1"));
            is_event(&mut server).await;
        }
        server.write_all(b"PONG\r\n").await.unwrap();
        assert_eq!(next(&mut b).await, "Pong(2)");
        assert_eq!(line(&mut server).await, "PING");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_channel_that_floods_takes_no_room_of_another() {
    let test = async {
        let ([mut a, mut b], mut server) = pair().await;
        let body = vec![b'x'; 1024];
        // More than the system's buffers take.
        let mut full = 0;
        while full < 100 {
            while !a.is_full() {
                a.publish(&event(&body));
                full = 0;
            }
            full += 1;
            tokio::task::yield_now().await;
        }
        assert!(!b.is_full());
        b.publish(&event(b"other"));
        assert!(!b.is_full());
        // No more than the quantum of the other is before it.
        let waiting = {
            let state = b.state();
            state.connection.end() - state.connection.written()
        };
        assert!(waiting <= (QUANTUM + 2 * 1200) as u64, "{waiting}");
        let read = spawn_local(async move {
            let mut line = Vec::new();
            while !line.ends_with(b"other\r\n") {
                server.read_until(b'\n', &mut line).await.unwrap();
            }
            server
        });
        a.ready().await;
        assert!(!a.is_full());
        read.await.unwrap();
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_break_ends_both_and_so_does_a_channel_that_gives_up() {
    let test = async {
        let ([mut a, mut b], server) = pair().await;
        drop(server);
        assert_eq!(next(&mut a).await, "error: the server closed it");
        assert_eq!(next(&mut b).await, "error: the server closed it");

        let ([a, mut b], mut server) = pair().await;
        a.give_up("it does not answer");
        assert_eq!(next(&mut b).await, "error: it does not answer");
        drop((a, b));
        assert_eq!(server.read(&mut [0; 64]).await.unwrap(), 0, "it is closed");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn the_connection_stays_until_the_last_channel_is_gone() {
    let test = async {
        let ([a, mut b], mut server) = pair().await;
        drop(a);
        assert_eq!(line(&mut server).await, "UNSUB 1");
        b.publish(&event(b"2"));
        assert_eq!(line(&mut server).await, "HPUB event.a.x 12 13");
        drop(b);
        let mut rest = String::new();
        server.read_to_string(&mut rest).await.unwrap();
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_a_channel_does_not_take_is_bounded() {
    let test = async {
        let ([mut a, mut b], mut server) = pair().await;
        let flood = ["MSG _I_a.1 1 3\r\none\r\n"; 1_000].concat();
        for _ in 0..(2 * MAX_ITEMS / 1_000) {
            server.write_all(flood.as_bytes()).await.unwrap();
        }
        b.ping();
        server.write_all(b"PONG\r\n").await.unwrap();
        assert_eq!(next(&mut b).await, "Pong(1)");
        let mut taken = 0;
        while let Ok(Some(_)) = a.next() {
            taken += 1;
        }
        assert!((1..=MAX_ITEMS + 1).contains(&taken), "{taken}");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_waits_is_not_written_once_the_fence_of_its_channel_is_closed() {
    LocalSet::new()
        .run_until(async {
            let ([a, mut b], mut server) = pair().await;
            let fence = Fence::until(crate::fence::now() + Duration::from_secs(3600));
            let mut fenced = Channel::open(b.connection.clone(), None, &["c."], fence.clone());
            fenced.publish(&event(b"1"));
            fence.revoke();
            // It is all one connection.
            fenced.ready().await;
            assert!(fenced.next().is_err() && b.next().is_err());
            let mut rest = String::new();
            drop((fenced, a, b));
            let _ = server.read_line(&mut rest).await;
            assert!(!rest.contains("PUB"), "{rest}");
        })
        .await;
}
