//! What addresses are for, by the registries of special-purpose addresses that IANA keeps (RFC 6890), and by the RFCs that
//! the tables name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address, or all that begin as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    first: IpAddr,
    /// How many bits are common to all.
    prefix: u32,
}

/// What a network is for, and where that is written.
pub(super) struct Purpose {
    network: Network,
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
const UNICAST: Network = net6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const RESERVED: Purpose =
    Purpose { network: UNICAST, what: "a reserved address, outside of the public space", source: "RFC 4291" };

/// Addresses that stand for an IPv4 address, and in which of their words of 16 bits it begins: mapped and compatible ones
/// (RFC 4291 §2.5.5), those of NAT64 (RFC 6052 §2.1) and of 6to4 (RFC 3056 §2).
const EMBEDDING: &[(Network, usize)] = &[
    (net6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), 6),
    (net6([0, 0, 0, 0, 0, 0, 0, 0], 96), 6),
    (net6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), 6),
    (net6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), 1),
];

/// What the address is for, unless that is to be a public one of one machine.
pub(super) fn purpose(address: IpAddr) -> Option<&'static Purpose> {
    let table = if address.is_ipv4() { IPV4 } else { IPV6 };
    let special = table.iter().find(|purpose| purpose.network.contains(address));
    let outside = || (address.is_ipv6() && !UNICAST.contains(address)).then_some(&RESERVED);
    special.or_else(outside)
}

/// The IPv4 address that this one stands for.
pub(super) fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    // These two have a meaning of their own.
    if address.is_unspecified() || address.is_loopback() {
        return None;
    }
    let (_, place) = EMBEDDING.iter().find(|(network, _)| network.contains(address.into()))?;
    let words = address.segments();
    let [high, low] = *words.get(*place..)?.first_chunk()?;
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

impl Network {
    /// Whether the address is one of it.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        // A shift by all bits is none at all, and then nothing is compared.
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// The address with all that is not common to the network set to 0.
    fn base(address: IpAddr, prefix: u32) -> IpAddr {
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |advice: &str| format!("\"{}\" is no address{advice}", text.escape_debug());
        let usual =
            || wrong("; write one such as \"127.0.0.1\" or \"::1\", or a network such as \"10.1.0.0/16\"");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| usual())?;
        let whole = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => whole,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= whole)
                .ok_or_else(|| wrong(&format!(" and prefix; the prefix is 0 to {whole}")))?,
            Some(_) => return Err(usual()),
        };
        let base = Self::base(first, prefix);
        if base != first {
            return Err(wrong(&format!("'s network; write \"{base}/{prefix}\"")));
        }
        Ok(Self { first, prefix })
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Network { first, prefix } = self.network;
        write!(f, "{} ({first}/{prefix}, {})", self.what, self.source)
    }
}

const fn v4(octets: [u8; 4], prefix: u32, what: &'static str, source: &'static str) -> Purpose {
    let [a, b, c, d] = octets;
    Purpose { network: Network { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }, what, source }
}

const fn v6(words: [u16; 8], prefix: u32, what: &'static str, source: &'static str) -> Purpose {
    Purpose { network: net6(words, prefix), what, source }
}

const fn net6(words: [u16; 8], prefix: u32) -> Network {
    let [a, b, c, d, e, f, g, h] = words;
    Network { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), prefix }
}
