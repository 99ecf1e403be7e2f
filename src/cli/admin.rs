//! Requests to the admin endpoint of a running daemon.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::failure::Failure;
use crate::settings::Config;

/// How long connecting, each read and each write may take.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest response that is read, in bytes.
const LARGEST: u64 = 16 << 20;
/// The longest head of a response, in bytes.
const LARGEST_HEAD: u64 = 16 * 1024;

/// A response whose head was read.
pub(super) struct Response {
    /// The status.
    pub(super) code: u16,
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

/// Where the admin endpoint can be reached.
pub(super) fn address(config: &Config) -> Result<SocketAddr, Failure> {
    if !config.admin.enabled {
        return Err(Failure::Failed("there is no admin endpoint: admin.enabled is false".to_owned()));
    }
    let listen = &config.admin.listen;
    let address: SocketAddr =
        listen.parse().map(reachable).map_err(|_| Failure::Failed(format!("{listen} is not an address")))?;
    if address.port() == 0 {
        return Err(Failure::Failed(
            "admin.listen has port 0; give the port that was logged, with --admin-listen".to_owned(),
        ));
    }
    Ok(address)
}

/// One GET. HTTP/1.0, so that the response is not chunked and ends with the connection.
pub(super) fn get(config: &Config, path: &str) -> Result<Response, Failure> {
    let address = address(config)?;
    let token = config.admin.token.as_ref().map(|token| token.reveal()).transpose();
    let token = token.map_err(|error| Failure::Failed(format!("admin.token: {error}")))?;
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&address, IO_TIMEOUT)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        stream.write_all(
            format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{token}Connection: close\r\n\r\n").as_bytes(),
        )?;
        let mut stream = BufReader::new(stream);
        Ok((head(&mut stream)?, stream))
    };
    let (code, stream) = exchange().map_err(|error| failed(address, &error))?;
    let code = code.ok_or_else(|| Failure::Failed(format!("the response from {address} is not HTTP")))?;
    Ok(Response { code, address, stream })
}

impl Response {
    /// The whole body.
    pub(super) fn body(self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        let read = self.stream.take(LARGEST).read_to_end(&mut body);
        read.map_err(|error| failed(self.address, &error))?;
        Ok(body)
    }

    /// The lines of a body that goes on, however long nothing comes.
    pub(super) fn lines(self) -> Result<impl Iterator<Item = io::Result<String>>, Failure> {
        self.stream.get_ref().set_read_timeout(None).map_err(|error| failed(self.address, &error))?;
        Ok(self.stream.lines())
    }
}

fn failed(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::Failed(format!(
        "no answer from the admin endpoint at {address}: {error}; is the daemon running?"
    ))
}

/// Reads up to the empty line. Returns the status; `None` if it is not that of an HTTP response.
fn head(stream: &mut impl io::BufRead) -> io::Result<Option<u16>> {
    let (mut stream, mut code, mut line) = (stream.take(LARGEST_HEAD), None, String::new());
    let mut is_first = true;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if std::mem::take(&mut is_first) {
            let status = line.strip_prefix("HTTP/1.").and_then(|line| line.split_whitespace().nth(1));
            let Some(status) = status.and_then(|status| status.parse().ok()) else { return Ok(None) };
            code = Some(status);
        }
        if line.trim_end().is_empty() {
            return Ok(code);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_up_to_the_body() {
        let mut response: &[u8] = b"HTTP/1.0 200 OK\r\na: b\r\n\r\nbody";
        assert_eq!(head(&mut response).unwrap(), Some(200));
        assert_eq!(response, b"body");
        assert_eq!(head(&mut &b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..]).unwrap(), Some(503));
        assert_eq!(head(&mut &b"SSH-2.0\r\n\r\n"[..]).unwrap(), None);
        assert_eq!(head(&mut &b"HTTP/1.0 200 OK\r\n"[..]).unwrap(), None);
    }
}
