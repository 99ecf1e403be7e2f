//! The transport over real sockets: whole lines, in any pieces, and ends with their reason.

use std::time::Duration;

use pontoon::settings;
use pontoon::transport::{
    Dial as _, DialError, DialErrorKind, Dialled, Read as _, Received, Settings, Write as _,
};
use pontoon_sdk::{End, Size, Span};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Both ends of a connection, with settings that make faults come soon.
async fn pair(change: impl FnOnce(&mut Endpoint)) -> (Dialled<Reader, Writer>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut endpoint = Endpoint::new(&listener.local_addr().unwrap().to_string()).unwrap();
    change(&mut endpoint);
    let (dialled, accepted) = tokio::join!(dial(&endpoint), listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

async fn dial(endpoint: &Endpoint) -> Result<Dialled<Reader, Writer>, DialError> {
    let config = settings::Transport {
        message_limit: Size(64),
        ping_interval: Span(Duration::from_millis(20)),
        ..Default::default()
    };
    Lines::dial(endpoint, &mut (), &Settings::new(config)).await
}

#[tokio::test]
async fn lines_come_whole_whatever_the_pieces_they_arrive_in() {
    let (mut link, mut service) = pair(|_| {}).await;
    let send = async {
        for piece in ["one\ntwo\r\n\nfo", "ur\r", "\nlast, without its end"] {
            service.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(service);
    };
    let receive = async {
        for expected in ["one", "two", "", "four"] {
            let Received::Message(line) = next(&mut link.reader).await.unwrap() else { panic!("too large") };
            assert_eq!(line.text().unwrap(), expected);
        }
        assert_eq!(next(&mut link.reader).await.unwrap_err().reason, "the connection was closed");
    };
    tokio::join!(send, receive);
}

/// Reads as the daemon does, which drops the future whenever something else happens.
async fn next(reader: &mut Reader) -> Result<Received<Line>, End> {
    loop {
        tokio::select! {
            biased;
            read = reader.read() => return read,
            () = tokio::task::yield_now() => {}
        }
    }
}

#[tokio::test]
async fn a_line_over_the_limit_is_discarded_and_the_next_one_comes() {
    for size in [65, 200, 100_000] {
        let (mut link, mut service) = pair(|_| {}).await;
        let text = "x".repeat(size) + "\nnext\n";
        let send = async { service.write_all(text.as_bytes()).await.unwrap() };
        let receive = async {
            let size = u64::try_from(size).unwrap();
            assert_eq!(next(&mut link.reader).await, Ok(Received::TooLarge(size)));
            assert_eq!(next(&mut link.reader).await, Ok(Received::Message(Line::new("next").unwrap())));
        };
        tokio::join!(send, receive);
    }
}

#[tokio::test]
async fn a_silent_peer_is_gone_if_it_was_to_answer_pings() {
    let (mut link, _service) = pair(|endpoint| endpoint.ping = Line::new("PING").ok()).await;
    assert!(link.reader.read().await.unwrap_err().reason.starts_with("nothing was received"));
}

#[tokio::test]
async fn lines_are_written_together_and_the_close_is_sent() {
    let (mut link, mut service) = pair(|endpoint| {
        endpoint.ping = Line::new("PING").ok();
        endpoint.goodbye = Line::new("QUIT").ok();
    })
    .await;
    link.writer.feed(Line::new("one").unwrap()).await.unwrap();
    link.writer.ping().await.unwrap();
    link.writer.close().await.unwrap();
    let mut received = String::new();
    service.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "one\r\nPING\r\nQUIT\r\n");
}

#[tokio::test]
async fn a_failed_dial_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = dial(&Endpoint::new(&address).unwrap()).await.err().unwrap();
    assert_eq!(error.kind, DialErrorKind::Unreachable);
    assert!(error.message.contains(&address), "{error}");
}
