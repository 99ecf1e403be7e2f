use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;
use crate::{Listener, eventually};

const DEADLINE: Duration = Duration::from_secs(10);

type Client = WebSocketStream<TcpStream>;

async fn dial(sub0: &Sub0, query: &str, subprotocols: &str) -> Result<Client, Error> {
    let stream = TcpStream::connect(sub0.address()).await.unwrap();
    let mut request = format!("{}{query}", sub0.url()).into_client_request().unwrap();
    if !subprotocols.is_empty() {
        let value = HeaderValue::from_str(subprotocols).unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", value);
    }
    timeout(DEADLINE, client_async(request, stream)).await.unwrap().map(|(client, _)| client)
}

async fn ask(client: &mut Client, resource: &str, action: &str, payload: Value) {
    let call = json!({"resource": resource, "action": action, "payload": payload});
    client.send(Message::text(call.to_string())).await.unwrap();
}

async fn hear(client: &mut Client) -> Message {
    timeout(DEADLINE, client.next()).await.unwrap().unwrap().unwrap()
}

async fn hear_json(client: &mut Client) -> Value {
    serde_json::from_str(hear(client).await.to_text().unwrap()).unwrap()
}

fn status(refused: Result<Client, Error>) -> (u16, Option<String>) {
    match refused {
        Err(Error::Http(response)) => {
            let after = response.headers().get("Retry-After").map(|value| value.to_str().unwrap().to_owned());
            (response.status().as_u16(), after)
        }
        other => panic!("this is no refusal: {:?}", other.map(|_| "a connection")),
    }
}

#[tokio::test]
async fn a_call_is_answered_with_its_action_and_the_uid() {
    let sub0 = Sub0::start().await;
    let mut client = dial(&sub0, "?uid=u%201", "").await.unwrap();
    ask(&mut client, "r", "a#1", json!({"x": 1, "id": "mine"})).await;
    let told = json!({"uid": "u 1", "action": "a#1", "data": {"x": 1, "id": "u 1"}});
    assert_eq!(hear_json(&mut client).await, told);
    ask(&mut client, "r", "b", json!([1])).await;
    assert_eq!(hear_json(&mut client).await["data"], json!([1]));
    assert_eq!(sub0.calls("r").len(), 2);
    let mut nobody = dial(&sub0, "", "").await.unwrap();
    ask(&mut nobody, "r", "c", json!({})).await;
    assert_eq!(hear_json(&mut nobody).await, json!({"uid": null, "action": "c", "data": {}}));
}

#[tokio::test]
async fn resources_do_what_they_are_told() {
    let sub0 = Sub0::start().await;
    let mut client = dial(&sub0, "?uid=u1", "").await.unwrap();
    sub0.resource("list", Resource::data(json!([{"n": 1}])).twice());
    ask(&mut client, "list", "l", json!({})).await;
    assert_eq!(hear_json(&mut client).await, hear_json(&mut client).await);
    sub0.resource("late", Resource::echo().after(Duration::from_millis(20)));
    sub0.resource("never", Resource::nothing());
    sub0.resource("text", Resource::new(Answer::Text("pong".into())));
    ask(&mut client, "late", "late", json!({})).await;
    ask(&mut client, "never", "never", json!({})).await;
    ask(&mut client, "text", "text", json!({})).await;
    // Whichever comes first: only that both come is promised.
    let heard = [hear(&mut client).await, hear(&mut client).await].map(|message| message.to_string());
    assert!(heard.contains(&"pong".to_owned()), "{heard:?}");
    assert!(heard.iter().any(|text| text.contains("late")), "{heard:?}");
    for shape in [ErrorShape::Message, ErrorShape::Error, ErrorShape::ErrorObject, ErrorShape::Anonymous] {
        sub0.resource("bad", Resource::error(shape, "no such row"));
        ask(&mut client, "bad", "b", json!({})).await;
        let frame = hear_json(&mut client).await;
        assert!(frame.get("data").is_none() && frame.to_string().contains("no such row"), "{frame}");
    }
}

#[tokio::test]
async fn broadcasts_reach_their_audience_and_the_caller_too() {
    let sub0 = Sub0::start().await;
    let mut one = dial(&sub0, "?uid=one", "").await.unwrap();
    let mut two = dial(&sub0, "?uid=two", "").await.unwrap();
    sub0.connected(2, DEADLINE).await;
    sub0.broadcast_to(&Audience::Single("two".into()), "only", &json!(2));
    sub0.broadcast_to(&Audience::Bulk(vec!["one".into(), "two".into()]), "some", &json!(12));
    sub0.broadcast("all", &json!(0));
    for (client, actions) in [(&mut one, &["some", "all"][..]), (&mut two, &["only", "some", "all"][..])] {
        for action in actions {
            assert_eq!(hear_json(client).await["action"], *action);
        }
    }
    sub0.resource("pay", Resource::echo().broadcasts(Audience::All, "paid", json!({"n": 1})));
    ask(&mut one, "pay", "pay", json!({})).await;
    assert_eq!(hear_json(&mut one).await["action"], "paid");
    assert_eq!(hear_json(&mut one).await["action"], "pay");
    assert_eq!(hear_json(&mut two).await, json!({"uid": "two", "action": "paid", "data": {"n": 1}}));
}

#[tokio::test]
async fn clients_are_judged_at_the_door() {
    let sub0 = Sub0::start().await;
    sub0.refuse(Refusal::status(429).header("Retry-After", "3"));
    assert_eq!(status(dial(&sub0, "", "").await), (429, Some("3".to_owned())));
    sub0.refuse(Refusal::status(301).header("Location", "http://127.0.0.1:1/ws"));
    assert_eq!(status(dial(&sub0, "", "").await).0, 301);
    sub0.authorize();
    sub0.force_uid(true);
    assert_eq!(status(dial(&sub0, "", "").await).0, 400);
    sub0.force_uid(false);
    sub0.require_token("x-access-token", "abc");
    assert_eq!(status(dial(&sub0, "", "").await).0, 401);
    assert_eq!(status(dial(&sub0, "", "x-access-token, xyz").await).0, 401);
    dial(&sub0, "", "x-access-token, abc").await.unwrap();
    sub0.echo_subprotocol(SubprotocolEcho::Token);
    dial(&sub0, "", "x-access-token, abc").await.unwrap();
    sub0.echo_subprotocol(SubprotocolEcho::None);
    assert!(matches!(dial(&sub0, "", "x-access-token, abc").await, Err(Error::Protocol(_))));
    sub0.listener(Listener::Slam);
    assert!(dial(&sub0, "", "").await.is_err());
    assert_eq!((sub0.dials().len(), sub0.requests().len(), sub0.upgrades()), (9, 8, 3));
}

#[tokio::test]
async fn connections_end_in_the_way_that_is_chosen() {
    let sub0 = Sub0::start().await;
    let mut client = dial(&sub0, "", "").await.unwrap();
    sub0.connected(1, DEADLINE).await;
    sub0.send_text("last words");
    sub0.close(1012, "restart");
    assert_eq!(hear(&mut client).await, Message::text("last words"));
    let Message::Close(Some(frame)) = hear(&mut client).await else { panic!("it closes") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1012, "restart"));
    assert!(timeout(DEADLINE, client.next()).await.unwrap().is_none());
    sub0.connected(0, DEADLINE).await;

    let mut client = dial(&sub0, "", "").await.unwrap();
    sub0.connected(1, DEADLINE).await;
    sub0.cut();
    let error = timeout(DEADLINE, client.next()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(&error, Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionReset), "{error:?}");

    let mut client = dial(&sub0, "", "").await.unwrap();
    client.close(None).await.unwrap();
    assert!(matches!(hear(&mut client).await, Message::Close(_)));
    sub0.connected(0, DEADLINE).await;

    sub0.stop_listening().await;
    assert!(TcpStream::connect(sub0.address()).await.is_err());
    sub0.listen_again().await;
    dial(&sub0, "", "").await.unwrap();
}

#[tokio::test]
async fn a_frozen_server_keeps_its_sockets_and_says_nothing() {
    let sub0 = Sub0::start().await;
    let mut client = dial(&sub0, "", "").await.unwrap();
    sub0.connected(1, DEADLINE).await;
    sub0.freeze();
    ask(&mut client, "r", "a", json!({})).await;
    sub0.broadcast("b", &json!(1));
    assert!(timeout(Duration::from_millis(50), client.next()).await.is_err());
    assert!(sub0.received().is_empty());
    sub0.thaw();
    assert_eq!(hear_json(&mut client).await["action"], "b");
    assert_eq!(hear_json(&mut client).await["action"], "a");
}

#[tokio::test]
async fn a_blast_arrives_whole_and_in_order_while_calls_go_on() {
    const COUNT: usize = 100_000;
    let sub0 = Sub0::start().await;
    let mut client = dial(&sub0, "", "").await.unwrap();
    sub0.connected(1, DEADLINE).await;
    let blast = sub0.blast(COUNT, |n| format!(r#"{{"uid":null,"action":"n","data":{n}}}"#));
    let read = async {
        // Whoever is blasted can still be heard.
        ask(&mut client, "r", "asked", json!({})).await;
        eventually(DEADLINE, async || sub0.calls("r").len() == 1).await;
        let mut next = 0;
        let mut answered = false;
        while next < COUNT || !answered {
            let frame = hear_json(&mut client).await;
            if frame["action"] == "asked" {
                answered = true;
            } else {
                assert_eq!(frame["data"], next);
                next += 1;
            }
        }
    };
    let (written, ()) = timeout(DEADLINE * 3, async { tokio::join!(blast, read) }).await.unwrap();
    assert_eq!(written, 1);
    client.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(hear(&mut client).await, Message::Pong("p".into()));
}
