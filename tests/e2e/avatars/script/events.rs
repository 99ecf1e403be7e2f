//! What the app reports.

use super::*;

/// The events with the values that the app's documentation names, and what the daemon is sent of them.
fn events() -> Vec<(&'static str, Value, Value)> {
    let user =
        |name: &str| json!({ "displayName": name, "id": "70349853", "moderator": false, "physics": {} });
    let sent = |name: &str| json!({ "displayName": name, "id": "70349853", "moderator": false });
    let (ann, ben) = (user("Ann"), user("Ben"));
    let (sent_ann, sent_ben) = (sent("Ann"), sent("Ben"));
    let receipt = json!({ "name": "block_man:blue", "type": "color", "cost": 50, "platformCurrencyCost": 0, "gifted": true });
    vec![
        ("chatMessage", json!([ann, "hi!"]), json!({ "user": sent_ann, "message": "hi!" })),
        ("newViewer", json!([ann]), json!({ "user": sent_ann })),
        ("spawn", json!([ann]), json!({ "user": sent_ann })),
        ("follower", json!([ann]), json!({ "user": sent_ann })),
        (
            "subscriber",
            json!([ann, 3, "1000"]),
            json!({ "user": sent_ann, "cumulativeCount": 3, "tier": "1000" }),
        ),
        ("raid", json!([ann]), json!({ "user": sent_ann })),
        ("receipts", json!([ann, receipt]), json!({ "user": sent_ann, "receipt": receipt })),
        ("changeAvatar", json!([ann, "cat"]), json!({ "user": sent_ann, "avatar": "cat" })),
        ("backgroundSwitch", json!([null, "forest"]), json!({ "background": "forest" })),
        ("battleRoyaleOutcome", json!([ann, 0.5]), json!({ "winner": sent_ann, "earnings": "0.5" })),
        (
            "bossBattleOutcome",
            json!([[ann, ben], "Ogre", "hard", "players"]),
            json!({ "users": [sent_ann, sent_ben], "boss": "Ogre", "difficulty": "hard", "result": "players" }),
        ),
        (
            "duelOutcome",
            json!([ann, ben, 10, ben]),
            json!({ "winner": sent_ann, "loser": sent_ben, "earnings": 10, "initiator": sent_ben }),
        ),
        (
            "basketballOutcome",
            json!([[ann], [ben], "Ann", [10], [2]]),
            json!({ "winners": [sent_ann], "losers": [sent_ben], "mvp": "Ann", "winnerScores": [10], "loserScores": [2] }),
        ),
        ("jumpCatchStar", json!([ann]), json!({ "user": sent_ann })),
        ("hotkeyPress", json!(["control+alt", "N8"]), json!({ "modifier": "control+alt", "hotkey": "N8" })),
        ("luaPlatformOutput", json!(["hello"]), json!({ "message": "hello" })),
    ]
}

#[tokio::test]
async fn each_event_is_sent_with_its_values() {
    let events = events();
    let names: Vec<_> = events.iter().map(|(event, ..)| format!("'{event}'")).collect();
    let list = format!("{{ {} }}", names.join(", "));
    let Some(fixture) =
        Fixture::open_with(LuaApp::options(), |script| script.code("pontoon_events", &list)).await
    else {
        return;
    };
    for (count, (event, values, data)) in (1..).zip(events) {
        fixture.app.fire(event, values).await;
        let sent = fixture.receives("event", count).await;
        assert_eq!(sent[count - 1], json!({ "type": "event", "event": event, "data": data }));
    }
    assert_eq!(fixture.app.failures(), [""; 0]);
}

#[tokio::test]
async fn keys_are_sent_only_if_the_streamer_wants_it() {
    let Some(fixture) = Fixture::open().await else { return };
    fixture.app.fire("hotkeyPress", json!(["", "P"])).await;
    fixture.app.fire("spawn", json!([{ "displayName": "Ann" }])).await;
    let sent = fixture.receives("event", 1).await;
    assert_eq!((sent.len(), &sent[0]["event"]), (1, &json!("spawn")));
    let subscribed: Vec<_> = fixture.app.subscriptions().into_iter().map(|(event, _)| event).collect();
    assert!(
        events().iter().all(|(event, ..)| *event == "hotkeyPress" || subscribed.contains(&(*event).into()))
    );
}

#[tokio::test]
async fn what_cannot_be_sent_as_it_is_is_made_so() {
    let Some(fixture) = Fixture::open().await else { return };
    // A user that is missing, control characters, more values than are known, a table of both kinds, and depth.
    fixture.app.fire("backgroundSwitch", json!([null, null])).await;
    fixture.app.fire("chatMessage", json!([null, "\u{1}ACTION\twaves\u{7f}", true, ["a", "b"]])).await;
    fixture.app.fire("spawn", json!([[[[[[1]]]]]])).await;
    fixture.app.fire("luaPlatformOutput", json!([1e300])).await;
    fixture.app.fire("luaPlatformOutput", json!(["x".repeat(40_000)])).await;
    let sent = fixture.receives("event", 4).await;
    let nothing = sent[0]["data"].clone();
    assert!(nothing == json!({}) || nothing == json!([]), "{nothing}");
    let chat = json!({ "message": " ACTION waves ", "value3": true, "value4": ["a", "b"] });
    assert_eq!(sent[1]["data"], chat);
    assert_eq!(sent[2]["data"], json!({ "user": [[{}]] }));
    assert_eq!(sent[3]["data"], json!({ "message": "1e+300" }));
    let errors = fixture.receives("error", 1).await;
    assert_eq!(errors[0]["message"], "too long to be sent: luaPlatformOutput");
    assert_eq!((sent.len(), fixture.app.failures()), (4, vec![]));
}

#[tokio::test]
async fn what_happens_without_a_connection_is_not_sent_later() {
    let Some(fixture) = Fixture::begin(LuaApp::options(), |script| script).await else { return };
    fixture.app.fire("luaPlatformOutput", json!(["before"])).await;
    fixture.next_dial().await;
    fixture.joined(1).await;
    fixture.server.cut();
    eventually(DEADLINE, async || fixture.logged("Trying again") == 1).await;
    fixture.app.fire("luaPlatformOutput", json!(["between"])).await;
    fixture.next_dial().await;
    fixture.joined(2).await;
    fixture.app.fire("luaPlatformOutput", json!(["after"])).await;
    let sent = fixture.receives("event", 1).await;
    assert_eq!((sent.len(), &sent[0]["data"]["message"]), (1, &json!("after")));
    assert_eq!(fixture.app.failures(), [""; 0]);
}
