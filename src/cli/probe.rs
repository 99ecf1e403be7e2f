//! `pontoon status` and `pontoon health`: requests to the admin endpoint of a running daemon.

use std::io::{Read as _, Write as _, stdout};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::Outcome;
use super::failure::Failure;
use crate::config::{self, Sources};
use crate::log::printable::{printable, printable_json};
use crate::registry::Registry;
use crate::settings::Config;

/// How long connecting, each read and each write may take.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest response that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// Prints the status of every instance and link.
pub(super) fn status(registry: &Registry, sources: &Sources, json: bool) -> Outcome {
    let (config, _) = config::shared(registry, sources)?;
    let (code, body) = get(&config, "/status")?;
    if code != 200 {
        return Err(Failure::Failed(format!(
            "the admin endpoint answered {code}: {}",
            String::from_utf8_lossy(&body)
        )));
    }
    if json {
        writeln!(stdout(), "{}", printable_json(&body))?;
    } else {
        stdout().write_all(table(&body)?.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints whether the daemon is ready; exit code 1 if not.
pub(super) fn health(registry: &Registry, sources: &Sources) -> Outcome {
    let (config, _) = config::shared(registry, sources)?;
    let (code, body) = get(&config, "/readyz")?;
    let text = printable(String::from_utf8_lossy(&body).trim());
    writeln!(stdout(), "{text}")?;
    Ok(if code == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One GET: the status and the body. HTTP/1.0, so that the response is not chunked and ends with the connection.
fn get(config: &Config, path: &str) -> Result<(u16, Vec<u8>), Failure> {
    if !config.admin.enabled {
        return Err(Failure::Failed("there is no admin endpoint: admin.enabled is false".to_owned()));
    }
    let listen = &config.admin.listen;
    let address =
        listen.parse().map(reachable).map_err(|_| Failure::Failed(format!("{listen} is not an address")))?;
    if address.port() == 0 {
        return Err(Failure::Failed(
            "admin.listen has port 0; give the port that was logged, with --admin-listen".to_owned(),
        ));
    }
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&address, IO_TIMEOUT)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        stream.write_all(
            format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut answer = Vec::new();
        stream.take(LARGEST).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error: std::io::Error| {
        Failure::Failed(format!(
            "no answer from the admin endpoint at {address}: {error}; is the daemon running?"
        ))
    })?;
    split(&answer).ok_or_else(|| Failure::Failed(format!("the response from {address} is not HTTP")))
}

/// The address to connect to: loopback for a listener on the unspecified address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let code = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((code, answer.get(end + 4..)?.to_vec()))
}

fn table(body: &[u8]) -> Result<String, Failure> {
    let status: Value = serde_json::from_slice(body)
        .map_err(|error| Failure::Failed(format!("/status is not JSON: {error}")))?;
    let instances = status.get("instances").unwrap_or(&status).as_array().cloned().unwrap_or_default();
    let mut rows =
        vec![["INSTANCE", "TYPE", "LINK", "STATE", "SINCE", "UNCONFIRMED", "DETAIL"].map(str::to_owned)];
    for instance in &instances {
        let text =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let waiting =
            instance.get("unconfirmed_events").and_then(Value::as_u64).unwrap_or_default().to_string();
        let bus = instance.get("bus").cloned().unwrap_or_default();
        let yes = |key: &str| bus.get(key).and_then(Value::as_bool) == Some(true);
        let state = match (yes("connected"), yes("publishing")) {
            (true, true) => "publishing",
            (true, false) => "not publishing",
            (false, _) => "not connected",
        };
        let (name, kind) = (text(instance, "instance"), text(instance, "type"));
        let bus =
            [name, kind, "nats".to_owned(), state.to_owned(), String::new(), waiting, text(&bus, "detail")];
        rows.push(bus);
        for link in instance.get("links").and_then(Value::as_array).into_iter().flatten() {
            let (key, phase, since) = (text(link, "key"), text(link, "phase"), text(link, "since"));
            let since = since.get(..19).unwrap_or(&since).replace('T', " ");
            rows.push([String::new(), String::new(), key, phase, since, String::new(), text(link, "detail")]);
        }
    }
    Ok(aligned(&rows))
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let mut lines = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0);
            line.push_str(&format!("{cell:<width$}  "));
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_split_into_status_and_body() {
        assert_eq!(split(b"HTTP/1.0 200 OK\r\na: b\r\n\r\nbody"), Some((200, b"body".to_vec())));
        assert_eq!(split(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), Some((503, Vec::new())));
        assert_eq!(split(b"SSH-2.0\r\n\r\n"), None);
    }

    #[test]
    fn a_table_shows_links_and_cannot_steer_a_terminal() {
        let body =
            br#"{"instances":[{"instance":"shop","type":"sub0","bus":{"connected":true,"publishing":true},
            "unconfirmed_events":3,"links":[{"key":"main","phase":"waiting","since":"2026-01-02T03:04:05Z",
            "detail":"refused\u001b[2J"}]}]}"#;
        let shown = table(body).ok().unwrap();
        assert!(shown.contains("shop      sub0  nats  publishing"), "{shown}");
        assert!(
            shown.contains("main  waiting     2026-01-02 03:04:05               refused\\u{1b}[2J"),
            "{shown}"
        );
    }
}
