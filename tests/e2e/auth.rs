//! Every way to sign in to NATS: the right one works, the wrong one is reported, and a mended one is taken up by itself.

use std::fs;
use std::time::Duration;

use async_nats::ConnectOptions;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use pontoon_testkit::{Daemon, DaemonConfig, Dir, NatsServer, Sub0, until_some};
use serde_json::{Value, json};

use crate::support::{DEADLINE, ask_when_served, listen, next, start};

/// How long a mended secret may take to be tried: what was refused is not tried again at once.
const RETRIED: Duration = Duration::from_secs(60);

#[tokio::test]
async fn user_and_password() {
    let lines = "nats.user = \"pontoon\"\nnats.password = { env = \"PASSWORD\" }";
    let mut way = Way::new(
        "authorization { user: pontoon, password: right }",
        ConnectOptions::with_user_and_password("pontoon".into(), "right".into()),
    );
    way.right(lines, &[("PASSWORD", "right")]);
    way.wrong(lines, &[("PASSWORD", "wrong")]);
    way.wrong(&lines.replace("pontoon", "stranger"), &[("PASSWORD", "right")]);
    way.wrong("", &[]);
    way.holds().await;
}

#[tokio::test]
async fn token() {
    let (dir, mut way) = (Dir::new("token"), Way::token());
    let file = |name: &str, text: &str| format!("nats.token = {{ file = {:?} }}", dir.write(name, text));
    way.right("nats.token = { env = \"TOKEN\" }", &[("TOKEN", "right")]);
    way.wrong("nats.token = { env = \"TOKEN\" }", &[("TOKEN", "wrong")]);
    // Editors leave a newline at the end.
    way.right(&file("right", "right\n"), &[]);
    way.wrong(&file("wrong", "wrong\n"), &[]);
    way.holds().await;
}

#[tokio::test]
async fn nkey() {
    let (dir, pair) = (Dir::new("nkey"), KeyPair::new_user());
    let file = |name: &str, pair: &KeyPair| {
        format!("nats.nkey = {{ file = {:?} }}", dir.write(name, &(seed(pair) + "\n")))
    };
    let mut way = Way::nkey(&pair);
    way.right(&file("right", &pair), &[]);
    way.right("nats.nkey = { env = \"SEED\" }", &[("SEED", &seed(&pair))]);
    way.wrong(&file("wrong", &KeyPair::new_user()), &[]);
    way.holds().await;
}

#[tokio::test]
async fn credentials_file() {
    let (dir, operator) = (Dir::new("credentials"), Operator::new());
    let file = |name: &str, text: &str| format!("nats.credentials = {:?}", dir.write(name, text));
    let mut way = Way::operator(&operator);
    way.right(&file("right", &operator.credentials(json!({}))), &[]);
    way.wrong(&file("stranger", &Operator::new().credentials(json!({}))), &[]);
    way.wrong(&file("expired", &operator.credentials(json!({ "exp": 1_000_000_000 }))), &[]);
    // A token of one user with the seed of another.
    let (jwt, other) = (operator.credentials(json!({})), operator.credentials(json!({})));
    let (jwt, _) = jwt.split_once("-----BEGIN USER").expect("a seed");
    let (_, other) = other.split_once("-----BEGIN USER").expect("a seed");
    way.wrong(&file("mixed", &format!("{jwt}-----BEGIN USER{other}")), &[]);
    way.wrong(&file("empty", "nothing of the kind\n"), &[]);
    way.holds().await;
}

/// The JWT and the seed of a credentials file, as a context may hold them itself.
fn inline(credentials: &str) -> Value {
    let lines: Vec<_> =
        credentials.lines().filter(|line| !line.is_empty() && !line.starts_with('-')).collect();
    json!({ "user_jwt": lines[0], "user_seed": lines[1] })
}

#[tokio::test]
async fn a_context_of_the_nats_tool() {
    let (pair, operator) = (KeyPair::new_user(), Operator::new());
    let (users, token, nkey) = (Way::user_and_password(), Way::token(), Way::nkey(&pair));
    let creds = Way::operator(&operator);
    let dir = Dir::new("contexts");
    let path = |name: &str, text: &str| dir.write(name, text);
    let cases = [
        (
            users,
            json!({ "user": "pontoon", "password": "right" }),
            json!({ "user": "pontoon", "password": "wrong" }),
        ),
        (token, json!({ "token": "right" }), json!({ "token": "wrong" })),
        (
            nkey,
            json!({ "nkey": path("right.nk", &seed(&pair)) }),
            json!({ "nkey": path("wrong.nk", &seed(&KeyPair::new_user())) }),
        ),
        (
            creds,
            json!({ "creds": path("right.creds", &operator.credentials(json!({}))) }),
            json!({ "creds": path("wrong.creds", &Operator::new().credentials(json!({}))) }),
        ),
        (
            Way::operator(&operator),
            inline(&operator.credentials(json!({}))),
            inline(&Operator::new().credentials(json!({}))),
        ),
    ];
    for (number, (mut way, right, wrong)) in cases.into_iter().enumerate() {
        let home = dir.path().join(number.to_string());
        fs::create_dir_all(home.join("nats/context")).expect("a folder");
        let home = home.to_str().expect("a name in UTF-8");
        for (name, context) in [("right", &right), ("wrong", &wrong)] {
            fs::write(format!("{home}/nats/context/{name}.json"), context.to_string()).expect("written");
        }
        way.right("nats.context = \"right\"", &[("XDG_CONFIG_HOME", home)]);
        way.wrong("nats.context = \"wrong\"", &[("XDG_CONFIG_HOME", home)]);
        way.holds().await;
    }
}

#[tokio::test]
async fn a_context_names_the_server() {
    let way = Way::user_and_password();
    let nats = way.serve().await;
    let sub0 = Sub0::start().await;
    let dir = Dir::new("context");
    fs::create_dir_all(dir.path().join("nats/context")).expect("a folder");
    let context = json!({ "url": nats.url(), "user": "pontoon", "password": "right", "description": "x" });
    dir.write("nats/context/there.json", &context.to_string());
    // The address is the default, so the context's counts.
    let config = DaemonConfig::with_nats_url("nats://127.0.0.1:4222")
        .with("nats.context = \"there\"\ndelivery.mode = \"core\"")
        .environment("XDG_CONFIG_HOME", dir.path().to_str().expect("a name in UTF-8"))
        .sub0("shop", &sub0);
    let mut daemon = start(config);
    publishes(&mut daemon, DEADLINE).await;
}

#[tokio::test]
async fn a_token_file_that_is_replaced_is_taken_up() {
    let (dir, way) = (Dir::new("rotated"), Way::token());
    let file = dir.path().join("token");
    way.rotates(&dir, "token", &format!("nats.token = {{ file = {file:?} }}"), "wrong", "right").await;
}

#[tokio::test]
async fn a_credentials_file_that_is_replaced_is_taken_up() {
    let (dir, operator) = (Dir::new("rotated"), Operator::new());
    let way = Way::operator(&operator);
    let (wrong, right) = (Operator::new().credentials(json!({})), operator.credentials(json!({})));
    let lines = format!("nats.credentials = {:?}", dir.path().join("user.creds"));
    way.rotates(&dir, "user.creds", &lines, &wrong, &right).await;
}

#[tokio::test]
async fn a_credentials_file_that_was_half_copied_is_taken_up_when_it_is_whole() {
    let (dir, operator) = (Dir::new("rotated"), Operator::new());
    let way = Way::operator(&operator);
    let right = operator.credentials(json!({}));
    let lines = format!("nats.credentials = {:?}", dir.path().join("user.creds"));
    // Half of a file, as a careless copy leaves it for a moment.
    way.rotates(&dir, "user.creds", &lines, &right[..60], &right).await;
}

#[tokio::test]
async fn an_nkey_file_of_a_context_that_is_replaced_is_taken_up() {
    let (dir, pair) = (Dir::new("rotated"), KeyPair::new_user());
    fs::create_dir_all(dir.path().join("nats/context")).expect("a folder");
    dir.write("nats/context/one.json", &json!({ "nkey": dir.path().join("user.nk") }).to_string());
    let mut way = Way::nkey(&pair);
    way.environment = vec![("XDG_CONFIG_HOME".into(), dir.path().to_str().expect("UTF-8").into())];
    let (wrong, right) = (seed(&KeyPair::new_user()), seed(&pair));
    way.rotates(&dir, "user.nk", "nats.context = \"one\"", &wrong, &right).await;
}

#[tokio::test]
async fn a_token_that_changes_at_the_server_and_then_here_is_taken_up() {
    let (dir, way) = (Dir::new("rotated"), Way::token());
    let mut nats = way.serve().await;
    let sub0 = Sub0::start().await;
    let lines = format!("nats.token = {{ file = {:?} }}", dir.write("token", "right"));
    let mut daemon = way.daemon(&nats, &sub0, &lines, &[]);
    publishes(&mut daemon, DEADLINE).await;
    nats.reconfigure("authorization { token: newer }");
    refused(&mut daemon).await;
    dir.write("token", "newer");
    publishes(&mut daemon, RETRIED).await;
}

/// A way to sign in.
struct Way {
    /// What the server needs to know.
    server: String,
    /// How an observer signs in.
    observer: ConnectOptions,
    /// Variables that every daemon has.
    environment: Vec<(String, String)>,
    cases: Vec<Case>,
}

/// Lines of configuration with variables, and whether they are right.
struct Case {
    right: bool,
    lines: String,
    environment: Vec<(String, String)>,
}

impl Way {
    fn new(server: &str, observer: ConnectOptions) -> Self {
        Self { server: server.into(), observer, environment: Vec::new(), cases: Vec::new() }
    }

    fn user_and_password() -> Self {
        let observer = ConnectOptions::with_user_and_password("pontoon".into(), "right".into());
        Self::new("authorization { user: pontoon, password: right }", observer)
    }

    fn token() -> Self {
        Self::new("authorization { token: right }", ConnectOptions::with_token("right".into()))
    }

    fn nkey(pair: &KeyPair) -> Self {
        let server = format!("authorization {{ users = [ {{ nkey: {} }} ] }}", pair.public_key());
        Self::new(&server, ConnectOptions::with_nkey(seed(pair)))
    }

    fn operator(operator: &Operator) -> Self {
        let observer = ConnectOptions::with_credentials(&operator.credentials(json!({})));
        Self::new(&operator.server(), observer.expect("credentials"))
    }

    fn right(&mut self, lines: &str, environment: &[(&str, &str)]) {
        self.case(true, lines, environment);
    }

    fn wrong(&mut self, lines: &str, environment: &[(&str, &str)]) {
        self.case(false, lines, environment);
    }

    fn case(&mut self, right: bool, lines: &str, environment: &[(&str, &str)]) {
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        self.cases.push(Case { right, lines: lines.into(), environment });
    }

    async fn serve(&self) -> NatsServer {
        NatsServer::options().without_jetstream().config(&self.server).start().await
    }

    fn daemon(&self, nats: &NatsServer, sub0: &Sub0, lines: &str, more: &[(String, String)]) -> Daemon {
        let mut config = DaemonConfig::new(nats).with("delivery.mode = \"core\"").with(lines);
        for (name, value) in self.environment.iter().chain(more) {
            config = config.environment(name, value);
        }
        start(config.sub0("shop", sub0))
    }

    /// What is right works and what is wrong is reported.
    async fn holds(&self) {
        let nats = self.serve().await;
        for case in self.cases.iter().filter(|case| !case.right) {
            let sub0 = Sub0::start().await;
            let mut daemon = self.daemon(&nats, &sub0, &case.lines, &case.environment);
            let detail = refused(&mut daemon).await;
            assert!(detail.contains("credentials"), "{}: {detail}", case.lines);
        }
        let client = self.observer.clone().connect(nats.url()).await.expect("we are let in");
        for case in self.cases.iter().filter(|case| case.right) {
            let sub0 = Sub0::start().await;
            let mut daemon = self.daemon(&nats, &sub0, &case.lines, &case.environment);
            let mut events = listen(&client, "pontoon.event.sub0.shop.>").await;
            publishes(&mut daemon, DEADLINE).await;
            sub0.connected(1, DEADLINE).await;
            sub0.broadcast("tick", &json!({ "n": 1 }));
            next(&mut events, |_, body| body["action"] == "tick").await;
            let reply = ask_when_served(&client, "pontoon.command.sub0.shop.call.x", "{}").await;
            assert_eq!(reply.status, "response", "{}", case.lines);
        }
    }

    /// A daemon that was refused comes up by itself once the file in `dir` is right.
    async fn rotates(&self, dir: &Dir, file: &str, lines: &str, wrong: &str, right: &str) {
        let nats = self.serve().await;
        let sub0 = Sub0::start().await;
        dir.write(file, wrong);
        let mut daemon = self.daemon(&nats, &sub0, lines, &[]);
        refused(&mut daemon).await;
        // What is sent while NATS is away is kept for it.
        sub0.connected(1, DEADLINE).await;
        sub0.broadcast("tick", &json!({ "n": 1 }));
        let client = self.observer.clone().connect(nats.url()).await.expect("we are let in");
        let mut events = listen(&client, "pontoon.event.sub0.shop.>").await;
        let next_to_it = dir.write("new", right);
        fs::rename(next_to_it, dir.path().join(file)).expect("replaced at once");
        publishes(&mut daemon, RETRIED).await;
        next(&mut events, |_, body| body["action"] == "tick").await;
    }
}

/// Waits until the daemon reports why it is refused. Returns the detail.
async fn refused(daemon: &mut Daemon) -> String {
    let refused_with = until_some(DEADLINE, async || {
        let bus = bus(daemon).await?;
        let detail = bus["detail"].as_str().filter(|detail| detail.contains("credentials"))?.to_owned();
        (bus["publishing"] == false).then_some(detail)
    });
    refused_with.await
}

/// Waits until events get through.
async fn publishes(daemon: &mut Daemon, deadline: Duration) {
    until_some(deadline, async || (bus(daemon).await?["publishing"] == true).then_some(())).await;
}

async fn bus(daemon: &mut Daemon) -> Option<Value> {
    let (_, text) = daemon.get("/status").await;
    let status: Value = serde_json::from_str(&text).ok()?;
    status["instances"].get(0)?.get("bus").cloned()
}

fn seed(pair: &KeyPair) -> String {
    pair.seed().expect("a pair that was made has a seed")
}

/// An operator with one account, as `nsc` would keep them.
struct Operator {
    operator: KeyPair,
    account: KeyPair,
}

impl Operator {
    fn new() -> Self {
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account() }
    }

    /// What makes a server trust the operator and know the account.
    fn server(&self) -> String {
        let operator =
            jwt(&self.operator, &self.operator, json!({ "nats": { "type": "operator", "version": 2 } }));
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1
        });
        let account = json!({ "nats": { "type": "account", "version": 2, "limits": limits } });
        let account = jwt(&self.operator, &self.account, account);
        let key = self.account.public_key();
        format!("operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {key}: {account} }}")
    }

    /// The credentials of a new user of the account, with more claims.
    fn credentials(&self, mut claims: Value) -> String {
        let user = KeyPair::new_user();
        claims["nats"] = json!({ "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
        let (jwt, seed) = (jwt(&self.account, &user, claims), seed(&user));
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// A token about `subject`, signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, mut claims: Value) -> String {
    claims["iss"] = issuer.public_key().into();
    claims["sub"] = subject.public_key().into();
    claims["name"] = "test".into();
    claims["jti"] = "test".into();
    claims["iat"] = 1_000_000_000.into();
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let encoded = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = issuer.sign(encoded.as_bytes()).expect("signed");
    format!("{encoded}.{}", URL_SAFE_NO_PAD.encode(signature))
}
