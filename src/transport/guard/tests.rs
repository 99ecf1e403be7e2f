//! The guard against a table of URLs, a table of addresses, and whatever else there is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use pontoon_sdk::Kind;

use super::*;

fn guarding(hosts: &[&str], addresses: &[&str]) -> Result<Guard> {
    let owned = |entries: &[&str]| entries.iter().map(|&entry| entry.to_owned()).collect();
    Guard::new(&AllowList {
        hosts: owned(hosts),
        addresses: owned(addresses),
        proxy: false,
        pointer: "/dynamic",
    })
}

fn lines(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn every_url_of_the_table_is_checked_as_it_says() {
    let mut guard = guarding(&[], &[]).unwrap();
    let mut count = 0;
    for line in lines(include_str!("urls.txt")) {
        if let Some(hosts) = line.strip_prefix("= hosts ") {
            guard = guarding(&hosts.split(' ').collect::<Vec<_>>(), &[]).unwrap();
            continue;
        }
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_else(|| panic!("{line}: something is missing"));
        let (verdict, word, url) = (part(), part(), part());
        let url = if url.starts_with('"') { serde_json::from_str(url).unwrap() } else { url.to_owned() };
        count += 1;
        match (verdict, guard.check_url(&url)) {
            ("allowed", Ok(read)) => {
                let form = read.to_string();
                assert_eq!(form, if word == "same" { &url } else { word }, "{line}");
                assert_eq!(guard.check_url(&form).unwrap().to_string(), form, "{line}: not its one form");
            }
            ("allowed", Err(error)) => panic!("{line}: {error}"),
            (_, Ok(read)) => panic!("{line}: leads to {read}"),
            (status, Err(error)) => {
                assert_eq!(error.kind(), Kind::Rejected, "{line}: {error}");
                assert_eq!(error.code().number().to_string(), status, "{line}: {error}");
                assert!(error.message().contains(word), "{line}: {error}");
                assert!(error.message().len() < 400, "{line}: {error}");
                assert!(!error.message().contains("pw"), "{line}: {error}");
            }
        }
    }
    assert!(count > 200, "{count} lines");
}

#[test]
fn every_address_of_the_table_is_checked_as_it_says() {
    let guard = guarding(&["*"], &[]).unwrap();
    for line in lines(include_str!("addresses.txt")) {
        let (word, address) = line.split_once(' ').unwrap();
        let address: IpAddr = address.trim().parse().unwrap();
        match (word, guard.check_address(address)) {
            ("allowed", checked) => checked.unwrap_or_else(|error| panic!("{line}: {error}")),
            (word, Ok(())) => panic!("{line}: allowed, not refused as {word}"),
            (word, Err(error)) => {
                assert_eq!(error.code(), Code::Forbidden, "{line}");
                assert!(error.message().contains(word), "{line}: {error}");
                assert!(error.message().contains("dynamic.addresses"), "{line}: {error}");
            }
        }
    }
}

#[test]
fn what_the_operator_lists_may_be_dialled() {
    let listed = ["127.0.0.1", "10.1.0.0/16", "::1", "fd00:1::/32", "192.168.0.1/32"];
    let guard = guarding(&["*"], &listed).unwrap();
    for allowed in [
        "127.0.0.1",
        "10.1.0.0",
        "10.1.255.255",
        "::1",
        "fd00:1::",
        "fd00:1:ffff::1",
        "192.168.0.1",
        "8.8.8.8",
        // The same address in another form.
        "::ffff:127.0.0.1",
        "::ffff:10.1.2.3",
    ] {
        guard.check_address(allowed.parse().unwrap()).unwrap_or_else(|error| panic!("{allowed}: {error}"));
    }
    for refused in
        ["127.0.0.2", "10.0.255.255", "10.2.0.0", "::2", "fd00:2::", "192.168.0.2", "::ffff:127.0.0.2"]
    {
        assert!(guard.check_address(refused.parse().unwrap()).is_err(), "{refused}");
    }
    assert!(guard.check_url("ws://127.0.0.1:9000/").is_ok());
    assert!(guard.check_url("ws://[::1]:9000/").is_ok());
    assert!(guard.check_url("ws://127.1:9000/").is_err());
    let everything = guarding(&["*"], &["0.0.0.0/0", "::/0"]).unwrap();
    assert!(everything.check_address("255.255.255.255".parse().unwrap()).is_ok());
    assert!(everything.check_address("fe80::1".parse().unwrap()).is_ok());
}

#[test]
fn a_listed_address_is_still_no_listed_host() {
    let guard = guarding(&["ws.example.com"], &["127.0.0.1"]).unwrap();
    assert!(guard.check_url("ws://127.0.0.1/").unwrap_err().message().contains("dynamic.hosts"));
    assert!(guard.check_host("127.0.0.1", 80).is_err());
    assert!(guarding(&["127.0.0.1:80"], &["127.0.0.1"]).unwrap().check_host("127.0.0.1", 80).is_ok());
    assert!(guarding(&["127.0.0.1:80"], &[]).unwrap().check_host("127.0.0.1", 80).is_err());
}

#[test]
fn a_host_is_checked_without_its_url() {
    let guard = guarding(&["ws.example.com:443", "[2606:4700::1111]"], &[]).unwrap();
    assert!(guard.check_host("WS.example.com", 443).is_ok());
    assert!(guard.check_host("2606:4700::1111", 1).is_ok());
    for (host, port) in [
        ("ws.example.com", 80),
        ("ws.example.com", 0),
        ("ws.example.com.", 443),
        ("", 443),
        ("[2606:4700::1111]", 443),
        ("2606:4700::1112", 443),
        ("ws.example.com:443", 443),
    ] {
        assert_eq!(guard.check_host(host, port).unwrap_err().code(), Code::Forbidden, "{host}");
    }
}

#[test]
fn a_url_is_as_long_as_2_kib_at_most() {
    let guard = guarding(&["*"], &[]).unwrap();
    let url = |length| format!("{:x<length$}", "wss://ws.example.com/");
    assert!(guard.check_url(&url(2048)).is_ok());
    assert_eq!(guard.check_url(&url(2049)).unwrap_err().code(), Code::BadBody);
    let host = |labels| format!("wss://{}com/", "a.".repeat(labels));
    assert!(guard.check_url(&host(125)).is_ok());
    assert_eq!(guard.check_url(&host(126)).unwrap_err().code(), Code::Forbidden);
}

#[test]
fn nothing_may_be_dialled_unless_it_is_listed() {
    let guard = guarding(&[], &[]).unwrap();
    for url in ["wss://ws.ifelse.io/", "wss://8.8.8.8/", "ws://127.0.0.1/"] {
        let error = guard.check_url(url).unwrap_err();
        assert!(error.message().contains("is not among dynamic.hosts"), "{error}");
    }
}

#[test]
fn wrong_settings_say_what_to_write() {
    for (host, word) in [
        ("", "\"*\""),
        ("ws://ws.example.com", "port"),
        ("ws.example.com/path", "character"),
        ("ws.example.com:", "port"),
        ("ws.example.com:0", "port"),
        ("ws.example.com:+1", "port"),
        ("ws.example.com:65536", "port"),
        ("ws.example.com.", "dot"),
        ("*.", "dot"),
        ("*example.com", "character"),
        ("a.*.example.com", "character"),
        ("*.*", "character"),
        ("**", "character"),
        ("*.1.1.1.1", "address"),
        ("*.[::1]", "no host"),
        ("127.1", "number"),
        ("0x7f000001", "number"),
        ("10.0.0.0/8", "character"),
        ("bücher.example", "xn--"),
        ("[ws.example.com]", "no host"),
        ("[::1", "no host"),
        ("::1:9000:", "no host"),
    ] {
        let error = guarding(&["*", host], &[]).unwrap_err();
        assert_eq!((error.kind(), error.pointer()), (Kind::Config, Some("/dynamic/hosts/1")), "{host}");
        assert!(error.message().contains(word), "{host}: {error}");
    }
    for host in
        ["*", "*:443", "*.example.com:443", "::1", "[::1]", "[::1]:9000", "1.1.1.1:80", "WS.Example.com"]
    {
        assert!(guarding(&[host], &[]).is_ok(), "{host}");
    }
    for (address, word) in [
        ("", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "::1"),
        ("10.1.0.0/", "prefix"),
        ("10.1.0.0/33", "0 to 32"),
        ("10.1.0.0/999999999999", "0 to 32"),
        ("::/129", "0 to 128"),
        ("10.1.0.0/+8", "network"),
        ("10.1.0.0/255.255.0.0", "network"),
        ("10.1.2.3/16", "10.1.0.0/16"),
        ("fd00:1::1/32", "fd00:1::/32"),
        ("1.2.3.4/0", "0.0.0.0/0"),
    ] {
        let error = guarding(&[], &["::1", address]).unwrap_err();
        assert_eq!(
            (error.kind(), error.pointer()),
            (Kind::Config, Some("/dynamic/addresses/1")),
            "{address}"
        );
        assert!(error.message().contains(word), "{address}: {error}");
    }
}

/// All ranges that are refused, first and last, written down apart from the guard's own tables.
const FORBIDDEN4: &[(&str, &str)] = &[
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("168.63.129.16", "168.63.129.16"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "255.255.255.255"),
];

fn forbidden4(address: Ipv4Addr) -> bool {
    FORBIDDEN4
        .iter()
        .any(|(first, last)| (first.parse::<Ipv4Addr>().unwrap()..=last.parse().unwrap()).contains(&address))
}

/// An address of one of the ranges.
fn any_forbidden4() -> impl Strategy<Value = Ipv4Addr> {
    (0..FORBIDDEN4.len(), any::<u32>()).prop_map(|(range, place)| {
        let (first, last) = FORBIDDEN4[range];
        let [first, last] = [first, last].map(|end| end.parse::<Ipv4Addr>().unwrap().to_bits());
        Ipv4Addr::from_bits(first + (u64::from(place) % (u64::from(last - first) + 1)) as u32)
    })
}

/// The forms in which IPv6 writes an IPv4 address.
fn disguises(address: Ipv4Addr) -> [Ipv6Addr; 4] {
    let low = u128::from(address.to_bits());
    [0xffff_u128 << 32 | low, low, 0x64_ff9b_u128 << 96 | low, 0x2002_u128 << 112 | low << 80]
        .map(Ipv6Addr::from_bits)
}

proptest! {
    #[test]
    fn no_forbidden_address_is_ever_allowed(address in any_forbidden4()) {
        let guard = guarding(&["*"], &[]).unwrap();
        prop_assert!(guard.check_address(address.into()).is_err());
        let url = format!("ws://{address}/");
        prop_assert!(guard.check_url(&url).is_err());
        for disguised in disguises(address) {
            prop_assert!(guard.check_address(disguised.into()).is_err(), "{disguised}");
            let url = format!("ws://[{disguised}]/");
            prop_assert!(guard.check_url(&url).is_err(), "{disguised}");
        }
        // Whole, in parts, octal and hexadecimal, as `inet_aton` reads it.
        let [a, b, c, d] = address.octets();
        let number = address.to_bits();
        for form in [
            format!("{number}"), format!("0x{number:x}"), format!("0{number:o}"), format!("{a}.{}", number & 0xff_ffff),
            format!("{a}.{b}.{}", number & 0xffff), format!("0x{a:x}.{b}.{c}.{d}"), format!("0{a:o}.{b}.{c}.{d}"),
            format!("{a}.{b}.{c}.0x{d:x}"), format!("{a}.{b}.{c}.{d}."),
        ] {
            let url = format!("ws://{form}/");
            prop_assert!(guard.check_url(&url).is_err(), "{form}");
        }
    }

    #[test]
    fn any_other_ipv4_address_is_allowed(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let allowed = guarding(&["*"], &[]).unwrap().check_address(address.into()).is_ok();
        prop_assert_eq!(allowed, !forbidden4(address), "{}", address);
    }

    #[test]
    fn no_ipv6_address_outside_of_the_public_space_is_allowed(bits in any::<u128>()) {
        let address = Ipv6Addr::from_bits(bits);
        let allowed = guarding(&["*"], &[]).unwrap().check_address(address.into()).is_ok();
        // At random there is hardly one that stands for an IPv4 address.
        if address.segments()[0] >> 13 != 1 {
            prop_assert!(!allowed, "{}", address);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), port in any::<u16>()) {
        let guard = guarding(&["*"], &[]).unwrap();
        let _ = guard.check_url(&text);
        let _ = guard.check_url(&format!("ws://{text}"));
        let _ = guard.check_host(&text, port);
        let _ = guarding(&[&text], &[&text]);
    }

    #[test]
    fn what_is_allowed_has_a_listed_host_in_its_plain_form(text in "[wW][sS]{1,2}://[a-c1.:@/\\\\?#%\\[\\]x\t -]{0,12}(\\.good|@good|good)[a-c1.:@/\\\\?#%\\[\\] -]{0,12}") {
        let guard = guarding(&["*.good", "good"], &[]).unwrap();
        if let Ok(read) = guard.check_url(&text) {
            let url = read.to_string();
            let rest = url.split_once("://").unwrap().1;
            let authority = rest.split(['/', '?']).next().unwrap();
            let host = authority.split(':').next().unwrap();
            prop_assert!(host == "good" || host.ends_with(".good"), "{}", url);
            prop_assert!(host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-'), "{}", url);
        }
    }
}
