//! Where a socket may lead whose address a caller names, so that no command makes the daemon reach what its operator did
//! not mean to be reached: its own machine, its neighbours, the metadata of the cloud that it runs in.
//!
//! The operator lists hosts; of these, only public addresses are dialled, unless they are listed as well. A connector
//! gives the caller's URL to [`Guard::check_url`], which makes an endpoint that carries the guard. The transport judges
//! once more what it is about to dial ([`Guard::check_host`]), looks the name up once, judges every address that comes
//! back ([`Guard::check_address`]) and connects to those very addresses, so that a name cannot lead somewhere else
//! between the judgement and the connection.
//!
//! What cannot be known here is where a network translates addresses by its own prefix (RFC 6052 §2.2): an operator
//! of such a network lists hosts, not `"*"`.

mod hosts;
mod networks;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use self::hosts::HostRule;
use crate::error::{Code, Error, Result};
use crate::url::{Fault, Host};

/// What may be dialled, as configured. Nothing may unless it is listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Hosts that may be dialled: `"ws.example.com"`; `"*.example.com"` for all below it, but not for itself; `"*"` for
    /// any. With a port behind it (`"ws.example.com:8443"`), only that port.
    pub hosts: Vec<String>,
    /// Addresses that may be dialled although they are not public: `"127.0.0.1"`, `"10.1.0.0/16"`, `"::1"`.
    pub addresses: Vec<String>,
    /// Whether a proxy is used, if one is configured. It looks names up by itself: then only hosts are judged.
    pub proxy: bool,
}

/// Judges URLs, hosts and addresses. Cheap to clone; it holds no secrets.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    hosts: Vec<HostRule>,
    addresses: Vec<IpNet>,
    proxy: bool,
    /// What the operator calls the settings: `dynamic`.
    name: String,
}

impl Guard {
    /// A guard by these settings; `pointer` is where they stand, such as `/dynamic`.
    ///
    /// # Errors
    /// `Config` with the entry that is wrong and what to write instead.
    pub fn new(settings: &Settings, pointer: &str) -> Result<Self> {
        let hosts = read(&settings.hosts, str::parse, &format!("{pointer}/hosts"))?;
        let addresses = read(&settings.addresses, networks::parse, &format!("{pointer}/addresses"))?;
        let name = pointer.trim_start_matches('/').replace('/', ".");
        Ok(Self(Arc::new(Rules { hosts, addresses, proxy: settings.proxy, name })))
    }

    /// Whether a proxy may make the connection.
    pub fn allows_proxy(&self) -> bool {
        self.0.proxy
    }

    /// Judges a host, without brackets, and its port.
    ///
    /// # Errors
    /// `Rejected` with 403 and the rule by which it may not be dialled.
    pub fn check_host(&self, host: &str, port: u16) -> Result<()> {
        self.authorize(&Host::parse_strict(host).map_err(refused)?, port)
    }

    /// Judges an address: a public one of a single machine may be dialled, and what the operator has listed. Where it
    /// only stands for an IPv4 address, that one is judged. The message does not repeat the address, as it may be one
    /// that a caller is not to learn.
    ///
    /// # Errors
    /// `Rejected` with 403 and what the address is for.
    pub fn check_address(&self, address: IpAddr) -> Result<()> {
        if self.0.addresses.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        if let Some(inner) = networks::embedded(address) {
            return self.check_address(inner.into());
        }
        let Some(purpose) = networks::purpose(address) else { return Ok(()) };
        Err(forbidden(format!("{purpose} may not be dialled unless {}.addresses lists it", self.0.name)))
    }

    pub(super) fn authorize(&self, host: &Host, port: u16) -> Result<()> {
        if port == 0 {
            return Err(forbidden("the port is 0; a port is 1 to 65535"));
        }
        if !self.0.hosts.iter().any(|rule| rule.allows(host, port)) {
            let name = &self.0.name;
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

pub(super) fn refused(fault: Fault) -> Error {
    let code = if matches!(fault, Fault::Malformed(..)) { Code::BadBody } else { Code::Forbidden };
    Error::rejected(code, fault.to_string())
}

fn forbidden(message: impl Into<String>) -> Error {
    Error::rejected(Code::Forbidden, message)
}
