//! `pontoon init`: connects to a service, shows what it sends, and proposes a table for it.

mod propose;

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use pontoon_sdk::connector::Frame as _;
use pontoon_sdk::{Param, Redactor, Secret, SocketIo, Span, WebSocket, socketio, websocket};
use tokio::time::timeout_at;

use self::propose::{Messages, Proposal};
use super::Outcome;
use super::failure::Failure;
use super::nats::block_on;
use crate::feed::cut;
use crate::log::printable::printable;
use crate::settings;
use crate::transport::{Dial, Dialled, Read as _, Received, Settings, Write as _};

/// How many messages are looked at, and how many bytes.
const MOST: usize = 1_000;
/// See [`MOST`].
const MOST_BYTES: usize = 8 << 20;

/// What `pontoon init` is given.
#[derive(Args)]
pub(super) struct Init {
    /// Where the service is: ws:// or wss://, or http:// or https:// for Socket.IO
    url: String,
    /// The name of the instance
    #[arg(long, default_value = "service")]
    name: String,
    /// For how long it receives
    #[arg(long = "for", value_name = "TIME", default_value = "5s")]
    time: Span,
    /// A header of the opening request, whose value is in a variable
    #[arg(long, value_name = "NAME=VARIABLE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// A parameter of the URL's query, whose value is in a variable
    #[arg(long, value_name = "NAME=VARIABLE", value_parser = pair)]
    query: Vec<(String, String)>,
    /// A text to send once the connection is made, such as one that subscribes; not for Socket.IO
    #[arg(long, value_name = "TEXT")]
    send: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, variable)| !name.is_empty() && !variable.is_empty());
    pair.map(|(name, variable)| (name.to_owned(), variable.to_owned()))
        .ok_or_else(|| "write NAME=VARIABLE".to_owned())
}

impl Init {
    /// Prints what comes on stderr, and the table on stdout.
    pub(super) fn run(self) -> Outcome {
        let messages = match self.url.split("://").next() {
            Some("ws" | "wss") => {
                let mut endpoint = websocket::Endpoint::new(&self.url).map_err(|error| usage(&error))?;
                (endpoint.query, endpoint.headers) = (secrets(&self.query), secrets(&self.header));
                endpoint.require_subprotocol = false;
                let frames = self.send.iter().map(|text| websocket::Frame::text(text.as_str())).collect();
                Messages::of_websocket(&self.receive::<WebSocket>(&endpoint, frames)?)
            }
            _ if !self.send.is_empty() => {
                return Err(Failure::Usage(
                    "a text cannot be sent over Socket.IO; leave out --send".to_owned(),
                ));
            }
            _ => {
                let mut endpoint = socketio::Endpoint::new(&self.url).map_err(|error| usage(&error))?;
                (endpoint.query, endpoint.headers) = (secrets(&self.query), secrets(&self.header));
                Messages::of_socketio(&self.receive::<SocketIo>(&endpoint, Vec::new())?)
            }
        };
        let Self { url, name, header, query, send, .. } = &self;
        stdout()
            .write_all(Proposal { url, name, header, query, send, messages: &messages }.table().as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }

    /// What the service sends in this time.
    fn receive<T: Dial>(&self, endpoint: &T::Endpoint, send: Vec<T::Frame>) -> Result<Vec<T::Frame>, Failure>
    where
        T::Frame: pontoon_sdk::connector::Frame,
    {
        let redactor = Redactor::new(T::secrets(endpoint));
        let masked = |text: &str| printable(&cut(&redactor.text(text)));
        block_on(async {
            let settings = Settings::new(settings::Transport::default());
            let dialled = T::dial(endpoint, &mut T::Memory::default(), &settings).await;
            let Dialled { mut reader, mut writer, .. } =
                dialled.map_err(|error| Failure::Failed(masked(&error.message)))?;
            let until = Instant::now() + self.time.0;
            let mut frames = Vec::new();
            let mut left = MOST_BYTES;
            for frame in send {
                let sent = async {
                    writer.feed(frame).await?;
                    writer.flush().await
                };
                sent.await.map_err(|end| Failure::Failed(masked(&end.to_string())))?;
            }
            while frames.len() < MOST {
                let read = tokio::select! {
                    () = writer.due() => {
                        // Pings are answered.
                        let _ = writer.flush().await;
                        continue;
                    }
                    read = timeout_at(until.into(), reader.read()) => read,
                };
                match read {
                    Err(_) => break,
                    Ok(Ok(Received::Message(frame))) => {
                        let raw = frame.raw();
                        writeln!(stderr(), "{}", masked(&String::from_utf8_lossy(raw.as_bytes())))?;
                        left = left.saturating_sub(frame.size());
                        frames.push(frame);
                        if left == 0 {
                            break;
                        }
                    }
                    Ok(Ok(Received::TooLarge(size))) => {
                        writeln!(stderr(), "a message of {size} bytes was passed over")?
                    }
                    Ok(Err(end)) => {
                        writeln!(stderr(), "the connection has ended: {}", masked(&end.to_string()))?;
                        break;
                    }
                }
            }
            let _ = writer.close().await;
            Ok(frames)
        })
    }
}

fn usage(error: &pontoon_sdk::Error) -> Failure {
    Failure::Usage(error.message().to_owned())
}

/// Values that are in variables.
fn secrets(named: &[(String, String)]) -> Vec<(String, Param)> {
    let param = |(name, variable): &(String, String)| (name.clone(), Param::Secret(Secret::env(variable)));
    named.iter().map(param).collect()
}
