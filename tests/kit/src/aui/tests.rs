use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;
use crate::eventually;

const DEADLINE: Duration = Duration::from_secs(10);
const KEY: &str = "key of/the network";

type Client = WebSocketStream<TcpStream>;

/// Dials with the key in the query or in the header, where they are given.
async fn dial(aui: &Aui, query: Option<&str>, header: Option<&str>) -> Result<Client, Error> {
    let stream = TcpStream::connect(aui.address()).await.unwrap();
    let query = query.map(|key| format!("?network_api_key={key}")).unwrap_or_default();
    let mut request = format!("{}{query}", aui.url()).into_client_request().unwrap();
    if let Some(key) = header {
        request.headers_mut().insert("x-network-api-key", key.parse().unwrap());
    }
    timeout(DEADLINE, client_async(request, stream)).await.unwrap().map(|(client, _)| client)
}

async fn signed_in(aui: &Aui) -> Client {
    dial(aui, None, Some(KEY)).await.unwrap()
}

async fn ask(client: &mut Client, task: &str, text: &str) {
    let body = json!({"task_id": task, "text": text, "context": {"url": "https://example.com/"}});
    client.send(Message::text(body.to_string())).await.unwrap();
}

async fn hear(client: &mut Client) -> Message {
    timeout(DEADLINE, client.next()).await.unwrap().unwrap().unwrap()
}

async fn hear_json(client: &mut Client) -> Value {
    serde_json::from_str(hear(client).await.to_text().unwrap()).unwrap()
}

/// The code that the service closes with, which it does next.
async fn closed(client: &mut Client) -> u16 {
    match hear(client).await {
        Message::Close(Some(frame)) => frame.code.into(),
        other => panic!("this is no close: {other:?}"),
    }
}

#[tokio::test]
async fn a_key_is_looked_at_after_the_upgrade() {
    let aui = Aui::start(KEY).await;
    let encoded = "key%20of%2Fthe%20network";
    for (query, header) in [(Some(encoded), None), (None, Some(KEY))] {
        let mut client = dial(&aui, query, header).await.unwrap();
        ask(&mut client, "t1", "hello").await;
        assert_eq!(hear_json(&mut client).await["text"], "hello");
    }
    for (query, header) in [(None, None), (Some("another"), None), (None, Some("another"))] {
        aui.refuses(AuiRefusal::Close);
        assert_eq!(closed(&mut dial(&aui, query, header).await.unwrap()).await, 1008);
        aui.refuses(AuiRefusal::Error);
        let mut client = dial(&aui, query, header).await.unwrap();
        let told = json!({"status_code": 401, "description": "Not authenticated", "message": "Invalid API key", "extra_data": {}});
        assert_eq!(hear_json(&mut client).await, told);
        assert_eq!(closed(&mut client).await, 1008);
    }
    aui.refuses(AuiRefusal::ErrorWithKey);
    let mut client = dial(&aui, Some("another"), None).await.unwrap();
    // What comes from those who were not let in is not taken.
    ask(&mut client, "t1", "hello").await;
    assert_eq!(hear_json(&mut client).await["message"], "Invalid API key: another");
    assert_eq!((closed(&mut client).await, aui.turns().len()), (1008, 2));
    let elsewhere =
        client_async(format!("ws://{}/", aui.address()), TcpStream::connect(aui.address()).await.unwrap());
    assert!(matches!(elsewhere.await, Err(Error::Http(refusal)) if refusal.status() == 403));
}

#[tokio::test]
async fn an_answer_comes_in_updates_and_then_whole() {
    let aui = Aui::start(KEY).await;
    let mut client = signed_in(&aui).await;
    for (envelope, deltas, texts) in [
        (AuiEnvelope::Flat, false, ["ä", "äbc", "äbcde"]),
        (AuiEnvelope::Flat, true, ["ä", "bc", "de"]),
        (AuiEnvelope::Full, false, ["ä", "äbc", "äbcde"]),
        (AuiEnvelope::Full, true, ["ä", "bc", "de"]),
    ] {
        let answer = AuiAnswer::default().text("äbcde").updates(3).envelope(envelope);
        aui.answers(if deltas { answer.deltas() } else { answer });
        ask(&mut client, "task one", "hello").await;
        let mut named = None;
        for text in texts {
            let update = hear_json(&mut client).await;
            assert_eq!(update["data"], json!({ "text": text }));
            match envelope {
                AuiEnvelope::Flat => {
                    assert_eq!(update["event"], "thread-message-text-content-updated");
                    assert_eq!(update.as_object().unwrap().len(), 2);
                }
                AuiEnvelope::Full => {
                    assert!(update.get("event").is_none());
                    assert_eq!(update["channel"]["event_name"], "thread-message-text-content-updated");
                    let context = &update["scope"]["context"];
                    assert_eq!(context["task_id"], "task one");
                    named = context["message_id"].as_str().map(str::to_owned);
                }
            }
        }
        let whole = hear_json(&mut client).await;
        assert_eq!((&whole["text"], &whole["sender"]["type"]), (&json!("äbcde"), &json!("agent")));
        assert!(whole["cards"].is_array() && whole["followup_suggestions"].is_array());
        assert!(!whole.to_string().contains("task"), "{whole}");
        assert!(named.is_none_or(|named| whole["id"] == named));
        let turn = aui.turns().pop().unwrap();
        assert_eq!((turn.task.as_str(), turn.text.as_str(), turn.updates), ("task one", "hello", 3));
        assert_eq!((turn.answer, turn.is_over), (Some(whole), true));
        assert_eq!(turn.body["context"]["url"], "https://example.com/");
    }
}

#[tokio::test]
async fn an_answer_may_come_to_any_end() {
    let aui = Aui::start(KEY).await;
    let after_one = AuiAnswer::default().updates(1);
    for (answer, status, code) in [
        (after_one.clone().fails(404, "no such task"), Some(404), Some(1008)),
        (after_one.clone().fails(500, "the agent failed"), Some(500), Some(1011)),
        (after_one.clone().closes(1011), None, Some(1011)),
        (after_one.clone().breaks(), None, None),
    ] {
        aui.answers_in("t1", answer);
        let mut client = signed_in(&aui).await;
        ask(&mut client, "t1", "hello").await;
        assert_eq!(hear_json(&mut client).await["data"]["text"], "hello");
        if let Some(status) = status {
            assert_eq!(hear_json(&mut client).await["status_code"], status);
        }
        match code {
            Some(code) => assert_eq!(closed(&mut client).await, code),
            None => assert!(matches!(timeout(DEADLINE, client.next()).await, Ok(Some(Err(_)) | None))),
        }
        let turn = aui.turns().pop().unwrap();
        assert!(turn.is_over && turn.answer.is_none());
    }
    aui.answers_in("t1", after_one.falls_silent());
    let mut client = signed_in(&aui).await;
    ask(&mut client, "t1", "hello").await;
    hear_json(&mut client).await;
    client.send(Message::Ping("all?".into())).await.unwrap();
    assert_eq!(hear(&mut client).await, Message::Pong("all?".into()));
    assert!(!aui.turns().pop().unwrap().is_over);
}

#[tokio::test]
async fn what_is_wrong_with_a_message_ends_the_connection() {
    let aui = Aui::start(KEY).await;
    for (text, status, code) in [
        (r#"{"text":"hello"}"#, 422, 1008),
        (r#"{"task_id":"t1","text":7}"#, 422, 1008),
        ("hello", 500, 1011),
    ] {
        let mut client = signed_in(&aui).await;
        client.send(Message::text(text)).await.unwrap();
        assert_eq!(hear_json(&mut client).await["status_code"], status);
        assert_eq!(closed(&mut client).await, code);
    }
    assert!(aui.turns().is_empty());
}

#[tokio::test]
async fn messages_are_answered_side_by_side_unless_they_are_refused() {
    let aui = Aui::start(KEY).await;
    let slowly = AuiAnswer::default().after(Duration::from_millis(20));
    aui.answers(slowly.clone());
    aui.answers_in("t2", AuiAnswer::default());
    let mut client = signed_in(&aui).await;
    ask(&mut client, "t1", "first").await;
    ask(&mut client, "t2", "second").await;
    let texts =
        [hear_json(&mut client).await, hear_json(&mut client).await].map(|whole| whole["text"].clone());
    assert!(texts.contains(&json!("first")) && texts.contains(&json!("second")), "{texts:?}");
    assert!(aui.turns().iter().all(|turn| turn.connection == 0 && turn.is_over));

    aui.one_at_a_time();
    aui.answers(slowly.falls_silent());
    ask(&mut client, "t1", "third").await;
    ask(&mut client, "t2", "fourth").await;
    assert_eq!(hear_json(&mut client).await["status_code"], 409);
    assert_eq!(closed(&mut client).await, 1008);
    assert_eq!(aui.turns().len(), 3);
}

#[tokio::test]
async fn the_agent_says_things_unasked_where_a_task_is_listened_to() {
    let aui = Aui::start(KEY).await;
    assert!(aui.say("t1", "hello?").is_none());
    let mut client = signed_in(&aui).await;
    ask(&mut client, "t1", "hello").await;
    hear_json(&mut client).await;
    let said = aui.say("t1", "anything else?").unwrap();
    assert_eq!((hear_json(&mut client).await, &said["sender"]["id"]), (said.clone(), &json!(aui.agent())));
    assert!(aui.say("t2", "hello?").is_none());
    client.close(None).await.unwrap();
    eventually(DEADLINE, async || aui.say("t1", "gone?").is_none()).await;
    assert_eq!(aui.most_connections(), 1);
}
