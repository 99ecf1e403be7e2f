//! Scripts in the real daemon: hostile ones hurt no other instance and lose no frame, and changed ones are reloaded.

use std::sync::Arc;

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use pontoon_testkit::{Daemon, DaemonConfig, Dir, NatsServer, WebSocketServer, eventually};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::BINARY;
use crate::support::{DEADLINE, SilentService, ask, listen, start};

/// Does what it is sent.
const OBEDIENT: &str = r#"
    let deep = () => deep() + 1;
    export default {
      operations: {
        "answer.twice": { summary: "Answers twice", delivery: "acked" },
        "answer.never": { summary: "Loops", delivery: "acked" },
        "answer.not": { summary: "Throws", delivery: "acked" },
        "answer.badly": { summary: "Answers with what is not JSON", delivery: "response" },
      },
      decode(frame, out) {
        const kept = [];
        switch (frame.json.do) {
          case "publish": return out.publish({ type: "message.created", message: { id: frame.json.id } });
          case "spin": for (;;) {}
          case "match": return /^(a+)+$/.test("a".repeat(60) + "b");
          case "grow": for (;;) kept.push("x".repeat(1e6) + kept.length);
          case "print": for (;;) out.log("x".repeat(1e6));
          case "throw": return frame.json.a.b;
          case "recurse": return deep();
          case "number": return out.publish({ type: "log.entry", data: 10n });
          case "nothing": return;
        }
      },
      encode(command, out) {
        if (command.operation === "answer.never") for (;;) {}
        if (command.operation === "answer.not") command.body.a.b;
        out.send("x", command);
        if (command.operation === "answer.badly") out.reply(command, () => 1);
        out.reply(command, 1);
        out.reply(command, 2);
        out.fail(command, "no");
      },
    };
"#;

/// A script instance and its service.
fn scripted(
    config: DaemonConfig,
    instance: &str,
    script: &std::path::Path,
    service: &WebSocketServer,
) -> DaemonConfig {
    let settings = format!(
        "script = \"{}\"\nurl = \"ws://{}/\"\nlimits = {{ time = \"50ms\", memory = \"16MiB\", output = \"4MiB\" }}",
        script.display(),
        service.address()
    );
    config.connector(instance, "script", &settings)
}

async fn ready(client: &async_nats::Client, instance: &str) {
    eventually(DEADLINE, async || {
        let state =
            ask(client, &format!("pontoon.command.script.{instance}.status"), "", &[]).await.body["data"]
                .take();
        state["links"][0]["phase"] == "ready" && state["bus"]["publishing"] == true
    })
    .await;
}

async fn next(events: &mut Subscriber) -> (String, Value) {
    let message = timeout(DEADLINE, events.next()).await.expect("in time").expect("subscribed");
    (message.subject.to_string(), serde_json::from_slice(&message.payload).unwrap())
}

/// The next event that is not a gap.
async fn happened(events: &mut Subscriber) -> Value {
    loop {
        let (subject, body) = next(events).await;
        if !subject.contains(".gap.") {
            return body;
        }
    }
}

fn publish(service: &WebSocketServer, id: &str) {
    service.send_text(&json!({ "do": "publish", "id": id }).to_string());
}

#[tokio::test]
async fn a_hostile_script_loses_no_frame_and_leaves_the_others_alone() {
    let nats = NatsServer::start().await;
    let client = nats.client().await;
    let dir = Dir::new("scripts");
    let script = dir.write("hostile.js", OBEDIENT);
    let (hostile, other) = (
        WebSocketServer::start(Arc::new(SilentService)).await,
        WebSocketServer::start(Arc::new(SilentService)).await,
    );
    let config = scripted(DaemonConfig::new(&nats), "any", &script, &hostile);
    let daemon = start(scripted(config, "bank", &script, &other));
    ready(&client, "any").await;
    ready(&client, "bank").await;
    let mut events = listen(&client, "pontoon.event.script.any.>").await;
    let mut others = listen(&client, "pontoon.event.script.bank.>").await;
    for (deed, reason) in [
        ("throw", "hostile.js:18: TypeError"),
        ("recurse", "Maximum call stack size exceeded"),
        ("number", "hostile.js:20: TypeError"),
        ("nothing", "decode did nothing with this frame"),
        ("spin", "limits.time"),
        ("match", "limits.time"),
        ("grow", "limits.memory"),
        ("print", "limits.output"),
    ] {
        ready(&client, "any").await;
        let upgrades = hostile.upgrades();
        hostile.send_text(&json!({ "do": deed }).to_string());
        let body = happened(&mut events).await;
        assert_eq!(body["raw"], json!({ "do": deed }), "{body}");
        assert!(body["reason"].as_str().unwrap().contains(reason), "{deed}: {body}");
        publish(&other, deed);
        assert_eq!(happened(&mut others).await["message"]["id"], deed);
        // One that has reached a limit starts over; any other goes on.
        if reason.starts_with("limits") {
            hostile.connected(1, DEADLINE).await;
            eventually(DEADLINE, async || hostile.upgrades() > upgrades).await;
            ready(&client, "any").await;
        } else {
            assert_eq!(hostile.upgrades(), upgrades, "{deed}");
        }
        publish(&hostile, deed);
        assert_eq!(happened(&mut events).await["message"]["id"], deed);
    }
    // Every caller gets one reply.
    for (operation, status, words) in [
        ("answer.twice", "acked", "1"),
        ("answer.not", "failed", "hostile.js:26: TypeError"),
        ("answer.badly", "failed", "this has no form in JSON"),
        ("answer.never", "failed", "limits.time"),
        ("answer.twice", "acked", "1"),
    ] {
        ready(&client, "any").await;
        let upgrades = hostile.upgrades();
        let reply = ask(&client, &format!("pontoon.command.script.any.{operation}"), "{}", &[]).await;
        assert_eq!(reply.status, status, "{operation}: {}", reply.body);
        assert!(reply.body.to_string().contains(words), "{operation}: {}", reply.body);
        if words.starts_with("limits") {
            eventually(DEADLINE, async || hostile.upgrades() > upgrades).await;
        }
    }
    assert_eq!(other.upgrades(), 1, "{}", daemon.log());
}

async fn reloads(daemon: &mut Daemon, outcome: &str) -> f64 {
    daemon.metrics().await.value("pontoon_config_reloads_total", &[("outcome", outcome)]).unwrap_or_default()
}

#[tokio::test]
async fn a_changed_script_is_reloaded_and_one_that_does_not_start_changes_nothing() {
    let nats = NatsServer::start().await;
    let client = nats.client().await;
    let dir = Dir::new("reloaded");
    let publishing = |id: &str| {
        format!(
            "export default {{ decode(frame, out) {{ out.publish({{ type: 'message.created', message: {{ id: '{id}' }} }}); }} }};"
        )
    };
    let (changed, same) =
        (dir.write("changed.js", &publishing("first")), dir.write("same.js", &publishing("same")));
    let (one, other) = (
        WebSocketServer::start(Arc::new(SilentService)).await,
        WebSocketServer::start(Arc::new(SilentService)).await,
    );
    let config = scripted(DaemonConfig::new(&nats), "any", &changed, &one);
    let mut daemon = start(scripted(config, "bank", &same, &other));
    ready(&client, "any").await;
    ready(&client, "bank").await;
    let mut events = listen(&client, "pontoon.event.script.any.message.>").await;
    one.send_text("x");
    assert_eq!(next(&mut events).await.1["message"]["id"], "first");

    dir.write("changed.js", "export default {\n  decode(frame, out) {\n    out.publish({};\n  },\n};");
    daemon.signal("HUP");
    eventually(DEADLINE, async || reloads(&mut daemon, "failed").await == 1.0).await;
    daemon.logs("changed.js:3: SyntaxError").await;
    one.send_text("x");
    assert_eq!(next(&mut events).await.1["message"]["id"], "first");
    assert_eq!(one.upgrades(), 1);

    dir.write("changed.js", &publishing("second"));
    daemon.signal("HUP");
    eventually(DEADLINE, async || one.upgrades() == 2).await;
    ready(&client, "any").await;
    one.send_text("x");
    assert_eq!(next(&mut events).await.1["message"]["id"], "second");
    assert_eq!(other.upgrades(), 1);
}

#[test]
fn the_check_names_the_file_and_the_line() {
    let dir = Dir::new("checked");
    dir.write("feed.js", "export default {\n  decode(frame, out) {\n    out.publish({};\n  },\n};");
    // A relative path begins at the folder of the configuration.
    let config = dir.write(
        "pontoon.toml",
        "[connectors.feed]\ntype = \"script\"\nscript = \"feed.js\"\nurl = \"wss://h/\"\n",
    );
    let output =
        std::process::Command::new(BINARY).args(["check", "--config"]).arg(&config).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("pontoon.toml:3: connectors.feed.script: feed.js:3: SyntaxError"), "{text}");
}

#[test]
fn a_new_script_passes_its_transcript_and_a_changed_one_says_where_it_fails() {
    let dir = Dir::new("new");
    let folder = dir.path().join("news");
    let pontoon = |arguments: &[&str]| {
        let output = std::process::Command::new(BINARY).args(arguments).arg(&folder).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), text)
    };
    let (code, text) = pontoon(&["new", "--script"]);
    assert_eq!(code, Some(0), "{text}");
    // It overwrites nothing.
    assert_eq!(pontoon(&["new", "--script"]).0, Some(1));
    let (code, text) = pontoon(&["test"]);
    assert!(code == Some(0) && text.contains("ok  ") && text.contains("news.txt"), "{text}");
    let script = std::fs::read_to_string(folder.join("news.js")).unwrap();
    std::fs::write(folder.join("news.js"), script.replace("\"pong\"", "\"ping\"")).unwrap();
    let (code, text) = pontoon(&["test"]);
    assert!(
        code == Some(1) && text.contains("news.txt:32: ") && text.contains("1 of 1 transcripts failed"),
        "{text}"
    );
    let types = std::process::Command::new(BINARY).arg("types").output().unwrap();
    assert_eq!(types.stdout, std::fs::read(folder.join("pontoon.d.ts")).unwrap());
}

/// Asks what it is sent, and sends what is answered.
const ASKS: &str = r#"
    export default {
      decode(frame, out) {
        out.ask(frame.json.subject, frame.json.body, frame.json.id);
      },
      asked(answer, id, out) {
        out.send({ id, ...answer });
      },
    };
"#;

#[tokio::test]
async fn a_service_asks_and_what_listens_on_nats_answers_once() {
    let nats = NatsServer::options().every_right().start().await;
    let client = nats.client().await;
    let mut asked = listen(&client, "app.>").await;
    let service = WebSocketServer::start(Arc::new(SilentService)).await;
    let dir = Dir::new("asks");
    let script = dir.write("asks.js", ASKS);
    let settings = format!(
        "script = \"{}\"\nurl = \"ws://{}/\"\nask = [\"app.*\", \"none.>\"]",
        script.display(),
        service.address()
    );
    let daemon = start(DaemonConfig::new(&nats).connector("any", "script", &settings));
    ready(&client, "any").await;
    let mut events = listen(&client, "pontoon.event.script.any.>").await;
    let asks = |id: u64, subject: &str| {
        service.send_text(&json!({ "id": id, "subject": subject, "body": { "n": id } }).to_string());
    };
    let answered = async |id: u64| -> Value {
        let of_id =
            |text: String| serde_json::from_str(&text).ok().filter(|answer: &Value| answer["id"] == id);
        let find = || service.texts().into_iter().find_map(of_id);
        eventually(DEADLINE, async || find().is_some()).await;
        find().unwrap()
    };
    asks(1, "app.sum");
    let request = timeout(DEADLINE, asked.next()).await.expect("in time").expect("subscribed");
    assert_eq!((request.subject.as_str(), &*request.payload), ("app.sum", &b"{\"n\":1}"[..]));
    let reply = request.reply.expect("it wants an answer");
    for answer in ["[\"first\"]", "[\"second\"]"] {
        client.publish(reply.clone(), answer.into()).await.unwrap();
    }
    assert_eq!(answered(1).await, json!({ "id": 1, "data": ["first"] }));
    // Nothing listens.
    asks(2, "none.sum");
    let failed = answered(2).await;
    assert!(failed["error"]["message"].as_str().unwrap().contains("nothing answers on none.sum"), "{failed}");
    // What the table does not list goes nowhere: the frame is published, with the reason.
    asks(3, "app.sum.more");
    let event = happened(&mut events).await;
    assert!(event["reason"].as_str().unwrap().contains("add it to ask"), "{event}");
    assert_eq!(service.texts().len(), 2, "{}", daemon.log());

    let config = dir.write("pontoon.toml", &format!("[connectors.any]\ntype = \"script\"\n{settings}\n"));
    let output =
        std::process::Command::new(BINARY).arg("--config").arg(config).arg("nats-permissions").output();
    let printed = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(printed.contains("\"app.*\"\n") && printed.contains("\"none.>\"\n"), "{printed}");
}

#[test]
fn transcripts_of_recipes_play_by_the_command_line() {
    let recipes = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/recipes");
    for recipe in ["discord", "irc", "stomp"] {
        let output =
            std::process::Command::new(BINARY).arg("test").arg(recipes.join(recipe)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_frame_is_explained() {
    let dir = Dir::new("explained");
    dir.write(
        "feed.js",
        "export default { decode(frame, out) { \
            if (frame.json?.t === 'm') out.publish({ type: 'message.created', channel: frame.json.c }); } };",
    );
    let config = dir.write(
        "pontoon.toml",
        "[connectors.feed]\ntype = \"script\"\nscript = \"feed.js\"\nurl = \"wss://h/\"\n\
         [connectors.table]\ntype = \"websocket\"\nurl = \"wss://h/\"\nkind = \"/t\"\n\
         events.m = { type = \"message.created\", channel = \"/c\", id = \"/id\" }\n\
         [connectors.several]\ntype = \"websocket\"\nurl = \"wss://h/\"\nkind = \"/t\"\nsplit = \"array\"\n\
         codec = \"msgpack\"\nnested_json = [\"/d\"]\n\
         events.m = { type = \"message.created\", channel = \"/d/c\", id = \"/d/id\" }\n",
    );
    let message = r#"{"t":"m","c":"lobby"}"#;
    let published = "publishes message.created scope=lobby {\"channel\":\"lobby\"}\n";
    for (instance, frame, wanted) in [
        ("feed", message, published.to_owned()),
        (
            "feed",
            "x",
            "publishes frame.unrecognised: feed.js: decode did nothing with this frame\n".to_owned(),
        ),
        // [{"t": "m", "d": "{\"c\":\"lobby\"}"}, {"t": "x"}]
        (
            "several",
            "base64 koKhdKFtoWSteyJjIjoibG9iYnkifYGhdKF4",
            format!(
                "message 1 is of the kind m\nmessage 1 id = \"/d/id\" finds nothing\n\
                 message 2 is of the kind x, which events does not list\n{published}\
                 publishes frame.unrecognised {{\"name\":\"x\"}}\n"
            ),
        ),
        ("table", message, format!("is of the kind m\nid = \"/id\" finds nothing\n{published}")),
    ] {
        let file = dir.write("frame", frame);
        let mut pontoon = std::process::Command::new(BINARY);
        pontoon.args(["--config", config.to_str().unwrap(), "explain", instance]).arg(file);
        let output = pontoon.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted, "{:?}", output.stderr);
    }
}
