//! The command line's exit codes, and that data goes to stdout and everything else to stderr.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::Value;

use super::pontoon;

const MINIMAL: [&str; 2] = ["--config", "../../config/minimal.toml"];

/// The exit code, stdout and stderr of a command.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = pontoon(arguments, &[]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn usage_errors_exit_with_2_and_are_on_stderr() {
    for arguments in [
        &["no-such-command"] as &[&str],
        &["sample", "kafka"],
        &["connectors", "kafka"],
        &["send", "shop"],
        &["send", "shop", "call.x", "{", MINIMAL[0], MINIMAL[1]],
        &["send", "desk", "call.x", MINIMAL[0], MINIMAL[1]],
        &["send", "shop", "call..x", MINIMAL[0], MINIMAL[1]],
        &["send", "shop", "call.x", "--wait", "never"],
        &["send", "shop", "call.x", "--timeout", "soon"],
        &["send", "shop", "call.x", "--header", "a: b\r\nc: d"],
        &["tail", "a b", MINIMAL[0], MINIMAL[1]],
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(!err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn what_the_binary_knows_is_data() {
    let (code, schema, err) = run(&["schema"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let kinds = schema["properties"]["connectors"]["additionalProperties"]["oneOf"].as_array().unwrap();
    assert!(kinds.iter().any(|kind| kind["$ref"] == "#/$defs/sub0"), "{kinds:?}");
    assert_eq!(schema["$defs"]["Delivery"]["properties"]["mode"]["default"], "jetstream");

    let (code, list, _) = run(&["connectors"]);
    assert_eq!(code, Some(0));
    assert!(list.lines().any(|line| line.starts_with("sub0 ") && line.contains("call")), "{list}");
    let (code, one, _) = run(&["connectors", "sub0"]);
    assert_eq!(code, Some(0));
    assert!(one.contains("call.<resource>") && one.contains("url: a text in quotes; required"), "{one}");

    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).1.contains("pontoon"));
    }
}

#[test]
fn help_is_a_command_and_a_run_without_instances_is_an_error() {
    let (code, help, err) = run(&["help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(help.contains("tail") && help.contains("-c, --config"), "{help}");
    let (code, out, err) = run(&["run", "-c", "valid/not-enabled.toml"]);
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(err.contains("valid/not-enabled.toml: no instance is enabled"), "{err}");
}

#[test]
fn operations_that_every_instance_has_are_listed() {
    let list = run(&["connectors"]).1;
    assert!(
        list.lines()
            .take_while(|line| !line.is_empty())
            .all(|line| line.ends_with("reconnect, status, pause, resume")),
        "{list}"
    );
}

#[test]
fn without_nats_the_address_is_named() {
    for arguments in [&["tail"] as &[&str], &["send", "shop", "call.x", MINIMAL[0], MINIMAL[1]]] {
        let (code, out, err) = run(&[arguments, &["--nats-url", "127.0.0.1:1"]].concat());
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(err.contains("no connection to NATS at 127.0.0.1:1"), "{err}");
    }
}

/// Answers one request after another, on a free port.
fn endpoint(answers: Vec<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let read = stream.read(&mut [0; 1024]).unwrap();
            assert!(read > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn health_is_the_exit_code() {
    let address = endpoint(vec![
        "HTTP/1.0 200 OK\r\n\r\nready\n",
        "HTTP/1.0 503 Service Unavailable\r\n\r\nshop: not connected\x1b[2J\n",
        "no HTTP at all",
    ]);
    let health = || run(&["health", "--admin-listen", &address]);
    assert_eq!(health(), (Some(0), "ready\n".to_owned(), String::new()));
    assert_eq!(health(), (Some(1), "shop: not connected\\u{1b}[2J\n".to_owned(), String::new()));
    assert_eq!(health().0, Some(1));
    let (code, _, err) = run(&["health", "--admin-listen", "127.0.0.1:1"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("is the daemon running?"), "{err}");
}
