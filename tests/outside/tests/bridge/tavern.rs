//! A small Parley server, which can say things and hang up.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use crate::PATIENCE;

/// It is gone when this value is dropped.
pub(crate) struct Tavern {
    pub(crate) address: SocketAddr,
    orders: broadcast::Sender<Order>,
    heard: mpsc::UnboundedReceiver<String>,
}

#[derive(Debug, Clone)]
enum Order {
    Say(String),
    HangUp,
}

impl Tavern {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (orders, _) = broadcast::channel(16);
        let (hears, heard) = mpsc::unbounded_channel();
        let weak = orders.downgrade();
        tokio::spawn(async move {
            while let Ok((guest, _)) = listener.accept().await {
                let Some(orders) = weak.upgrade() else { break };
                tokio::spawn(serve(guest, orders.subscribe(), hears.clone()));
            }
        });
        Self { address, orders, heard }
    }

    /// Tells every guest.
    pub(crate) fn say(&self, line: &str) {
        self.orders.send(Order::Say(line.to_owned())).expect("a guest is here");
    }

    /// Ends every connection.
    pub(crate) fn hang_up(&self) {
        self.orders.send(Order::HangUp).expect("a guest is here");
    }

    /// Waits until a guest says this.
    pub(crate) async fn hears(&mut self, line: &str) {
        let hearing = async { while self.heard.recv().await.is_some_and(|heard| heard != line) {} };
        timeout(PATIENCE, hearing).await.unwrap_or_else(|_| panic!("nobody says {line}"));
    }
}

async fn serve(
    mut guest: TcpStream,
    mut orders: broadcast::Receiver<Order>,
    hears: mpsc::UnboundedSender<String>,
) {
    let (receiving, mut sending) = guest.split();
    let mut lines = BufReader::new(receiving).lines();
    loop {
        let answer = tokio::select! {
            order = orders.recv() => match order {
                Ok(Order::Say(line)) => Some(line),
                Ok(Order::HangUp) | Err(_) => break,
            },
            line = lines.next_line() => match line {
                Ok(Some(line)) => {
                    let answer = answer(&line);
                    let _ = hears.send(line);
                    answer
                }
                Ok(None) | Err(_) => break,
            },
        };
        if let Some(answer) = answer
            && sending.write_all(format!("{answer}\r\n").as_bytes()).await.is_err()
        {
            break;
        }
    }
}

fn answer(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    match words.next()? {
        "HELLO" => Some("WELCOME".to_owned()),
        "PING" => Some("PONG".to_owned()),
        "SAY" => words.next().map(|number| format!("OK {number} m{number}")),
        _ => None,
    }
}
