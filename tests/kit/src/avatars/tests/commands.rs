//! What the daemon asks for.

use super::*;

#[tokio::test]
async fn commands_are_run_and_chat_is_written_in_order() {
    let Some(stage) = Stage::open().await else { return };
    stage.server.send_text(r#"{"type":"runCommand","command":"!jump","quiet":true}"#);
    stage.server.send_text(r#"{"type":"runCommand","command":"!change Ann !jump","quiet":false}"#);
    stage.server.send_text(r#"{"type":"runCommand","command":"!mass dance"}"#);
    for number in 0..20 {
        stage.server.send_text(&json!({ "type": "writeChat", "text": format!("no. {number}") }).to_string());
    }
    eventually(DEADLINE, async || stage.app.chat().len() == 20).await;
    let ran = |command: &str, quiet| RanCommand { command: command.to_owned(), quiet };
    let expected = [ran("!jump", true), ran("!change Ann !jump", false), ran("!mass dance", false)];
    assert_eq!(stage.app.commands(), expected);
    let written: Vec<_> = (0..20).map(|number| format!("no. {number}")).collect();
    assert_eq!((stage.app.chat(), stage.heard("error")), (written, vec![]));
}

#[tokio::test]
async fn texts_are_what_the_daemon_means_with_either_json() {
    for options in [LuaApp::options(), LuaApp::options().good_json()] {
        let Some(stage) = Stage::open_with(options, |script| script).await else { return };
        let text = "a/b \\/ \"c\" {d} \\n é 🐢\nline";
        stage.server.send_text(&json!({ "type": "writeChat", "text": text }).to_string());
        stage.server.send_text(r#"{"type":"writeChat","text":"http:\/\/a\/ \\/"}"#);
        stage.server.send_text("{\r\n\"type\" : \"writeChat\",\n \"text\" : \"spaced\" }\n");
        eventually(DEADLINE, async || stage.app.chat().len() == 3).await;
        assert_eq!(stage.app.chat(), [text, "http://a/ \\/", "spaced"]);
        stage.app.fire("luaPlatformOutput", json!([text])).await;
        let events = stage.hears("event", 1).await;
        assert_eq!(events[0]["data"]["message"], text.replace('\n', " "));
        assert_eq!(stage.app.failures(), [""; 0]);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_told_within_bounds_and_breaks_nothing() {
    let Some(stage) = Stage::open().await else { return };
    let frames = [
        "",
        "x",
        "null",
        "[]",
        "{}",
        "{\"type\":",
        r#"{"type":7}"#,
        r#"{"type":"dance","steps":[1,{"a":null}]}"#,
        r#"{"type":"runCommand"}"#,
        r#"{"type":"runCommand","command":""}"#,
        r#"{"type":"runCommand","command":null}"#,
        r#"{"type":"writeChat","text":5}"#,
        r#"{"type":"writeChat","text":"\u0007"}"#,
        "\n\n",
        "OnClose 1008 x",
    ];
    for frame in frames {
        let delivered = stage.app.delivered();
        stage.server.send_text(frame);
        eventually(DEADLINE, async || stage.app.delivered() > delivered).await;
        stage.app.advance(1.0).await;
        // Five in all between two heartbeats.
        let errors = stage.hears("error", 1).await;
        assert!(errors.len() <= 10 && errors.iter().all(|error| error["message"].is_string()), "{errors:?}");
    }
    stage.server.send_text(r#"{"type":"runCommand","command":"!jump"}"#);
    stage.server.send_text(&json!({ "type": "x".repeat(5_000) }).to_string());
    stage.server.send_text(&json!({ "type": "writeChat", "text": "x".repeat(9_000) }).to_string());
    stage.server.send_text(r#"{"type":"writeChat","text":"the last"}"#);
    eventually(DEADLINE, async || stage.app.chat() == ["the last"]).await;
    assert_eq!((stage.app.commands().len(), stage.app.failures()), (1, vec![]));
    assert_eq!((stage.server.upgrades(), stage.logged("Trying again")), (1, 0));
    let errors = stage.heard("error");
    let said: Vec<_> = errors.iter().filter_map(|error| error["message"].as_str()).collect();
    assert_eq!(said[..5], ["a message that makes no sense"; 5]);
    assert!(said.iter().all(|message| message.len() <= 200), "{said:?}");
}

#[tokio::test]
async fn wrong_types_are_named() {
    let Some(stage) = Stage::open().await else { return };
    stage.server.send_text(r#"{"type":"dance"}"#);
    stage.server.send_text(r#"{"type":"runCommand"}"#);
    stage.server.send_text(r#"{"type":"writeChat"}"#);
    let errors = stage.hears("error", 3).await;
    let said: Vec<_> = errors.iter().map(|error| error["message"].as_str().unwrap()).collect();
    let expected =
        ["there is no such type: dance", "runCommand without a command", "writeChat without a text"];
    assert_eq!(said, expected);
    // They are said in the log, too, for who looks there.
    assert_eq!(stage.logged("there is no such type: dance"), 1);
}

#[tokio::test]
async fn what_does_not_fit_into_the_inbox_is_told() {
    let Some(stage) = Stage::open_with(LuaApp::options().messages(100, 1_000), |script| script).await else {
        return;
    };
    stage.app.freeze();
    for number in 0..60 {
        stage.server.send_text(&json!({ "type": "writeChat", "text": number.to_string() }).to_string());
    }
    eventually(DEADLINE, async || stage.app.waiting() == 60).await;
    stage.app.thaw();
    let errors = stage.hears("error", 1).await;
    assert_eq!(errors[0]["message"], "28 messages were not read: too many or too long");
    let written: Vec<_> = (0..32).map(|number| number.to_string()).collect();
    assert_eq!(stage.app.chat(), written);
    stage.server.send_text(r#"{"type":"writeChat","text":"after"}"#);
    eventually(DEADLINE, async || stage.app.chat().len() == 33).await;
}
