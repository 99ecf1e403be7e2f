//! The commands that people type, against a daemon that runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pontoon_testkit::{DaemonConfig, Dir, NatsServer, Refusal, Sub0, repeat};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{DEADLINE, Fixture, filled};

/// The command line, set up to find this NATS server and not to read the configuration of the user that runs the tests.
pub(crate) fn pontoon(nats: &NatsServer, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
    command.args(["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml")]);
    command.args(["--nats-url", &nats.url()]).args(arguments);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

pub(crate) async fn output(mut command: Command) -> (Option<i32>, String, String) {
    let output = timeout(DEADLINE, command.output()).await.expect("in time").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn send_prints_the_reply_and_exits_with_its_status() {
    let fixture = Fixture::start().await;
    let (code, out, _) = output(pontoon(&fixture.nats, &["send", "shop", "call.echo", r#"{"a":1}"#])).await;
    assert_eq!(code, Some(0));
    let reply: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&reply["status"], &reply["data"]), (&json!("response"), &json!({"a": 1})));
    let (code, out, _) = output(pontoon(&fixture.nats, &["send", "shop", "nothing"])).await;
    assert_eq!(code, Some(1));
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON")["error"]["code"], 404);
    let (code, _, err) = output(pontoon(&fixture.nats, &["send", "shop", "call.echo", "{bad"])).await;
    assert_eq!(code, Some(2), "{err}");
    let (code, _, err) = output(pontoon(&fixture.nats, &["send", "absent", "call.echo"])).await;
    assert_ne!(code, Some(0));
    assert!(err.contains("absent"), "{err}");
}

#[tokio::test]
async fn tail_shows_events_as_they_pass_and_cannot_be_made_to_steer_a_terminal() {
    let fixture = Fixture::start().await;
    let mut tail =
        pontoon(&fixture.nats, &["tail", "--count", "2"]).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(tail.stdout.take().expect("piped")).lines();
    // Broadcasts go on until the subscriber has its two.
    let broadcasts = repeat(Duration::from_millis(50), async || {
        fixture.sub0.broadcast("tick", &json!({"text": "\u{1b}[2J hello"}));
    });
    let shown = async {
        let mut shown = Vec::new();
        while let Some(line) = lines.next_line().await.expect("readable") {
            shown.push(line);
        }
        shown
    };
    let shown = tokio::select! {
        shown = timeout(DEADLINE, shown) => shown.expect("in time"),
        never = broadcasts => match never {},
    };
    let text = shown.join("\n");
    assert!(text.contains("resource.broadcast") && text.contains("tick"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert_eq!(tail.wait().await.expect("ended").code(), Some(0));
}

#[tokio::test]
async fn tail_begins_with_what_the_stream_holds() {
    let fixture = Fixture::start().await;
    for n in 0..5 {
        fixture.sub0.broadcast("tick", &json!({ "n": n }));
    }
    filled(&fixture.nats, "PONTOON_SHOP", 5, DEADLINE).await;
    let arguments = ["tail", "resource.broadcast", "--json", "--last", "3", "--count", "3"];
    let (code, out, err) = output(pontoon(&fixture.nats, &arguments)).await;
    assert_eq!((code, err.as_str()), (Some(0), "listening on pontoon.event.*.*.resource.broadcast.>\n"));
    let events = out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    assert_eq!(events.map(|event| event["body"]["data"]["n"].clone()).collect::<Vec<_>>(), [2, 3, 4]);
    // With the gap with which the run began.
    let arguments = ["tail", "shop", "--since", "10m", "--count", "6"];
    let (code, out, err) = output(pontoon(&fixture.nats, &arguments)).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().count(), 6, "{out}");
    assert!(out.contains("gap.detected") && out.contains("tick"), "{out}");
}

#[tokio::test]
async fn status_and_health_print_what_the_admin_endpoint_knows() {
    let mut fixture = Fixture::start().await;
    let address = fixture.daemon.admin().await;
    let (code, out, _) = output(pontoon(&fixture.nats, &["--admin-listen", &address, "status"])).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("shop") && out.contains("ready") && out.contains("publishing"), "{out}");
    let (code, out, _) =
        output(pontoon(&fixture.nats, &["--admin-listen", &address, "status", "--json"])).await;
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON")["instances"][0]["instance"], "shop");
    let (code, ..) = output(pontoon(&fixture.nats, &["--admin-listen", &address, "health"])).await;
    assert_eq!(code, Some(0));
    fixture.daemon.kill();
    let (code, _, err) = output(pontoon(&fixture.nats, &["--admin-listen", &address, "health"])).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("is the daemon running?"), "{err}");
}

#[tokio::test]
async fn what_needs_no_daemon_works_without_one() {
    let fixture = Fixture::start().await;
    for (arguments, words) in [
        (vec!["connectors"], "sub0"),
        (vec!["connectors", "sub0"], "call"),
        (vec!["sample", "sub0"], "[connectors.backend]"),
        (vec!["schema"], "\"$schema\""),
        (vec!["completions", "bash"], "PONTOON_COMPLETE"),
        (vec!["man"], ".TH pontoon 1"),
        (vec!["man", "tail"], ".TH pontoon-tail 1"),
        (vec!["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let (code, out, err) = output(pontoon(&fixture.nats, &arguments)).await;
        assert_eq!(code, Some(0), "{arguments:?}: {err}");
        assert!(out.contains(words), "{arguments:?}: {out}");
    }
    let (code, _, err) = output(pontoon(&fixture.nats, &["sample", "sub9"])).await;
    assert_ne!(code, Some(0));
    assert!(err.contains("sub0"), "the known ones are listed: {err}");
}

#[tokio::test]
async fn check_connects_to_nats_and_to_the_services() {
    let (mut nats, sub0) = (NatsServer::start().await, Sub0::start().await);
    let dir = Dir::new("check");
    let config = DaemonConfig::new(&nats).sub0("shop", &sub0);
    let file = dir.write("pontoon.toml", config.text());
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
        command.args(["check", "--connect", "-c"]).arg(&file).envs(config.variables()).kill_on_drop(true);
        command
    };
    let (code, out, err) = output(check()).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("connected; the stream PONTOON_SHOP will be created"), "{out}");
    assert!(
        out.contains("; the stream PONTOON_JOBS will be created; the stream PONTOON_RESULTS will"),
        "{out}"
    );
    assert!(out.contains("ok: shop: link main: connected to ws://127.0.0.1:"), "{out}");
    let without = NatsServer::options().without_jetstream().start().await;
    let mut elsewhere = check();
    elsewhere.args(["--nats-url", &without.url()]);
    let (code, out, _) = output(elsewhere).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("NATS has no JetStream for this account; enable it"), "{out}");
    sub0.refuse(Refusal::status(401));
    nats.kill();
    let (code, out, _) = output(check()).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("error: shop: NATS at") && out.contains("error: shop: link main: "), "{out}");
}

#[tokio::test]
async fn the_printed_users_are_what_a_nats_server_takes() {
    let fixture = Fixture::start().await;
    let (code, out, err) = output(pontoon(&fixture.nats, &["nats-permissions"])).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let dir = Dir::new("permissions");
    let file = dir.write("server.conf", &out);
    let server = std::env::var_os("PONTOON_NATS_SERVER").unwrap_or_else(|| "nats-server".into());
    let mut check = Command::new(server);
    check.arg("-t").arg("-c").arg(file).kill_on_drop(true);
    for name in ["NATS_PASSWORD", "READER_PASSWORD", "CALLER_SHOP_PASSWORD"] {
        check.env(name, "secret");
    }
    let (code, out, err) = output(check).await;
    assert_eq!(code, Some(0), "{out}{err}");
}

#[tokio::test]
async fn the_manual_pages_are_those_that_are_shipped() {
    let (nats, dir) = (NatsServer::start().await, Dir::new("man"));
    let folder = dir.path().to_str().unwrap();
    let (code, _, err) = output(pontoon(&nats, &["man", "--write", folder])).await;
    assert_eq!(code, Some(0), "{err}");
    let pages = |folder: &Path| {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let page =
            |file: PathBuf| (file.file_name().unwrap().to_owned(), std::fs::read_to_string(&file).unwrap());
        files.map(page).collect::<BTreeMap<_, _>>()
    };
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/man");
    let (shipped, printed) = (pages(&shipped), pages(dir.path()));
    assert_eq!(shipped.keys().collect::<Vec<_>>(), printed.keys().collect::<Vec<_>>());
    for (name, page) in shipped {
        assert!(printed[&name] == page, "{name:?} is out of date; `make man` writes it");
    }
}

#[tokio::test]
async fn shells_complete_instances_and_their_operations() {
    let nats = NatsServer::start().await;
    let complete = async |words: &[&str]| {
        let mut command = pontoon(&nats, &[]);
        // The words come after the path of the program, which the shell passes, too.
        command.args(["--", "pontoon", "-c", concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml")]);
        let index = (words.len() + 2).to_string();
        command.args(words).env("PONTOON_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index);
        let (code, out, err) = output(command).await;
        assert_eq!((code, err.as_str()), (Some(0), ""));
        out
    };
    for (words, wanted) in [
        (&["send", "sh"][..], "shop"),
        (&["send", "shop", "rec"], "reconnect"),
        (&["tail", "--wire", ""], "shop"),
        (&["sta"], "status"),
        (&["control", "pa"], "pause"),
        (&["record", "sh"], "shop"),
    ] {
        let out = complete(words).await;
        assert_eq!(out.split_whitespace().collect::<Vec<_>>(), [wanted], "{words:?}");
    }
}

/// A program for Python that runs a command in a terminal, and types `q` once the text is shown.
const IN_A_TERMINAL: &str = "
import os, pty, sys
text, command = sys.argv[1].encode(), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.environ['TERM'] = 'xterm'
    os.execv(command[0], command)
import fcntl, struct, termios
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 120, 0, 0))
shown, typed = b'', False
while True:
    try:
        part = os.read(terminal, 65536)
    except OSError:
        break
    if not part:
        break
    shown += part
    if text in shown and not typed:
        typed = True
        os.write(terminal, b'q')
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

#[tokio::test]
async fn top_shows_instances_in_a_terminal_until_q() {
    let mut fixture = Fixture::start().await;
    let address = fixture.daemon.admin().await;
    let top = pontoon(&fixture.nats, &["--admin-listen", &address, "top"]);
    let mut python = Command::new("python3");
    python.args(["-c", IN_A_TERMINAL, "publishing"]).arg(top.as_std().get_program());
    python.args(top.as_std().get_args()).kill_on_drop(true);
    let (code, out, err) = output(python).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("INSTANCE") && out.contains("shop"), "{out}");
    // Without a terminal it names what to use.
    let (code, _, err) = output(pontoon(&fixture.nats, &["--admin-listen", &address, "top"])).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("status --watch"), "{err}");
}
