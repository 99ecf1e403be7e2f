//! A small Parley server, which sends lines and hangs up.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use crate::DEADLINE;

/// It is gone when this value is dropped.
pub(crate) struct ParleyServer {
    pub(crate) address: SocketAddr,
    orders: broadcast::Sender<Order>,
    received: mpsc::UnboundedReceiver<String>,
}

#[derive(Debug, Clone)]
enum Order {
    Send(String),
    HangUp,
}

impl ParleyServer {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (orders, _) = broadcast::channel(16);
        let (receives, received) = mpsc::unbounded_channel();
        let weak = orders.downgrade();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Some(orders) = weak.upgrade() else { break };
                tokio::spawn(serve(client, orders.subscribe(), receives.clone()));
            }
        });
        Self { address, orders, received }
    }

    /// Sends a line to every client.
    pub(crate) fn send(&self, line: &str) {
        self.orders.send(Order::Send(line.to_owned())).expect("a client is here");
    }

    /// Ends every connection.
    pub(crate) fn hang_up(&self) {
        self.orders.send(Order::HangUp).expect("a client is here");
    }

    /// Waits until a client has sent this line.
    pub(crate) async fn receives(&mut self, line: &str) {
        let receiving =
            async { while self.received.recv().await.is_some_and(|received| received != line) {} };
        timeout(DEADLINE, receiving).await.unwrap_or_else(|_| panic!("not received: {line}"));
    }
}

async fn serve(
    mut client: TcpStream,
    mut orders: broadcast::Receiver<Order>,
    receives: mpsc::UnboundedSender<String>,
) {
    let (receiving, mut sending) = client.split();
    let mut lines = BufReader::new(receiving).lines();
    loop {
        let answer = tokio::select! {
            order = orders.recv() => match order {
                Ok(Order::Send(line)) => Some(line),
                Ok(Order::HangUp) | Err(_) => break,
            },
            line = lines.next_line() => match line {
                Ok(Some(line)) => {
                    let answer = answer(&line);
                    let _ = receives.send(line);
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
