//! An instance's settings: where scripts connect, the sockets that are configured, and what callers may create.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use pontoon_sdk::connector::AllowList;
use pontoon_sdk::listener::{Identity, Listener};
use pontoon_sdk::rate::RateLimit;
use pontoon_sdk::settings::{check, escaped};
use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Code, Error, Param, Result, Secret, Size, Span};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::operations::Create;
use crate::peer::Title;

/// The settings of a `streamavatars` instance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where scripts connect.
    #[serde(default)]
    pub listen: Option<Listen>,
    /// Sockets that are there from the start, by their titles.
    #[serde(default)]
    pub sockets: BTreeMap<String, Socket>,
    /// Sockets that callers create.
    #[serde(default)]
    pub dynamic: Dynamic,
}

/// Where scripts connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port. Port 0 takes a free one and logs it.
    #[serde(default = "address", deserialize_with = "read_address")]
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// The path of the URL that scripts connect to.
    #[serde(default = "path")]
    pub path: String,
    /// What a script must know to connect. It is looked up at each connect.
    pub token: Secret,
    /// The certificate to listen with TLS.
    #[serde(default)]
    pub tls: Option<Identity>,
    /// How many scripts may be connected at a time.
    #[serde(default = "max")]
    pub max: usize,
    /// A script that sends nothing for this long, not even a pong, counts as gone; no sooner than after two pings.
    #[serde(default = "silence")]
    pub silence: Span,
    /// The largest frame that goes to a script. More is refused (413).
    #[serde(default = "max_frame")]
    pub max_frame: Size,
    /// How many frames go to a script in a time. More wait.
    #[serde(default = "rate_limit")]
    pub rate_limit: RateLimit,
}

/// A socket that is there from the start.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// Where it leads, without secrets.
    pub url: String,
    /// Subprotocols to offer, in order.
    #[serde(default)]
    pub protocols: Vec<Param>,
    /// Parameters of the URL's query that are secret, or might be.
    #[serde(default)]
    pub query: BTreeMap<String, Param>,
}

/// Sockets that callers create.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dynamic {
    /// Whether callers may.
    pub enabled: bool,
    /// The hosts that they may lead to.
    pub hosts: Vec<String>,
    /// Addresses that they may lead to although they are not public, alone or as networks.
    pub addresses: Vec<String>,
    /// Whether they go through the proxy, if one is configured. It looks names up by itself: then addresses are checked only
    /// where the URL has one in place of a name.
    pub proxy: bool,
    /// How many of them may be open at a time.
    pub max: usize,
}

impl Default for Dynamic {
    fn default() -> Self {
        Self { enabled: false, hosts: Vec::new(), addresses: Vec::new(), proxy: false, max: max() }
    }
}

fn address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 9465).into()
}

fn read_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "\"{text}\" is not an address with a port; write one such as \"127.0.0.1:9465\" or \"[::1]:9465\""
        ))
    })
}

fn path() -> String {
    "/streamavatars".to_owned()
}

fn max() -> usize {
    16
}

fn silence() -> Span {
    Span::seconds(60)
}

fn max_frame() -> Size {
    Size::kib(4)
}

fn rate_limit() -> RateLimit {
    RateLimit { requests: 10, per: Span::seconds(1) }
}

/// Settings that were checked.
pub(crate) struct Checked {
    pub(crate) listen: Option<Listen>,
    pub(crate) sockets: BTreeMap<Title, Endpoint>,
    dynamic: bool,
    pub(crate) max_dynamic: usize,
    pub(crate) allow_list: AllowList,
}

impl Checked {
    /// Checks the settings.
    ///
    /// # Errors
    /// `Config`, saying what to write instead.
    pub(crate) fn new(config: Config) -> Result<Self> {
        let Config { listen, sockets, dynamic } = config;
        if listen.is_none() && sockets.is_empty() && !dynamic.enabled {
            return Err(Error::config(
                "there is nothing to do; write a table listen for scripts, a table in sockets for a socket, or dynamic.enabled = true",
            ));
        }
        if let Some(listen) = &listen {
            listen.check()?;
        }
        let mut endpoints = BTreeMap::new();
        for (title, socket) in sockets {
            let at = format!("/sockets/{}", escaped(&title));
            let endpoint = socket.endpoint().map_err(|error| error.at(format!("{at}/url")))?;
            let title = Title::try_from(title).map_err(|wrong| Error::config(wrong).at(at))?;
            endpoints.insert(title, endpoint);
        }
        check(dynamic.max > 0, "/dynamic/max", "max is 0, so no socket could be created; write 1 or more")?;
        check(
            !dynamic.enabled || !dynamic.hosts.is_empty(),
            "/dynamic/hosts",
            "no host is listed, so no socket could be created; write hosts = [\"ws.example.com\"], or [\"*\"] for any",
        )?;
        let Dynamic { enabled, hosts, addresses, proxy, max } = dynamic;
        let allow_list = AllowList { hosts, addresses, proxy, pointer: "/dynamic" };
        Ok(Self { listen, sockets: endpoints, dynamic: enabled, max_dynamic: max, allow_list })
    }

    /// Refuses what this instance can never do, whatever the body.
    ///
    /// # Errors
    /// `Rejected` with 403, or with 404 where there is nothing to send to.
    pub(crate) fn allows(&self, operation: &str) -> Result<()> {
        let dynamic = self.dynamic;
        let (code, text) = match operation {
            "create" | "remove" if !dynamic => (
                Code::Forbidden,
                "callers may not create or remove sockets here; the operator allows it by dynamic.enabled",
            ),
            "send" if !dynamic && self.sockets.is_empty() => {
                (Code::NotFound, "no sockets are configured; the operator lists them in sockets")
            }
            "script.send" if self.listen.is_none() => {
                (Code::NotFound, "no script can connect; the operator allows it by a table listen")
            }
            _ => return Ok(()),
        };
        Err(Error::rejected(code, text))
    }

    /// The endpoint of a socket that a caller creates.
    ///
    /// # Errors
    /// `Rejected` with 403 if the socket is configured.
    pub(crate) fn created(&self, create: &Create) -> Result<Endpoint> {
        self.not_configured(&create.title)?;
        let mut endpoint = Endpoint::restricted(&create.url, self.allow_list.clone());
        endpoint.subprotocols = create.protocols.iter().cloned().map(Param::Plain).collect();
        endpoint.require_subprotocol = false;
        Ok(endpoint)
    }

    /// Refuses to change a socket that is configured.
    ///
    /// # Errors
    /// `Rejected` with 403.
    pub(crate) fn not_configured(&self, title: &Title) -> Result<()> {
        if !self.sockets.contains_key(title) {
            return Ok(());
        }
        let title = title.as_str();
        let text =
            format!("the socket \"{title}\" stands in the configuration; only its operator changes it");
        Err(Error::rejected(Code::Forbidden, text).at("/title"))
    }

    /// Refuses a frame that is too large for a script.
    ///
    /// # Errors
    /// `Rejected` with 413.
    pub(crate) fn check_frame(&self, text: &str) -> Result<()> {
        match self.listen.as_ref().map(|listen| listen.max_frame) {
            Some(limit) if text.len() > limit.0 => {
                let size = text.len();
                let text =
                    format!("the frame has {size} bytes; a script gets at most {limit} (listen.max_frame)");
                Err(Error::rejected(Code::TooLarge, text))
            }
            _ => Ok(()),
        }
    }
}

impl Listen {
    fn check(&self) -> Result<()> {
        let path = &self.path;
        let plain = path.starts_with('/')
            && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%".contains(&byte));
        check(plain, "/listen/path", "path is not a path; write one such as \"/streamavatars\"")?;
        check(self.max > 0, "/listen/max", "max is 0, so no script could connect; write 1 or more")?;
        check(!self.silence.0.is_zero(), "/listen/silence", "silence is 0; write a time such as \"60s\"")?;
        check(self.max_frame.0 > 0, "/listen/max_frame", "max_frame is 0; write a size such as \"4KiB\"")?;
        self.rate_limit.check("/listen/rate_limit")
    }

    /// The listener that the daemon opens.
    pub(crate) fn listener(&self) -> Listener {
        Listener {
            listen: self.address,
            path: self.path.clone(),
            tls: self.tls.clone(),
            most: self.max,
            silence: self.silence.0,
            secrets: vec![self.token.clone()],
        }
    }
}

impl Socket {
    fn endpoint(self) -> Result<Endpoint> {
        let mut endpoint = Endpoint::new(&self.url)?;
        endpoint.query = self.query.into_iter().collect();
        endpoint.subprotocols = self.protocols;
        // The app accepts a server that picks none of them.
        endpoint.require_subprotocol = false;
        Ok(endpoint)
    }
}
