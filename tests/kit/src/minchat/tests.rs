use pontoon_sdk::transcript::Names;

use super::*;
use crate::raw::{DEADLINE, Raw};

const KEY: &str = "k";

fn is_like(got: &Value, expected: Value) {
    assert!(Names::default().matches_fields(&expected, got), "{got} is not {expected}");
}

/// One who has joined a user and the chat `c1`.
async fn enter(minchat: &MinChat, user: &str) -> Raw {
    let mut client = Raw::joined(minchat.address(), "").await;
    client.emit("room.user.join", &json!({"channelUserId": user, "apiKey": KEY})).await;
    client.emit("room.join", &json!({"channelId": "c1", "apiKey": KEY})).await;
    // Joins are taken without a word.
    client.nothing_more().await;
    client
}

fn message(text: &str) -> Value {
    json!({"text": text, "metadata": {"tag": 1}, "apiKey": KEY, "chat_id": "c1", "user_id": "u1"})
}

#[tokio::test]
async fn a_message_is_acknowledged_and_told_to_all_but_the_sender() {
    let minchat = MinChat::start(KEY).await;
    minchat.add_user(&json!({"id": "u1", "username": "ada", "name": "Ada"}));
    minchat.add_chat("c1", "Support", &["u1", "u2", "u3"]);
    let mut sender = enter(&minchat, "u1").await;
    let mut same_user = enter(&minchat, "u1").await;
    let mut other = enter(&minchat, "u2").await;
    let mut elsewhere = Raw::joined(minchat.address(), "").await;
    elsewhere.emit("room.user.join", &json!({"channelUserId": "u3", "apiKey": KEY})).await;
    elsewhere.nothing_more().await;
    sender.call(7, "message", &message("hello")).await;
    let stored = sender.ack(7).await.remove(0);
    is_like(
        &stored,
        json!({"success": true, "chat_id": "c1", "text": "hello", "metadata": {"tag": 1}, "seen": false,
            "user": {"id": "u1", "username": "ada", "name": "Ada"}}),
    );
    assert!(stored["created_at"].as_str().unwrap().contains('T'));
    sender.nothing_more().await;
    for client in [&mut same_user, &mut other] {
        assert_eq!(client.event("message").await[0], stored);
    }
    for client in [&mut same_user, &mut other, &mut elsewhere] {
        let chat = client.event("chat").await.remove(0);
        is_like(
            &chat,
            json!({"success": true, "id": "c1", "title": "Support", "last_message": stored,
                "participant_user_ids": ["u1", "u2", "u3"]}),
        );
        client.nothing_more().await;
    }
    assert_eq!(minchat.messages("c1"), [stored]);
    assert_eq!((minchat.joins("c1"), minchat.user_joins("u1"), minchat.user_members("u3")), (3, 2, 1));
}

#[tokio::test]
async fn acknowledgements_can_refuse_or_never_come() {
    let minchat = MinChat::start(KEY).await;
    let mut sender = enter(&minchat, "u1").await;
    let mut other = enter(&minchat, "u2").await;
    minchat.acks(MinChatAcks::Refuse("quota".into()));
    sender.call(1, "message", &message("a")).await;
    assert_eq!(sender.ack(1).await, [json!({"success": false, "message": "quota"})]);
    other.nothing_more().await;
    minchat.acks(MinChatAcks::Never);
    sender.call(2, "message", &message("b")).await;
    sender.nothing_more().await;
    assert_eq!(other.event("message").await[0]["text"], "b");
    minchat.acks(MinChatAcks::Answer);
    let mut nowhere = message("c");
    nowhere["chat_id"] = json!("c9");
    sender.call(3, "message", &nowhere).await;
    assert_eq!(sender.ack(3).await[0]["success"], false);
    // Without a chat there is a new one.
    nowhere.as_object_mut().unwrap().remove("chat_id");
    sender.call(4, "message", &nowhere).await;
    let stored = sender.ack(4).await.remove(0);
    assert_eq!(minchat.messages(stored["chat_id"].as_str().unwrap()), [stored]);
}

#[tokio::test]
async fn every_event_carries_the_key() {
    let minchat = MinChat::start(KEY).await;
    let mut client = Raw::joined(minchat.address(), "").await;
    let mut wrong = message("x");
    wrong["apiKey"] = json!("other");
    for (name, payload) in
        [("room.join", json!({"channelId": "c1"})), ("message", wrong), ("typing.start", Value::Null)]
    {
        client.call(1, name, &payload).await;
        assert_eq!(client.event("error").await, [json!({"message": "Invalid API key"})]);
    }
    client.emit("hello", &json!({})).await;
    client.nothing_more().await;
    assert_eq!((minchat.joins("c1"), minchat.members("c1"), minchat.messages("c1").len()), (0, 0, 0));
    assert_eq!(minchat.payloads("hello"), [json!({})]);
}

#[tokio::test]
async fn updates_are_acknowledged_and_deletes_and_sights_are_bare_texts() {
    let minchat = MinChat::start(KEY).await;
    let mut sender = enter(&minchat, "u1").await;
    let mut other = enter(&minchat, "u2").await;
    sender.call(1, "message", &message("a")).await;
    let id = sender.ack(1).await.remove(0)["id"].clone();
    other.event("message").await;
    sender.call(2, "message.update", &json!({"messageId": id, "text": "b", "apiKey": KEY})).await;
    let updated = sender.ack(2).await;
    is_like(&updated[0], json!({"success": true, "id": id, "text": "b", "metadata": {"tag": 1}}));
    assert_eq!(other.event("message.update").await, updated);
    sender.call(3, "message.update", &json!({"messageId": "none", "text": "b", "apiKey": KEY})).await;
    assert_eq!(sender.ack(3).await[0]["success"], false);
    sender.emit("message.seen", &json!({"lastMessageId": id, "user": {"id": "u1"}, "apiKey": KEY})).await;
    assert_eq!(other.event("message.seen").await[0], id);
    sender.emit("message.delete", &json!({"messageId": id, "apiKey": KEY})).await;
    assert_eq!(other.event("message.delete").await, [id]);
    sender.nothing_more().await;
    assert!(minchat.messages("c1").is_empty());
}

#[tokio::test]
async fn typing_is_relayed_as_it_came_and_does_not_say_where() {
    let minchat = MinChat::start(KEY).await;
    let mut sender = enter(&minchat, "u1").await;
    let mut other = enter(&minchat, "u2").await;
    let user = json!({"id": "u1", "username": "ada", "colour": "red"});
    for name in ["typing.start", "typing.stop"] {
        sender.emit(name, &json!({"channelId": "c1", "user": user, "apiKey": KEY})).await;
        assert_eq!(other.event(name).await[0], user);
    }
    sender.call(1, "user.status", &json!({"memberId": "u2", "apiKey": KEY})).await;
    let online = |user| json!({"memberId": user, "status": "online"});
    assert_eq!(sender.ack(1).await, [online("u2")]);
    let here = json!({"memberId": "u1", "channelId": "c1", "apiKey": KEY});
    sender.emit("user.status", &here).await;
    assert_eq!(other.event("user.status").await, [online("u1")]);
    sender.nothing_more().await;
}

#[tokio::test]
async fn what_others_do_is_told() {
    let minchat = MinChat::start(KEY).await;
    let mut client = enter(&minchat, "u1").await;
    let id = minchat.say("c1", "u2", "hello");
    let told = client.event("message").await.remove(0);
    is_like(&told, json!({"id": id, "text": "hello", "chat_id": "c1"}));
    assert_eq!(told["user"]["username"], "u2");
    // Only those who take part are told with `chat`.
    minchat.update(&id, "hello!");
    assert_eq!(client.event("message.update").await[0]["text"], "hello!");
    minchat.seen(&id);
    assert_eq!(client.event("message.seen").await, [json!(id)]);
    minchat.typing("c1", "u2", true);
    assert_eq!(client.event("typing.start").await[0]["id"], "u2");
    minchat.typing("c1", "u2", false);
    assert_eq!(client.event("typing.stop").await[0]["id"], "u2");
    minchat.status("c1", "u2", "offline");
    assert_eq!(client.event("user.status").await[0]["status"], "offline");
    minchat.ai_event("c1", "bot", "thinking");
    is_like(&client.event("ai.event").await[0], json!({"chatbotUsername": "bot", "chat_id": "c1"}));
    minchat.delete(&id);
    assert_eq!(client.event("message.delete").await, [json!(id)]);
    minchat.emit("error", &json!({"message": "maintenance"}));
    assert_eq!(client.event("error").await[0]["message"], "maintenance");
    for (leave, payload) in [
        ("room.leave", json!({"channelId": "c1", "apiKey": KEY})),
        ("room.user.leave", json!({"channelUserId": "u1", "apiKey": KEY})),
    ] {
        client.emit(leave, &payload).await;
    }
    crate::eventually(DEADLINE, async || minchat.members("c1") + minchat.user_members("u1") == 0).await;
    minchat.say("c1", "u2", "nobody hears this");
    client.nothing_more().await;
}

#[tokio::test]
async fn rooms_are_lost_with_the_connection() {
    let minchat = MinChat::start(KEY).await;
    let mut client = enter(&minchat, "u1").await;
    minchat.stop().await;
    assert_eq!(client.next().await, None);
    minchat.restart().await;
    let mut client = Raw::joined(minchat.address(), "").await;
    minchat.say("c1", "u2", "nobody hears this");
    client.nothing_more().await;
    assert_eq!((minchat.members("c1"), minchat.connections(), minchat.messages("c1").len()), (0, 1, 1));
}

#[tokio::test]
async fn a_file_comes_in_binary_and_is_told_of_by_its_address() {
    let minchat = MinChat::start(KEY).await;
    let mut sender = enter(&minchat, "u1").await;
    let file = json!({"name": "a.png", "type": "image/png", "buffer": {"_placeholder": true, "num": 0}});
    let upload = json!(["message", {"file": file, "apiKey": KEY, "chat_id": "c1", "user_id": "u1"}]);
    sender.say(&format!("451-0{upload}")).await;
    sender.say_binary(&[1, 2, 3]).await;
    let stored = sender.ack(0).await.remove(0);
    assert_eq!(stored["file"]["url"], "https://files.example/a.png");
}
