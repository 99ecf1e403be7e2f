//! What the daemon asks for.

use pontoon_testkit::RanCommand;

use super::*;

#[tokio::test]
async fn commands_are_run_and_chat_is_written_in_order() {
    let Some(fixture) = Fixture::open().await else { return };
    fixture.server.send_text(r#"{"type":"runCommand","command":"!jump","quiet":true}"#);
    fixture.server.send_text(r#"{"type":"runCommand","command":"!change Ann !jump","quiet":false}"#);
    fixture.server.send_text(r#"{"type":"runCommand","command":"!mass dance"}"#);
    for number in 0..20 {
        fixture
            .server
            .send_text(&json!({ "type": "writeChat", "text": format!("no. {number}") }).to_string());
    }
    eventually(DEADLINE, async || fixture.app.chat().len() == 20).await;
    let ran = |command: &str, quiet| RanCommand { command: command.to_owned(), quiet };
    let expected = [ran("!jump", true), ran("!change Ann !jump", false), ran("!mass dance", false)];
    assert_eq!(fixture.app.commands(), expected);
    let written: Vec<_> = (0..20).map(|number| format!("no. {number}")).collect();
    assert_eq!((fixture.app.chat(), fixture.received("error")), (written, vec![]));
}

#[tokio::test]
async fn texts_are_what_the_daemon_means_with_either_json() {
    for options in [LuaApp::options(), LuaApp::options().good_json()] {
        let Some(fixture) = Fixture::open_with(options, |script| script).await else { return };
        let text = "a/b \\/ \"c\" {d} \\n é 🐢\nline";
        fixture.server.send_text(&json!({ "type": "writeChat", "text": text }).to_string());
        fixture.server.send_text(r#"{"type":"writeChat","text":"http:\/\/a\/ \\/"}"#);
        fixture.server.send_text("{\r\n\"type\" : \"writeChat\",\n \"text\" : \"spaced\" }\n");
        eventually(DEADLINE, async || fixture.app.chat().len() == 3).await;
        assert_eq!(fixture.app.chat(), [text, "http://a/ \\/", "spaced"]);
        fixture.app.fire("luaPlatformOutput", json!([text])).await;
        let events = fixture.receives("event", 1).await;
        assert_eq!(events[0]["data"]["message"], text.replace('\n', " "));
        assert_eq!(fixture.app.failures(), [""; 0]);
    }
}

#[tokio::test]
async fn invalid_commands_are_reported_within_bounds_and_break_nothing() {
    let Some(fixture) = Fixture::open().await else { return };
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
        let delivered = fixture.app.delivered();
        fixture.server.send_text(frame);
        eventually(DEADLINE, async || fixture.app.delivered() > delivered).await;
        fixture.app.advance(1.0).await;
        // Five in all between two heartbeats.
        let errors = fixture.receives("error", 1).await;
        assert!(errors.len() <= 10 && errors.iter().all(|error| error["message"].is_string()), "{errors:?}");
    }
    fixture.server.send_text(r#"{"type":"runCommand","command":"!jump"}"#);
    fixture.server.send_text(&json!({ "type": "x".repeat(5_000) }).to_string());
    fixture.server.send_text(&json!({ "type": "writeChat", "text": "x".repeat(9_000) }).to_string());
    fixture.server.send_text(r#"{"type":"writeChat","text":"the last"}"#);
    eventually(DEADLINE, async || fixture.app.chat() == ["the last"]).await;
    assert_eq!((fixture.app.commands().len(), fixture.app.failures()), (1, vec![]));
    assert_eq!((fixture.server.upgrades(), fixture.logged("Trying again")), (1, 0));
    let errors = fixture.received("error");
    let messages: Vec<_> = errors.iter().filter_map(|error| error["message"].as_str()).collect();
    assert_eq!(messages[..5], ["a message that makes no sense"; 5]);
    assert!(messages.iter().all(|message| message.len() <= 200), "{messages:?}");
}

#[tokio::test]
async fn wrong_types_are_named() {
    let Some(fixture) = Fixture::open().await else { return };
    fixture.server.send_text(r#"{"type":"dance"}"#);
    fixture.server.send_text(r#"{"type":"runCommand"}"#);
    fixture.server.send_text(r#"{"type":"writeChat"}"#);
    let errors = fixture.receives("error", 3).await;
    let messages: Vec<_> = errors.iter().map(|error| error["message"].as_str().unwrap()).collect();
    let expected =
        ["there is no such type: dance", "runCommand without a command", "writeChat without a text"];
    assert_eq!(messages, expected);
    // They are reported in the log, too, for who looks there.
    eventually(DEADLINE, async || fixture.logged("there is no such type: dance") == 1).await;
}

#[tokio::test]
async fn what_does_not_fit_into_the_inbox_is_reported() {
    let Some(fixture) = Fixture::open_with(LuaApp::options().messages(100, 1_000), |script| script).await
    else {
        return;
    };
    fixture.app.freeze();
    for number in 0..60 {
        fixture.server.send_text(&json!({ "type": "writeChat", "text": number.to_string() }).to_string());
    }
    eventually(DEADLINE, async || fixture.app.waiting() == 60).await;
    fixture.app.thaw();
    let errors = fixture.receives("error", 1).await;
    assert_eq!(errors[0]["message"], "28 messages were not read: too many or too long");
    let written: Vec<_> = (0..32).map(|number| number.to_string()).collect();
    assert_eq!(fixture.app.chat(), written);
    fixture.server.send_text(r#"{"type":"writeChat","text":"after"}"#);
    eventually(DEADLINE, async || fixture.app.chat().len() == 33).await;
}
