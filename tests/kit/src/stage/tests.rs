//! The stage with a daemon of our own, so that what it does with connections and events is seen without the real one.

use std::net::SocketAddr;

use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::raw::Raw;

/// Of each link the first frame names its chat.
fn link_of(_: &Value, frames: &[Frame]) -> Option<String> {
    let Frame::Event(join) = frames.first()? else { return None };
    join.read::<Value>(0).ok()?["channelId"].as_str().map(str::to_owned)
}

const INSTANCE: &str = "chat";
const LINKS: [&str; 3] = ["c2", "c1", "c3"];

/// What the little daemon does beside what it must.
#[derive(Clone, Copy, Default)]
struct Habits {
    /// It says this much more on each connection.
    more: Option<&'static str>,
    /// It publishes every message twice.
    twice: bool,
}

/// A little daemon with three links: each joins its chat and tells what comes, and is back at once when it has ended;
/// commands are sent over the link `c1`.
async fn little_daemon(client: Client, address: SocketAddr, habits: Habits) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (sender, commands) = watch::channel(String::new());
    let mut asked = client.subscribe(format!("pontoon.command.minchat.{INSTANCE}.>")).await.unwrap();
    let answers = client.clone();
    tasks.spawn(async move {
        while let Some(command) = asked.next().await {
            let body = if command.subject.ends_with(".status") {
                let links = LINKS.map(|key| json!({"key": key, "phase": "ready"}));
                let data = json!({"links": links, "bus": {"publishing": true}, "unconfirmed_events": 0});
                json!({"status": "response", "data": data})
            } else {
                sender.send_replace(String::from_utf8_lossy(&command.payload).into_owned());
                json!({"status": "acked", "data": command.subject.as_str()})
            };
            let _ = answers.publish(command.reply.unwrap(), body.to_string().into()).await;
        }
    });
    for key in LINKS {
        let (client, commands) = (client.clone(), commands.clone());
        tasks.spawn(async move {
            loop {
                link(&client, address, key, commands.clone(), habits).await;
            }
        });
    }
    tasks
}

/// One connection, until it ends.
async fn link(
    client: &Client,
    address: SocketAddr,
    key: &str,
    mut commands: watch::Receiver<String>,
    habits: Habits,
) {
    commands.mark_unchanged();
    let mut raw = Raw::joined(address, "").await;
    raw.say(&format!(r#"42["room.join",{{"channelId":"{key}"}}]"#)).await;
    if let Some(more) = habits.more {
        raw.say(more).await;
    }
    // Where there are many links, some say things of their own.
    tell(client, key, r#"{"text":"opened"}"#, key != "c1").await;
    loop {
        let heard = tokio::select! {
            changed = commands.changed(), if key == "c1" => {
                if changed.is_err() {
                    return;
                }
                let body = commands.borrow_and_update().clone();
                raw.say(&format!(r#"42["message",{body}]"#)).await;
                continue;
            }
            heard = raw.next() => heard,
        };
        match heard {
            Some(Message::Text(text)) => {
                let body = text.strip_prefix(r#"42["message","#).and_then(|rest| rest.strip_suffix(']'));
                for _ in 0..1 + usize::from(habits.twice) {
                    tell(client, key, body.unwrap_or("null"), true).await;
                }
            }
            Some(_) => {}
            None => return,
        }
    }
}

async fn tell(client: &Client, key: &str, body: &str, really: bool) {
    if !really {
        return;
    }
    let subject = format!("pontoon.event.minchat.{INSTANCE}.message.created.{key}");
    let mut headers = HeaderMap::new();
    headers.insert("ce-type", "pontoon.message.created.v1");
    headers.insert("ce-link", key);
    headers.insert("ce-subject", "the%20chat");
    let body = format!(r#"{{"message":{body}}}"#);
    client.publish_with_headers(subject, headers, body.into()).await.unwrap();
}

async fn play(text: &str, habits: Habits) -> Result<(), String> {
    let nats = NatsServer::options().without_jetstream().start().await;
    let transcript = Transcript::parse("t.txt", text).unwrap();
    let voice = Packets::start(Some(link_of), &transcript.config).await;
    let cast = Cast { arguments: &["say"], first_link: |_| "c2", link_of: Some(link_of), ..Cast::default() };
    assert!(cast.suits(&transcript));
    let client = nats.client().await;
    let play = Play::new("minchat", INSTANCE, &cast, &transcript, &voice, client.clone()).await?;
    let _daemon = little_daemon(client, voice.server().address(), habits).await;
    play.run(&transcript).await
}

const TALK: &str = r#"
    link c1
    up  -> room.join {"channelId":"c1"}
    ready
    bus <- say.it.all {"text":"hello"}
    up  -> message {"text":"hello"}
    reply  acked "pontoon.command.minchat.chat.say.it=2Eall"
    up  <- message {"text":"one"}
    bus -> message.created {"message":{"text":"one"}} scope="the chat"
    up closed
    up open
    up  -> room.join {"channelId":"c1"}
    up closed 1001 again
    up open
    up  -> room.join {"channelId":"c1"}
    up  <- message {"text":"two"}
    bus -> message.created {"message":{"text":"two"}}
"#;

const JOINED: &str = "link c1\nup -> room.join {\"channelId\":\"c1\"}";

#[tokio::test]
async fn a_transcript_is_played_on_the_connection_of_its_link() {
    for _ in 0..5 {
        play(TALK, Habits::default()).await.unwrap();
    }
    let first =
        "up -> room.join {\"channelId\":\"c2\"}\nbus -> message.created {\"message\":{\"text\":\"opened\"}}";
    play(first, Habits::default()).await.unwrap();
}

#[test]
fn what_takes_long_or_is_opened_by_nobody_is_for_the_other_player() {
    let suits = |text: &str, on_demand| {
        let cast = Cast { on_demand, ..Cast::default() };
        cast.suits(&Transcript::parse("t.txt", text).unwrap())
    };
    for (text, from_the_start, on_demand) in [
        ("wait 900ms", true, true),
        ("wait 2s", false, false),
        ("bus <- a {}\nup -> {}\ntimeout", false, false),
        ("up <- {}", true, false),
        ("ready\nbus <- a {}", true, false),
        ("bus <- a {}\nup <- {}", true, true),
        ("bus <- a {}\nreply failed 502", true, true),
        ("bus <- a {}\nreply part 1\nup -> {}", true, true),
        ("bus <- a {}\nup -> {}\nreply acked\nup closed\nup open\nup <- {}", true, false),
        ("bus <- a {}\nup -> {}\nbus <- b {}\nreply #1 acked\nup closed\nup open\nup -> {}", true, true),
    ] {
        assert_eq!((suits(text, false), suits(text, true)), (from_the_start, on_demand), "{text}");
    }
}

#[tokio::test]
async fn what_is_not_written_is_said() {
    let none = Habits::default();
    let more = Habits { more: Some(r#"42["typing.start"]"#), ..none };
    let twice = Habits { twice: true, ..none };
    for (text, habits, words) in [
        (TALK.to_owned(), more, "t.txt:6: the service got typing.start"),
        (
            format!("{JOINED}\nup <- typing\nbus -> message.created\nup closed\nup open"),
            more,
            "t.txt:6: the service got typing.start too",
        ),
        (TALK.to_owned(), twice, "t.txt:17: its fields are others"),
        (format!("{JOINED}\nup closed\nup <- message {{}}"), none, "t.txt:4: the link has ended"),
    ] {
        let wrong = play(&text, habits).await.expect_err(words);
        assert!(wrong.contains(words), "{words}: {wrong}");
    }
}

#[tokio::test]
async fn an_event_too_many_is_noticed_at_the_end() {
    let text = r#"
        link c1
        up -> room.join {"channelId":"c1"}
        up <- message {"text":"one"}
        bus -> message.created {"message":{"text":"one"}}
    "#;
    play(text, Habits::default()).await.unwrap();
    let wrong = play(text, Habits { twice: true, ..Habits::default() }).await.unwrap_err();
    assert!(wrong.contains("at the end: this was published too: pontoon.event.minchat.chat"), "{wrong}");
}
