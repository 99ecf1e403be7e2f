//! HTTP proxies: which one an address is reached through, and the tunnel by CONNECT
//! (RFC 9110 §9.3.6), for `ws://` as for `wss://` (RFC 6455 §4.1).
//!
//! `transport.proxy` decides for an instance. Without it the environment does, by the convention of curl (the section
//! ENVIRONMENT of its manual) that most HTTP clients share: `https_proxy` for TLS, `http_proxy` without, `all_proxy` for
//! both; `no_proxy` names hosts, domains and networks that are reached directly; upper case works, too, and counts where
//! lower case is not set. An endpoint that a caller names (guarded) is dialled directly, unless the operator allows the
//! proxy there: the proxy looks names up itself, so the guard cannot check the addresses.

use std::fmt;

use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use pontoon_sdk::url::{Fault, Url};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::guard::Guard;
use super::tcp::{Address, reach};
use super::{DialError, DialErrorKind, Settings, classify, refusal};

/// The supported schemes of proxies. TLS to the proxy and SOCKS are not supported.
const SCHEMES: &[(&str, u16)] = &[("http", 80)];
/// The value of the setting for a direct connection.
const NONE: &str = "none";
/// Limits on the header of the proxy's response, in bytes and in fields.
const HEADER_LIMIT: usize = 16 * 1024;
const HEADER_COUNT: usize = 128;

/// A proxy, and the value of `Proxy-Authorization`.
#[derive(Clone)]
pub struct Proxy {
    address: Address,
    authorization: Option<HeaderValue>,
}

/// The proxy that this address is reached through; `None` if it is dialled directly.
///
/// # Errors
/// `WrongAddress` if what is configured is not a proxy that we can use.
pub fn choose(
    address: &Address,
    guard: Option<&Guard>,
    settings: &Settings,
) -> Result<Option<Proxy>, DialError> {
    if guard.is_some_and(|guard| !guard.allows_proxy()) {
        return Ok(None);
    }
    match &settings.config.proxy {
        Some(secret) => Proxy::read(&secret.reveal()?)
            .map_err(|why| DialError::wrong_address(format!("transport.proxy cannot be used: {why}"))),
        None => Environment::read().choose(address).map_err(DialError::wrong_address),
    }
}

impl Proxy {
    /// Reads the setting: `http://user:password@host:port`, without user and password, or `none`.
    ///
    /// # Errors
    /// What is wrong with the setting, without its text.
    pub fn read(text: &str) -> Result<Option<Self>, String> {
        if text == NONE {
            return Ok(None);
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) =
            authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
        let address = match Url::parse(&format!("{scheme}://{place}"), SCHEMES) {
            Ok(url) => Address::from(&url),
            Err(Fault::Malformed(what, _)) => {
                return Err(format!("the url {what}; write http://host:port or \"{NONE}\""));
            }
            Err(Fault::Scheme(shown, _)) => {
                let write = format!("write http://host:port or \"{NONE}\"");
                return Err(format!(
                    "the scheme of the url is {shown}, and proxies are reached by http alone; {write}"
                ));
            }
            Err(fault) => return Err(fault.to_string()),
        };
        let authorization = match user {
            None => None,
            // The crate decodes user and password, and encodes them as `Basic`.
            Some(user) => {
                let url = format!("http://{user}@proxy/").parse();
                let parsed = url.ok().map(|url: hyper::Uri| Matcher::builder().all(url.to_string()).build());
                let basic = parsed.and_then(|matcher| {
                    Some(matcher.intercept(&hyper::Uri::from_static("http://h/"))?.basic_auth()?.clone())
                });
                Some(basic.ok_or(
                    "the user or the password has a character that must be percent-encoded, such as %40 for @ or %2F for /",
                )?)
            }
        };
        Ok(Some(Self { address, authorization }))
    }

    /// Makes a TCP connection to the proxy, and a tunnel through it to an address, within three quarters of
    /// `connect_timeout`, so that a silent proxy is not reported as a silent service.
    ///
    /// # Errors
    /// See [`DialError`]; every message begins with the proxy.
    pub(super) async fn connect(&self, to: &Address, settings: &Settings) -> Result<TcpStream, DialError> {
        let limit = settings.config.connect_timeout.0.mul_f64(0.75);
        let connecting = async {
            let tcp = reach(&self.address, None, settings).await.map_err(|error| self.named_in(error))?;
            self.tunnel(tcp, to, settings.user_agent()).await
        };
        timeout(limit, connecting).await.unwrap_or_else(|_| {
            Err(DialError::unreachable(format!("{self} made no tunnel to {to} within {limit:?}")))
        })
    }

    /// The error with a message that begins with the proxy.
    fn named_in(&self, error: DialError) -> DialError {
        let message = match error.message.strip_prefix(&self.address.to_string()) {
            Some(rest) => format!("{self}{rest}"),
            None => format!("{self}: {}", error.message),
        };
        DialError { message, ..error }
    }

    async fn tunnel(&self, tcp: TcpStream, to: &Address, user_agent: &str) -> Result<TcpStream, DialError> {
        let broke = |error: hyper::Error| match error.is_parse() {
            true => DialError::wrong_address(format!("{self} does not speak HTTP: {error}")),
            false => DialError::unreachable(format!("{self} broke off: {error}")),
        };
        let unfit = |_| DialError::wrong_address(format!("{to} cannot stand in a request to {self}"));
        let host = if to.host.contains(':') { format!("[{}]", to.host) } else { to.host.clone() };
        let authority = format!("{host}:{}", to.port);
        let mut request =
            Request::connect(&authority).header(HOST, &authority).header(USER_AGENT, user_agent);
        if let Some(value) = &self.authorization {
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        let request = request.body(String::new()).map_err(unfit)?;
        let mut client = http1::Builder::new();
        client.max_buf_size(HEADER_LIMIT).max_headers(HEADER_COUNT);
        let (mut sender, connection) = client.handshake(TokioIo::new(tcp)).await.map_err(broke)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broke)?;
            if !response.status().is_success() {
                return Err(self.refused(to, &response));
            }
            hyper::upgrade::on(response).await.map_err(broke)
        };
        let (tunnel, ()) =
            tokio::try_join!(exchange, async { connection.with_upgrades().await.map_err(broke) })?;
        let early = || DialError::wrong_address(format!("{self} sent data before the tunnel was used"));
        let parts = tunnel.downcast::<TokioIo<TcpStream>>().map_err(|_| early())?;
        if !parts.read_buf.is_empty() {
            return Err(early());
        }
        Ok(parts.io.into_inner())
    }

    /// The error for a status of the proxy.
    fn refused<B>(&self, to: &Address, response: &hyper::Response<B>) -> DialError {
        let code = response.status().as_u16();
        let header = |name| response.headers().get(name)?.to_str().ok();
        let retry_after =
            header(RETRY_AFTER).and_then(|text| refusal::retry_after(text, header(hyper::header::DATE)));
        let kind = classify::kind_of_proxy_status(code);
        let hint = match kind {
            DialErrorKind::Credentials => {
                "it wants other credentials; check user and password of the proxy's url"
            }
            DialErrorKind::Unreachable => "it has no way to the service at the moment",
            _ => "it does not allow that; ask its operator to, or set transport.proxy = \"none\"",
        };
        let message = format!("{self} refused to connect to {to} with HTTP status {code}: {hint}");
        DialError { kind, retry_after, message }
    }
}

/// Shows the address without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}", self.address)
    }
}

/// The variables `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`; empty if not set.
#[derive(Default)]
pub struct Environment {
    http: String,
    https: String,
    all: String,
    no: String,
}

impl Environment {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        let variable = |lower: &str| {
            let set = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
            set(lower).or_else(|| set(&lower.to_uppercase())).unwrap_or_default()
        };
        Self {
            http: variable("http_proxy"),
            https: variable("https_proxy"),
            all: variable("all_proxy"),
            no: variable("no_proxy"),
        }
    }

    /// The errors in these variables.
    pub fn faults(&self) -> Vec<String> {
        let named = [("http_proxy", &self.http), ("https_proxy", &self.https), ("all_proxy", &self.all)];
        let set = named.into_iter().filter(|(_, text)| !text.is_empty());
        set.filter_map(|(name, text)| Proxy::read(text).err().map(|why| unusable(name, &why))).collect()
    }

    /// The proxy for this address.
    ///
    /// # Errors
    /// What is wrong with the variable that applies.
    fn choose(&self, address: &Address) -> Result<Option<Proxy>, String> {
        let first = if address.secure { ("https_proxy", &self.https) } else { ("http_proxy", &self.http) };
        let Some((name, text)) =
            [first, ("all_proxy", &self.all)].into_iter().find(|(_, text)| !text.is_empty())
        else {
            return Ok(None);
        };
        // The crate implements the rules of NO_PROXY.
        let listed_code = Matcher::builder().all("http://proxy").no(self.no.as_str()).build();
        let host =
            if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
        let direct = format!("http://{host}/").parse().is_ok_and(|uri| listed_code.intercept(&uri).is_none());
        if direct {
            return Ok(None);
        }
        Proxy::read(text).map_err(|why| unusable(name, &why))
    }
}

fn unusable(name: &str, why: &str) -> String {
    format!(
        "the proxy of {} in the environment cannot be used: {why}, or set transport.proxy",
        name.to_uppercase()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(proxy: Result<Option<Proxy>, String>) -> String {
        match proxy {
            Ok(Some(Proxy { address, authorization })) => {
                let value = authorization.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
                format!("{address} {value}").trim_end().to_owned()
            }
            Ok(None) => "direct".to_owned(),
            Err(why) => why,
        }
    }

    #[test]
    fn the_setting_is_a_url_or_none() {
        for (text, read) in [
            ("none", "direct"),
            ("http://proxy.example:3128", "proxy.example:3128"),
            ("http://Proxy.Example:3128/", "proxy.example:3128"),
            ("HTTP://proxy", "proxy:80"),
            ("proxy:3128", "proxy:3128"),
            ("http://[::1]:3128", "::1:3128"),
            // RFC 7617 §2: "Aladdin" and "open sesame".
            ("http://Aladdin:open%20sesame@proxy:1", "proxy:1 Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("http://u@proxy:1", "proxy:1 Basic dTo="),
        ] {
            assert_eq!(shown(Proxy::read(text)), read, "{text}");
        }
        for (text, reason) in [
            ("", "has no host"),
            ("http://", "has no host"),
            ("http://u:pw@", "has no host"),
            ("http://u:pw@proxy:0", "1 to 65535"),
            ("http://u:pw@proxy:99999", "1 to 65535"),
            (
                "https://u:pw@proxy:443",
                "the scheme of the url is https, and proxies are reached by http alone; write http://host:port or",
            ),
            ("socks5://u:pw@proxy:1080", "the scheme of the url is socks5"),
            ("http://u:p w@proxy", "percent-encoded"),
            ("http://u:p/w@proxy", "1 to 65535"),
            ("http://pro xy", "white space"),
        ] {
            let why = Proxy::read(text).map(|_| ()).expect_err(text);
            assert!(why.contains(reason), "{text}: {why}");
            assert!(!why.contains("pw"), "{text}: {why}");
        }
    }

    #[test]
    fn the_environment_is_read_as_by_other_clients() {
        let none = Environment::default;
        let proxied = || Environment { http: "http://h:1".into(), https: "https.example:2".into(), ..none() };
        let excepting = |no: &str| Environment { all: "http://a:3".into(), no: no.into(), ..none() };
        for (environment, url, chosen) in [
            (none(), "wss://svc.example/", "direct"),
            (proxied(), "wss://svc.example/", "https.example:2"),
            (proxied(), "ws://svc.example/", "h:1"),
            (Environment { all: "a:3".into(), ..proxied() }, "ws://svc.example/", "h:1"),
            (excepting(""), "wss://svc.example/", "a:3"),
            (excepting("*"), "wss://svc.example/", "direct"),
            (excepting("svc.example"), "wss://SVC.example/", "direct"),
            (excepting("other.example, svc.example"), "ws://svc.example:8080/", "direct"),
            (excepting(".example"), "ws://svc.example/", "direct"),
            (excepting("example"), "ws://svc.example/", "direct"),
            (excepting("vc.example"), "ws://svc.example/", "a:3"),
            (excepting("10.0.0.0/8"), "ws://10.1.2.3/", "direct"),
            (excepting("10.0.0.0/8"), "ws://11.1.2.3/", "a:3"),
            (excepting("127.0.0.1"), "ws://127.0.0.1:9/", "direct"),
            (excepting("::1"), "ws://[::1]:9/", "direct"),
            (excepting("fd00::/8"), "ws://[fd00::1]:9/", "direct"),
            (excepting("localhost"), "ws://[fd00::1]:9/", "a:3"),
        ] {
            let address = Address::from(&Url::parse(url, &[("ws", 80), ("wss", 443)]).unwrap());
            assert_eq!(shown(environment.choose(&address)), chosen, "{url}, not through {}", environment.no);
        }
    }

    #[test]
    fn a_variable_that_cannot_be_used_is_an_error() {
        let wrong = Environment {
            https: "socks5://u:pw@h:1".into(),
            all: "http://a".into(),
            ..Environment::default()
        };
        let address = Address { host: "svc.example".into(), port: 443, secure: true };
        let why = wrong.choose(&address).map(|_| ()).unwrap_err();
        assert!(why.contains("HTTPS_PROXY") && why.contains("socks5") && !why.contains("pw"), "{why}");
        assert_eq!(wrong.faults(), [why]);
        assert_eq!(shown(wrong.choose(&Address { secure: false, ..address })), "a:80");
    }
}
