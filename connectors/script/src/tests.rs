//! Scripts: the transcripts, the sample, and what is wrong with scripts.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use pontoon_sdk::{Connector, Kind};
use pontoon_transcript::{check_sample, play, play_folder};
use serde_json::json;

use super::*;

/// A file with a script, which ends with it.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pontoon-{}-{number}.js", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn config(script: &Path, more: &serde_json::Value) -> Config {
    let mut settings = json!({ "script": script, "url": "ws://h/" });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(settings).unwrap()
}

/// Why a script is refused.
fn refused(text: &str) -> String {
    let file = File::new(text);
    let error = WebsocketScript::new(config(&file.0, &json!({}))).err().expect(text);
    assert_eq!((error.kind(), error.pointer()), (Kind::Config, Some("/script")), "{text}");
    error.message().replace(file.0.file_name().unwrap().to_str().unwrap(), "a.js")
}

/// Plays a transcript against a script.
fn plays(script: &str, transcript: &str) {
    let file = File::new(script);
    let config = json!({ "script": file.0, "url": "ws://h/", "limits": { "time": "50ms", "memory": "8MiB", "output": "64KiB" } });
    let name = file.0.file_name().unwrap().to_str().unwrap();
    let text = format!("config {config}\n{}", transcript.replace("a.js", name));
    play::<WebsocketScript>("test", &text).unwrap_or_else(|wrong| panic!("{script}\n{wrong}"));
}

#[test]
fn transcripts() {
    assert_eq!(play_folder::<WebsocketScript>("transcripts"), Ok(1));
}

#[test]
fn the_sample_has_every_setting() {
    let sample = include_str!("../config.toml");
    for lacking in ["namespace", "auth", "protocol"] {
        assert!(sample.contains(&format!("# {lacking} = ")), "{lacking}");
    }
    // The settings of Socket.IO are refused beside those of WebSocket.
    let error = check_sample::<WebsocketScript>().err().unwrap();
    assert!(error.contains("only Socket.IO has this"), "{error}");
}

#[test]
fn a_script_that_does_not_start_is_refused_with_file_and_line() {
    for (text, wanted) in [
        ("export default {\n decode( {}\n};", "a.js:3: SyntaxError: "),
        ("\n\nnull.x;\nexport default { decode() {} };", "a.js:3: TypeError: "),
        (
            "export const decode = 1;",
            "a.js: TypeError: the script exports no connector; write export default",
        ),
        ("export default { };", "a.js: TypeError: the script has no function decode"),
        ("export default { decode() {}, tock() {} };", "\"tock\" is not a function of a connector"),
        ("export default { decode() {}, tick: 1 };", "tick is not a function"),
        ("export default { decode() {}, operations: {} };", "no function encode"),
        ("import fs from \"fs\";\nexport default { decode() {} };", "a.js: "),
        ("for (;;) {}", "a call took longer than limits.time allows"),
        (
            "const a = []; for (;;) a.push('x'.repeat(1e6) + a.length);",
            "more memory than limits.memory allows",
        ),
        ("await null; export default { decode() {}, x: await new Promise(() => {}) };", "a.js: "),
        (
            "export default { decode() {}, encode() {}, operations: { a: { summary: 'x', delivery: 'later' } } };",
            "a.js: the operation \"a\": unknown variant `later`",
        ),
        (
            "export default { decode() {}, encode() {}, operations: { a: { summary: 'x', delivery: 'sent', body: { oneOf: [] } } } };",
            "body/oneOf: this is not understood",
        ),
        (
            "export default { decode() {}, encode() {}, operations: { status: { summary: 'x', delivery: 'sent' } } };",
            "every instance has an operation of this name",
        ),
        (
            "export default { decode() {}, encode() {}, operations: { 'A B': { summary: 'x', delivery: 'sent' } } };",
            "write words of a-z",
        ),
        ("export default { decode() {}, encode() {}, operations: 10n };", "a.js: TypeError: "),
    ] {
        let message = refused(text);
        assert!(message.contains(wanted), "{text}: {message}");
    }
    let error = WebsocketScript::new(config(Path::new("/none.js"), &json!({}))).err().unwrap();
    assert!(error.message().contains("the script /none.js cannot be read"), "{error}");
}

#[test]
fn settings_of_the_other_protocol_are_refused() {
    let at = |more| {
        let error = WebsocketScript::new(config(Path::new("feed.js"), &more)).err().unwrap();
        error.pointer().unwrap().to_owned()
    };
    assert_eq!(at(json!({ "namespace": "/a" })), "/namespace");
    assert_eq!(at(json!({ "auth": { "a": 1 } })), "/auth");
    assert_eq!(at(json!({ "limits": { "time": "0s" } })), "/limits/time");
    assert_eq!(at(json!({ "limits": { "memory": "1KiB" } })), "/limits/memory");
    assert_eq!(at(json!({ "limits": { "output": "1GiB" } })), "/limits/output");
    assert_eq!(at(json!({ "headers": { "Host": "x" } })), "/headers/Host");
}

#[test]
fn a_call_that_fails_does_nothing() {
    let script = "export default {\n operations: { go: { summary: 'x', delivery: 'sent' } },\n \
        decode(frame, out) {\n out.publish({ type: 'log.entry', text: 'x' });\n out.send('x');\n frame.json.a.b.c;\n },\n \
        encode(command, out) {\n out.send('x', command);\n throw new Error('no');\n },\n};";
    plays(
        script,
        "ready\nup <- {\"a\":{}}\nbus -> frame.unrecognised {\"reason\":\"a.js:6: TypeError: cannot read property 'c' of undefined\"}\n\
         bus <- go\nreply failed 500 a.js:10: Error: no",
    );
}

#[test]
fn what_scripts_write_is_checked() {
    for (call, wanted) in [
        ("out.publish({})", "an event has a type"),
        ("out.publish({ type: 'message.made' })", "is no event type"),
        ("out.publish({ type: 'message.created', chanel: 1 })", "an event has no field chanel"),
        ("out.publish({ type: 'message.created', message: { txt: 1 } })", "a message has no field txt"),
        ("out.publish({ type: 'message.created', fields: {} })", "only a type x-… has fields"),
        ("out.publish({ type: 'message.created', time: 'noon' })", "time is"),
        ("out.publish({ type: 'message.created', sender: { kind: 'cat' } })", "user, agent or self"),
        ("out.publish(undefined)", "this has no form in JSON"),
        ("out.publish({ type: 'log.entry', data: 10n })", "TypeError"),
        ("out.send(() => {})", "this has no form in JSON"),
        ("out.reply({}, 1)", "this is not a command"),
        ("out.wake('soon')", "write a number of milliseconds"),
        ("Uint8Array.fromBase64('?')", "SyntaxError"),
        ("hash('sha1', 5)", "this is neither a text nor a Uint8Array"),
        ("hash('md5', '')", "is not one of sha1"),
        ("throw 'words'", "words"),
        ("return (async () => {})()", "decode returns a promise"),
        ("return Promise.resolve(out.ignore())", "decode returns a promise"),
        ("const f = () => f() + 1; f()", "RangeError: Maximum call stack size exceeded"),
    ] {
        let script = format!("export default {{ decode(frame, out) {{ {call} }} }};");
        plays(&script, "ready\nup <- {}\nbus -> frame.unrecognised {\"reason\":\"${reason}\"}");
        let file = File::new(&script);
        let message = reason(&file.0);
        assert!(message.contains(wanted), "{call}: {message}");
    }
}

/// The reason for which a frame is not recognised.
fn reason(script: &Path) -> String {
    reason_within(script, &json!({}))
}

fn reason_within(script: &Path, more: &serde_json::Value) -> String {
    let connector = WebsocketScript::new(config(script, more)).unwrap();
    let mut out = pontoon_sdk::Outbox::new(std::time::Instant::now());
    let mut session = connector.session(&LinkKey::main());
    pontoon_sdk::Session::open(&mut session, &[], &mut out).unwrap();
    let frame = pontoon_sdk::websocket::Frame::text("{}");
    pontoon_sdk::Session::decode(&mut session, &frame, &mut out).unwrap_err().message().to_owned()
}

#[test]
fn a_limit_ends_the_connection_and_loses_no_frame() {
    for (call, wanted) in [
        ("for (;;) {}", "limits.time"),
        ("for (;;) try { for (;;) {} } catch {}", "limits.time"),
        ("/^(a+)+$/.test('a'.repeat(40) + 'b')", "limits.time"),
        ("const a = []; for (;;) a.push('x'.repeat(1e6) + a.length)", "limits.memory"),
        ("for (;;) out.log('x'.repeat(1000))", "limits.output"),
        ("try { for (;;) out.send('x'.repeat(1000)) } catch {}", "limits.output"),
    ] {
        let script = format!("export default {{ decode(frame, out) {{ {call} }} }};");
        plays(
            &script,
            "ready\nup <- {\"n\":1}\nbus -> frame.unrecognised {\"raw\":{\"n\":1}}\nup close disconnected: a.js\nup open\nready",
        );
        let file = File::new(&script);
        assert!(reason(&file.0).contains(wanted), "{call}: {}", reason(&file.0));
    }
}

#[test]
fn values_outlive_a_connection_and_time_is_the_daemons() {
    let script = "let n = 0; export default { open(out, known) { out.send({ known, n }); out.remember('n', ++n); out.ready(); out.wake(1000); }, \
        decode(frame, out) { out.forget('n'); }, tick(out) { out.send({ at: Date.now() - new Date().getTime() }); } };";
    plays(
        script,
        "up -> {\"known\":[],\"n\":0}\njoin n 1\nready\nwait 1s\nup -> {\"at\":0}\nup closed\nup open\n\
         up -> {\"known\":[{\"key\":\"n\",\"data\":1}],\"n\":0}\njoin n 1\nready\nup <- x\nforget n",
    );
}

#[test]
fn a_secret_that_is_not_configured_is_an_error() {
    let secrets = json!({ "secrets": { "token": "hunter2" } });
    let file = File::new("\nconst key = secrets.tokn; export default { decode() {} };");
    let error = WebsocketScript::new(config(&file.0, &secrets)).err().unwrap();
    let name = file.0.file_name().unwrap().to_str().unwrap();
    let wanted = format!("{name}:2: TypeError: the settings have no secret \"tokn\"; known are token");
    assert!(error.message().starts_with(&wanted), "{error}");
    let file = File::new(
        "export default { open(out) { out.send([secrets, secrets.token, 'tokn' in secrets]); out.ready(); }, \
         decode(frame, out) { out.send(secrets.tokn); } };",
    );
    let lines =
        "up -> [{\"token\":\"hunter2\"},\"hunter2\",false]\nready\nup <- x\nbus -> frame.unrecognised {}";
    let settings = json!({ "script": file.0, "url": "ws://h/", "secrets": secrets["secrets"] });
    play::<WebsocketScript>("test", &format!("config {settings}\n{lines}")).unwrap();
}

#[test]
fn what_nats_has_confirmed_is_acknowledged() {
    plays(
        "export default { decode(f, out) { out.publish({ type: 'log.entry', text: 'x', stored: f.json.id }); }, stored(id, out) { out.send({ ack: id }); } };",
        "ready\nup <- {\"id\":\"e1\"}\nbus -> log.entry {\"text\":\"x\"}\nup -> {\"ack\":\"e1\"}",
    );
}

#[test]
fn codecs_compute_what_their_standards_say() {
    // RFC 4231 §4.3, RFC 4648 §10, FIPS 180-4.
    let script = "const bytes = (text) => new TextEncoder().encode(text), text = (bytes) => new TextDecoder().decode(bytes); \
        export default { decode(f, out) { out.send([ hmac('sha256', 'Jefe', 'what do ya want for nothing?').toHex(), \
        bytes('foobar').toBase64(), text(Uint8Array.fromBase64('Zm8=')), hash('sha256', '').toHex(), \
        hash('sha1', bytes('abc')).toHex(), text(Uint8Array.fromHex('c3a9')), f.bytes.toHex() ]); } };";
    let frame = [
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "Zm9vYmFy",
        "fo",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "a9993e364706816aba3e25717850c26c9cd0d89d",
        "é",
        "00ff",
    ];
    plays(script, &format!("ready\nup <- base64 AP8=\nup -> {}", json!(frame)));
}

#[test]
fn socketio_events_and_acknowledgements_pass() {
    let file = File::new(
        "export default { operations: { say: { summary: 'x', delivery: 'acked' } }, decode(m, out) { \
            if (m.event === 'message') { out.publish({ type: 'message.created', message: m.args[0] }); if (m.ack !== null) out.send({ ack: m.ack, args: ['ok'] }); } \
            else if (!m.event) out.reply(out.answered(m.ack), m.args[0]); }, \
          encode(c, out) { out.expect(c.id, c); out.send({ event: 'say', args: [c.body], ack: c.id }, c); } };",
    );
    let config = json!({ "script": file.0, "url": "http://h", "protocol": "socketio" });
    let text = format!(
        "config {config}\nready\nup <- message#7 \"hi\"\nbus -> message.created {{\"message\":\"hi\"}}\nup -> #7 \"ok\"\n\
         up <- other 1\nbus -> frame.unrecognised {{\"raw\":[\"other\",1]}}\n\
         bus <- say {{\"a\":1}}\nup -> say#${{n}} {{\"a\":1}}\nup <- #1 {{\"ok\":true}}\nreply acked {{\"ok\":true}}"
    );
    play::<SocketioScript>("test", &text.replace("say#${n}", "say#1")).unwrap();
}

#[test]
fn a_changed_file_is_another_revision() {
    let file = File::new("export default { decode() {} };");
    let revision = || WebsocketScript::new(config(&file.0, &json!({}))).unwrap().revision();
    let before = revision();
    assert_eq!(before, revision());
    std::fs::write(&file.0, "export default { decode() {} }; // changed").unwrap();
    assert_ne!(before, revision());
}

#[test]
fn memory_may_run_out_anywhere() {
    let file = File::new(
        "export default { decode() { const kept = []; for (;;) kept.push({ list: [kept], call: () => kept, \
         map: new Map([[{}, `${kept.length}`.repeat(9)]]), match: /x+/g.exec('xx'), error: new Error('x') }); } };",
    );
    // With each limit, another part of the engine is the first that gets none.
    for kib in (1_024..1_424).step_by(16) {
        let limits = json!({ "limits": { "memory": format!("{kib}KiB"), "output": "1KiB", "time": "1s" } });
        let message = reason_within(&file.0, &limits);
        assert!(message.contains("limits.memory"), "{kib}: {message}");
    }
}

#[test]
fn what_a_script_asks_is_answered_once_and_only_where_the_table_allows_it() {
    let file = File::new(
        r#"export default {
          decode(frame, out) {
            out.ask(frame.json.subject ?? "app.sum", frame.json.body, { id: frame.json.id });
          },
          asked(answer, { id }, out) {
            out.send({ id, ...answer });
          },
        };"#,
    );
    let config = |more: serde_json::Value| {
        let mut config = json!({ "script": file.0, "url": "ws://h/" });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let transcript = r#"
        up  <- {"id":1,"body":[1,2]}
        ask -> app.sum [1,2]
        up  <- {"id":2}
        ask -> app.sum null
        ask <- 3
        up  -> {"id":1,"data":3}
        ask failed no answer
        up  -> {"id":2,"error":{"code":504,"message":"no answer"}}
        up  <- {"id":3,"subject":"other.sum"}
        bus -> frame.unrecognised {}
        up  <- {"id":4,"subject":"app.*"}
        bus -> frame.unrecognised {}
        up  <- {"id":5}
        ask -> app.sum null
        up closed
        up open
    "#;
    let text = format!("config {}\n{transcript}", config(json!({ "ask": ["app.>"] })));
    play::<WebsocketScript>("test", &text).unwrap();
    let wrong = serde_json::from_value(config(json!({ "ask": ["app.>", ">"] }))).unwrap();
    assert_eq!(WebsocketScript::new(wrong).err().unwrap().pointer(), Some("/ask/1"));
    plays(
        "export default { decode(frame, out) { out.ask('app.sum'); } }",
        "up <- {}\nbus -> frame.unrecognised {}",
    );
}

#[test]
fn a_script_gets_decoded_frames_and_sends_in_the_codec() {
    let file = File::new(
        r#"export default {
          decode(frame, out) {
            if (frame.json.ask) out.send({ ok: true });
            else out.publish({ type: "x-trade.executed", fields: { text: frame.text } });
          },
        };"#,
    );
    let config = json!({ "script": file.0, "url": "ws://h/", "codec": "msgpack" });
    // {"ask": 1}, {"ok": true}, {"a": 1}, and what has no meaning.
    let transcript = r#"
        up  <- base64 gaNhc2sB
        up  -> base64 gaJva8M=
        up  <- base64 gaFhAQ==
        bus -> x-trade.executed {"text":"{\"a\":1}","raw":{"a":1}}
        up  <- base64 wQ==
        bus -> frame.unrecognised {"raw":{"base64":"wQ=="}}
    "#;
    play::<WebsocketScript>("test", &format!("config {config}\n{transcript}")).unwrap();
    for (more, pointer) in
        [(json!({ "codec": "cbor" }), "/codec"), (json!({ "inflate": "gzip" }), "/inflate")]
    {
        let mut settings = json!({ "script": file.0, "url": "https://h/", "protocol": "socketio" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = SocketioScript::new(serde_json::from_value(settings).unwrap()).err().unwrap();
        assert_eq!(error.pointer(), Some(pointer));
    }
}
