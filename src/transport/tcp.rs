//! From a name to a TCP connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use pontoon_sdk::url::Url;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::guard::Guard;
use super::{DialError, Settings};

/// How long one address of a name is tried alone before the next joins in (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// TCP keepalive: the kernel notices a dead peer as well, if our pings are not sent.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How many addresses of a name are tried.
const CANDIDATES: usize = 16;

/// Host, port and TLS of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is used.
    pub secure: bool,
}

impl From<&Url<'_>> for Address {
    fn from(url: &Url<'_>) -> Self {
        Self { host: url.host.clone(), port: url.port, secure: matches!(url.scheme, "wss" | "https") }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Makes a TCP connection to the address, if the guard allows every address that its name resolves to.
///
/// # Errors
/// See [`DialError`].
pub(super) async fn reach(
    address: &Address,
    guard: Option<&Guard>,
    settings: &Settings,
) -> Result<TcpStream, DialError> {
    let found = look_up(address, settings).await?;
    if let Some(guard) = guard {
        authorize(address, guard, &found)?;
    }
    let tcp = tcp(address, found).await?;
    prepare(&tcp, settings).map_err(|error| DialError::unreachable(format!("{address}: {error}")))?;
    Ok(tcp)
}

/// The addresses of a host. Looked up once for each connection, so that the addresses that were checked are dialled.
async fn look_up(address: &Address, settings: &Settings) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(literal) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(literal, address.port)]);
    }
    settings.resolver.look_up(&address.host, address.port).await.map_err(|error| {
        DialError::unreachable(format!("the name {} cannot be looked up: {error}", address.host))
    })
}

/// One forbidden address refuses the whole name: a name with both kinds is suspicious.
fn authorize(address: &Address, guard: &Guard, found: &[SocketAddr]) -> Result<(), DialError> {
    for candidate in found {
        guard.check_address(candidate.ip()).map_err(|error| {
// The address is logged and not returned: the caller who named the host may not be entitled to resolve names here.
            tracing::warn!(host = address.host, address = %candidate.ip(), "a name resolves to an address that must not be dialled");
            DialError::forbidden(format!("{} resolves to a forbidden address: {}", address.host, error.message()))
        })?;
    }
    Ok(())
}

/// Tries the addresses in turn, each [`STAGGER`] after the one before (RFC 8305).
async fn tcp(address: &Address, found: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
    let mut waiting = interleave(found).into_iter().take(CANDIDATES);
    let mut trying = FuturesUnordered::new();
    let mut last = None;
    loop {
        if let Some(next) = waiting.next() {
            trying.push(TcpStream::connect(next));
        } else if trying.is_empty() {
            let error = last.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound));
            return Err(DialError::unreachable(format!("{address} cannot be reached: {error}")));
        }
        tokio::select! {
            Some(done) = trying.next() => match done {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

/// Alternates between IPv4 and IPv6, so that a broken family costs little time.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let mut other = other.into_iter();
    let mut ordered: Vec<_> =
        preferred.into_iter().flat_map(|address| [Some(address), other.next()]).flatten().collect();
    ordered.extend(other);
    ordered
}

/// Sets the options of every socket.
///
/// # Errors
/// If the system refuses.
pub fn prepare(stream: &TcpStream, settings: &Settings) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(settings.config.ping_interval.0 * 2))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_beginning_with_the_resolvers_choice() {
        let all =
            ["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1", "2.2.2.2:1"].map(|text| text.parse().unwrap());
        let ordered: Vec<_> = interleave(all.to_vec()).iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert!(interleave(Vec::new()).is_empty());
    }
}
