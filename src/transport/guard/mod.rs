//! Where a socket may lead whose address a caller names, so that no command makes the daemon reach what its operator did
//! not mean to be reached: its own machine, its neighbours, the metadata of the cloud that it runs in.
//!
//! The operator lists hosts; of these, only public addresses are dialled, unless they are listed as well. The endpoint of
//! such a link carries the list ([`AllowList`]). The URL is checked before the link is opened, and at each dial
//! ([`Guard::check_url`]); then the host and port that were read of it ([`Guard::check_host`]). The name is looked up once,
//! every address that comes back is checked ([`Guard::check_address`]), and those very addresses are connected to, so that
//! a name cannot lead somewhere else between the check and the connection.
//!
//! What cannot be known here is where a network translates addresses by its own prefix (RFC 6052 §2.2): an operator
//! of such a network lists hosts, not `"*"`.

mod hosts;
mod named;
mod networks;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use pontoon_sdk::connector::AllowList;
use pontoon_sdk::url::{Fault, Url};
use pontoon_sdk::{Code, Error, Result};

use self::hosts::HostRule;
use self::named::{Host, parse_url};

/// Checks URLs, hosts and addresses. It holds no secrets.
#[derive(Debug)]
pub struct Guard {
    hosts: Vec<HostRule>,
    addresses: Vec<IpNet>,
    proxy: bool,
    /// What the operator calls the settings: `dynamic`.
    name: String,
}

impl Guard {
    /// A guard by these settings.
    ///
    /// # Errors
    /// `Config` with the entry that is wrong and what to write instead.
    pub fn new(AllowList { hosts, addresses, proxy, pointer }: &AllowList) -> Result<Self> {
        let hosts = read(hosts, str::parse, &format!("{pointer}/hosts"))?;
        let addresses = read(addresses, networks::parse, &format!("{pointer}/addresses"))?;
        let name = pointer.trim_start_matches('/').replace('/', ".");
        Ok(Self { hosts, addresses, proxy: *proxy, name })
    }

    /// Whether a proxy may make the connection.
    pub fn allows_proxy(&self) -> bool {
        self.proxy
    }

    /// Checks the URL that a caller named.
    ///
    /// # Errors
    /// `Rejected`: 400 if it is not a URL, 403 with the rule by which it may not be dialled.
    pub fn check_url<'a>(&self, url: &'a str) -> Result<Url<'a>> {
        let (url, host) = parse_url(url).map_err(refused)?;
        self.authorize(&host, url.port)?;
        Ok(url)
    }

    /// Checks a host, without brackets, and its port.
    ///
    /// # Errors
    /// `Rejected` with 403 and the rule by which it may not be dialled.
    pub fn check_host(&self, host: &str, port: u16) -> Result<()> {
        self.authorize(&Host::parse(host).map_err(refused)?, port)
    }

    /// Checks an address: a public one of a single machine may be dialled, and what the operator has listed. Where it
    /// only stands for an IPv4 address, that one is checked. The message does not repeat the address, as it may be one
    /// that a caller is not to learn.
    ///
    /// # Errors
    /// `Rejected` with 403 and what the address is for.
    pub fn check_address(&self, address: IpAddr) -> Result<()> {
        if self.addresses.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        if let Some(inner) = networks::embedded(address) {
            return self.check_address(inner.into());
        }
        let Some(purpose) = networks::purpose(address) else { return Ok(()) };
        Err(forbidden(format!("{purpose} may not be dialled unless {}.addresses lists it", self.name)))
    }

    fn authorize(&self, host: &Host, port: u16) -> Result<()> {
        if port == 0 {
            return Err(forbidden("the port is 0; a port is 1 to 65535"));
        }
        if !self.hosts.iter().any(|rule| rule.allows(host, port)) {
            let name = &self.name;
            return Err(forbidden(format!("the host {host} (port {port}) is not among {name}.hosts")));
        }
        match host {
            Host::Name(_) => Ok(()),
            Host::Address(address) => self.check_address(*address),
        }
    }
}

/// Reads a list of rules; the pointer to a wrong one ends in its place.
fn read<T>(entries: &[String], parse: fn(&str) -> Result<T, String>, pointer: &str) -> Result<Vec<T>> {
    let read = |(place, text): (usize, &String)| {
        parse(text).map_err(|error| Error::config(error).at(format!("{pointer}/{place}")))
    };
    entries.iter().enumerate().map(read).collect()
}

fn refused(fault: Fault) -> Error {
    let code = if matches!(fault, Fault::Malformed(..)) { Code::BadBody } else { Code::Forbidden };
    Error::rejected(code, fault.to_string())
}

fn forbidden(message: impl Into<String>) -> Error {
    Error::rejected(Code::Forbidden, message)
}
