//! Links that are lost, and links that cannot be made: nothing is sent twice, and what waits goes out in order.

use std::collections::BTreeSet;

use pontoon_testkit::{AuiAnswer, eventually};

use super::*;
use crate::support::{listen, next};

#[tokio::test]
async fn what_is_cut_off_is_unknown_and_is_not_sent_again() {
    const TASKS: usize = 10;
    let network = Network::start("").await;
    let mut gaps = listen(&network.client, "pontoon.event.aui.agents.gap.detected.>").await;
    let started = AuiAnswer::default().updates(3);
    for (round, answer) in [started.clone().breaks(), started.clone().closes(1001)].into_iter().enumerate() {
        let task = |number: usize| format!("round {round} task {number}");
        network.service.answers(answer);
        let mut asked = Vec::new();
        for number in 0..TASKS {
            asked.push(network.send(&task(number), "a question", &[]).await.answer());
        }
        for (parts, last) in join_all(asked).await {
            assert_eq!(last.verdict(), ("unknown", Some("504")), "{}", last.message());
            assert!("a question".starts_with(&whole(&parts)));
        }
        // The answer may have been missed, which a gap reports.
        let mut missed = BTreeSet::new();
        while missed.len() < TASKS {
            let (message, body) = next(&mut gaps, |_, body| body["reason"] == "disconnected").await;
            let link = body["link"].as_str().unwrap().to_owned();
            assert!(link.starts_with(&format!("round {round} ")), "{}", message.subject);
            assert!(missed.insert(link), "{body}");
        }
        // The next request of a task is answered, over a new connection.
        network.service.answers(AuiAnswer::default());
        for number in 0..TASKS {
            let last = network.send(&task(number), "another", &[]).await.end().await;
            assert_eq!((last.verdict(), &last.body["data"]["text"]), (("response", None), &json!("another")));
        }
        for number in 0..TASKS {
            let turns = network.service.turns().into_iter().filter(|turn| turn.task == task(number));
            let (texts, connections): (Vec<_>, Vec<_>) =
                turns.map(|turn| (turn.text, turn.connection)).unzip();
            assert_eq!(texts, ["a question", "another"]);
            assert_ne!(connections[0], connections[1]);
        }
    }
}

#[tokio::test]
async fn requests_wait_in_order_for_a_service_that_is_away_and_expire_in_time() {
    let network = Network::start("").await;
    let soon = ("Pontoon-Timeout", "500ms");
    network.service.stop_listening().await;
    let first = network.send("t1", "1", &[]).await;
    let second = network.send("t1", "2", &[soon]).await;
    let third = network.send("t1", "3", &[]).await;
    network.state(|state| state["links"][0]["phase"] == "waiting").await;
    assert_eq!(second.end().await.verdict(), ("expired", Some("408")));
    network.service.listen_again().await;
    for request in [first, third] {
        assert_eq!(request.end().await.verdict(), ("response", None));
    }
    assert_eq!(network.taken(2).await, ["1", "3"]);

    // The same with one that is under way when the service goes.
    network.service.answers(AuiAnswer::default().falls_silent());
    let fourth = network.send("t1", "4", &[]).await;
    network.taken(3).await;
    let fifth = network.send("t1", "5", &[]).await;
    let sixth = network.send("t1", "6", &[]).await;
    network.service.stop_listening().await;
    network.service.cut();
    assert_eq!(fourth.end().await.verdict(), ("unknown", Some("504")));
    network.service.answers(AuiAnswer::default());
    network.service.listen_again().await;
    for request in [fifth, sixth] {
        assert_eq!(request.end().await.verdict(), ("response", None));
    }
    assert_eq!(network.taken(5).await[2..], ["4", "5", "6"]);

    // Once no caller waits any more, the link is given up.
    network.service.stop_listening().await;
    network.service.cut();
    network.state(|state| state["links"] == json!([])).await;
    assert_eq!(network.send("t1", "7", &[soon]).await.end().await.verdict(), ("expired", Some("408")));
    network.state(|state| state["links"] == json!([])).await;
    network.service.listen_again().await;
    assert_eq!(network.send("t1", "8", &[]).await.end().await.verdict(), ("response", None));
    assert_eq!(network.taken(6).await[5..], ["8"]);
}

#[tokio::test]
async fn a_task_goes_on_whatever_becomes_of_its_connections() {
    let network = Network::start("").await;
    let gone = async || {
        network.state(|state| state["links"] == json!([])).await;
        eventually(DEADLINE, async || network.service.connections().is_empty()).await;
    };
    let mut number = 0;
    let mut ask_next = async || {
        number += 1;
        let last = network.send("t1", &number.to_string(), &[]).await.end().await;
        assert_eq!(
            (last.verdict(), &last.body["data"]["text"]),
            (("response", None), &json!(number.to_string()))
        );
    };
    ask_next().await;
    ask_next().await;
    let reconnected = ask(&network.client, "pontoon.command.aui.agents.reconnect", "", &[]).await;
    assert_eq!(reconnected.verdict(), ("accepted", None));
    gone().await;
    ask_next().await;
    let ends: [fn(&Aui); 3] =
        [|service| service.cut(), |service| service.hang_up(), |service| service.close(1000, "idle")];
    for end in ends {
        end(&network.service);
        gone().await;
        ask_next().await;
    }
    let turns = network.service.turns();
    let connections: Vec<_> = turns.iter().map(|turn| turn.connection).collect();
    assert_eq!(connections, [0, 0, 1, 2, 3, 4]);
    assert!(turns.iter().all(|turn| turn.task == "t1"));
}
