//! The reader of URLs against a table. What callers may name is in the tables of the guard.

use super::*;

const WEBSOCKET: &[Scheme] = &[("ws", 80), ("wss", 443)];
const SOCKET_IO: &[Scheme] = &[("http", 80), ("https", 443), ("ws", 80), ("wss", 443)];

#[test]
fn a_url_of_the_configuration_leads_where_it_says() {
    for (text, scheme, authority, port, rest) in [
        ("ws://h", "ws", "h", 80, "/"),
        ("wss://h/ws", "wss", "h", 443, "/ws"),
        ("WSS://H.Example:1/A?B=c", "wss", "h.example:1", 1, "/A?B=c"),
        ("http://h:3000/", "http", "h:3000", 3000, "/"),
        ("https://h:443?x=/y", "https", "h:443", 443, "/?x=/y"),
        ("ws://h:65535//double/../x", "ws", "h:65535", 65535, "//double/../x"),
        ("wss://[::1]:9/x?y=z", "wss", "[::1]:9", 9, "/x?y=z"),
        ("wss://[2001:DB8:0::1]", "wss", "[2001:db8::1]", 443, "/"),
        ("ws://192.0.2.1/", "ws", "192.0.2.1", 80, "/"),
        // Names that only some resolvers know, and a path as the service wants it.
        ("ws://my_service:8000/ws", "ws", "my_service:8000", 8000, "/ws"),
        ("wss://svc.example./", "wss", "svc.example.", 443, "/"),
        ("ws://127.1/", "ws", "127.1", 80, "/"),
        ("ws://0x7f.1/", "ws", "0x7f.1", 80, "/"),
        ("wss://xn--bcher-kva.example/", "wss", "xn--bcher-kva.example", 443, "/"),
        ("wss://h/é\\|{}@\"", "wss", "h", 443, "/é\\|{}@\""),
    ] {
        let url = Url::parse(text, SOCKET_IO).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        let found = (url.scheme, url.authority(), url.port, url.path_and_query());
        assert_eq!(found, (scheme, authority.to_owned(), port, rest.into()), "{text}");
        assert_eq!(Url::parse(&url.to_string(), SOCKET_IO), Ok(Url { rest, ..url.clone() }), "{text}");
    }
}

#[test]
fn a_wrong_url_is_refused_with_the_reason_and_what_to_write() {
    for (text, reason) in [
        ("", "has no scheme"),
        (
            "svc.example:99999/",
            "the scheme of the url is svc.example; write ws://host/path or wss://host/path",
        ),
        ("ws:h", "has no //"),
        ("://h/", "has no scheme"),
        ("http://h/", "the scheme of the url is http; write ws://host/path or wss://host/path"),
        ("ws:/h/", "has no //"),
        ("ws://", "has no host"),
        ("ws:///p", "has no host"),
        ("ws://:80/", "has no host"),
        ("ws://?x", "has no host"),
        ("wss://u:pw@h/", "user info"),
        ("wss://@h/", "user info"),
        ("ws://h/#x", "fragment"),
        ("ws://h/a b", "white space"),
        (" ws://h/", "white space"),
        ("ws://h/\n", "white space"),
        ("ws://h/a\u{7f}", "control"),
        ("ws://h /", "white space"),
        ("wss://svc.example:99999/", "1 to 65535"),
        ("wss://svc.example:65536/", "1 to 65535"),
        ("wss://svc.example:0/", "1 to 65535"),
        ("wss://svc.example:000000/", "1 to 65535"),
        ("wss://svc.example:/", "1 to 65535"),
        ("wss://svc.example:+80/", "1 to 65535"),
        ("wss://svc.example:-1/", "1 to 65535"),
        ("wss://svc.example:8o/", "1 to 65535"),
        ("wss://svc.example:80:80/", "more than one colon"),
        ("wss://::1/", "more than one colon"),
        ("wss://[::1/", "bracket"),
        ("wss://[::1]9/", "behind its bracket"),
        ("wss://[::1]:99999/", "1 to 65535"),
        ("wss://[fe80::1%25eth0]/", "zone"),
        ("wss://[h]/", "IPv6"),
        ("wss://h%2eexample/", "percent"),
        ("wss://h\\x/", "character"),
        ("wss://bücher.example/", "xn--"),
        ("wss://a..b/", "between two dots"),
        ("wss://.a/", "between two dots"),
        ("wss://./", "between two dots"),
        ("wss://h/a<b>", "percent-encoded"),
    ] {
        let fault = Url::parse(text, WEBSOCKET).expect_err(text);
        let error = crate::Error::from(fault);
        assert!(error.message().contains(reason), "{text}: {error}");
        assert!(!error.message().contains("pw"), "{text}: {error}");
        assert_eq!((error.kind(), error.pointer()), (crate::error::Kind::Config, Some("/url")), "{text}");
    }
    let long = format!("ws://{}.example/", "a".repeat(64));
    assert!(Url::parse(&long, WEBSOCKET).is_err_and(|fault| fault.to_string().contains("longer")));
}
