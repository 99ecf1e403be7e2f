//! What addresses are for, by the registries of special-purpose addresses that IANA keeps (RFC 6890), and by the RFCs that
//! the tables name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What a network is for, and where that is written.
pub(super) struct Purpose {
    network: IpNet,
    what: &'static str,
    source: &'static str,
}

/// Not public, or not of one machine. The first that fits is named.
const IPV4: &[Purpose] = &[
    v4([0, 0, 0, 0], 8, "an address of this machine itself", "RFC 791"),
    v4([10, 0, 0, 0], 8, "a private address", "RFC 1918"),
    v4([100, 64, 0, 0], 10, "an address of the space shared by carriers", "RFC 6598"),
    v4([127, 0, 0, 0], 8, "a loopback address", "RFC 1122"),
    v4([168, 63, 129, 16], 32, "the address of a cloud's own services and metadata", "Azure's documentation"),
    v4([169, 254, 0, 0], 16, "a link-local address, where clouds have their metadata", "RFC 3927"),
    v4([172, 16, 0, 0], 12, "a private address", "RFC 1918"),
    v4([192, 0, 0, 0], 24, "an address reserved for protocols", "RFC 6890"),
    v4([192, 0, 2, 0], 24, "an address for documentation", "RFC 5737"),
    v4([192, 88, 99, 0], 24, "an address reserved for relays of 6to4", "RFC 7526"),
    v4([192, 168, 0, 0], 16, "a private address", "RFC 1918"),
    v4([198, 18, 0, 0], 15, "an address for benchmarking", "RFC 2544"),
    v4([198, 51, 100, 0], 24, "an address for documentation", "RFC 5737"),
    v4([203, 0, 113, 0], 24, "an address for documentation", "RFC 5737"),
    v4([224, 0, 0, 0], 4, "a multicast address", "RFC 5771"),
    v4([255, 255, 255, 255], 32, "the broadcast address", "RFC 919"),
    v4([240, 0, 0, 0], 4, "a reserved address", "RFC 1112"),
];

/// The same for IPv6. What is in neither this nor [`UNICAST`] is reserved.
const IPV6: &[Purpose] = &[
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, "the unspecified address", "RFC 4291"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "a loopback address", "RFC 4291"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "an address for local translation to IPv4", "RFC 8215"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "an address reserved for discarding", "RFC 6666"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "a Teredo address", "RFC 4380"),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "an address for benchmarking", "RFC 5180"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "an address reserved for protocols", "RFC 2928"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "an address for documentation", "RFC 3849"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "an address for documentation", "RFC 9637"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "a private (unique local) address", "RFC 4193"),
    v6(
        [0xfe80, 0, 0, 0, 0, 0, 0, 0],
        10,
        "a link-local address, where clouds have their metadata",
        "RFC 4291",
    ),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "a private (site-local) address", "RFC 3879"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "a multicast address", "RFC 4291"),
];

/// All that IANA gives out for single machines.
const UNICAST: IpNet = net6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const RESERVED: Purpose =
    Purpose { network: UNICAST, what: "a reserved address, outside of the public space", source: "RFC 4291" };

/// Addresses that stand for an IPv4 address, and in which of their words of 16 bits it begins: mapped and compatible ones
/// (RFC 4291 §2.5.5), those of NAT64 (RFC 6052 §2.1) and of 6to4 (RFC 3056 §2).
const EMBEDDING: &[(IpNet, usize)] = &[
    (net6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), 6),
    (net6([0, 0, 0, 0, 0, 0, 0, 0], 96), 6),
    (net6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), 6),
    (net6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), 1),
];

/// What the address is for, unless that is to be a public one of one machine.
pub(super) fn purpose(address: IpAddr) -> Option<&'static Purpose> {
    let table = if address.is_ipv4() { IPV4 } else { IPV6 };
    let special = table.iter().find(|purpose| purpose.network.contains(&address));
    let outside = || (address.is_ipv6() && !UNICAST.contains(&address)).then_some(&RESERVED);
    special.or_else(outside)
}

/// The IPv4 address that this one stands for.
pub(super) fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    // These two have special meanings.
    if address.is_unspecified() || address.is_loopback() {
        return None;
    }
    let (_, place) = EMBEDDING.iter().find(|(network, _)| network.contains(&IpAddr::from(address)))?;
    let words = address.segments();
    let [high, low] = *words.get(*place..)?.first_chunk()?;
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// Reads an address, or a network.
///
/// # Errors
/// What to write instead.
pub(super) fn parse(text: &str) -> Result<IpNet, String> {
    let wrong = |advice: &str| format!("\"{}\" is no address{advice}", text.escape_debug());
    let usual =
        || wrong("; write one such as \"127.0.0.1\" or \"::1\", or a network such as \"10.1.0.0/16\"");
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| usual())?;
    let Some(digits) = prefix else { return Ok(address.into()) };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(usual());
    }
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let network = digits.parse().ok().and_then(|prefix| IpNet::new(address, prefix).ok());
    let network = network.ok_or_else(|| wrong(&format!(" and prefix; the prefix is 0 to {whole}")))?;
    if network.trunc() != network {
        return Err(wrong(&format!("'s network; write \"{}\"", network.trunc())));
    }
    Ok(network)
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.what, self.network, self.source)
    }
}

const fn v4(octets: [u8; 4], prefix: u8, what: &'static str, source: &'static str) -> Purpose {
    let [a, b, c, d] = octets;
    let network = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix));
    Purpose { network, what, source }
}

const fn v6(words: [u16; 8], prefix: u8, what: &'static str, source: &'static str) -> Purpose {
    Purpose { network: net6(words, prefix), what, source }
}

const fn net6(words: [u16; 8], prefix: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = words;
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix))
}
