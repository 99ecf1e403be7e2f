//! Ports that stay free while the server that has one is down.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// The first port that is handed out.
const FIRST: u16 = 10_000;

/// A free port on loopback that this process hands out once. The system gives it to nothing that asks for any port, and to
/// no connection: it is below that range (`ip_local_port_range`).
///
/// # Panics
/// If no port of that range is free.
pub fn reserved_port() -> u16 {
    static HANDED_OUT: AtomicU16 = AtomicU16::new(0);
    let ports = lowest_of_the_system().saturating_sub(FIRST).max(1);
    // Each process begins elsewhere, so that two of them seldom look at the same ports.
    let begin = (process::id() * 97 % u32::from(ports)) as u16;
    (0..ports)
        .map(|_| FIRST + (begin + HANDED_OUT.fetch_add(1, Ordering::Relaxed) % ports) % ports)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("there is a free port")
}

/// The first port that the system chooses by itself; the usual one where it does not show it.
fn lowest_of_the_system() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once_and_is_not_one_of_the_system() {
        let (first, second) = (reserved_port(), reserved_port());
        assert_ne!(first, second);
        assert!(first.max(second) < lowest_of_the_system());
    }
}
