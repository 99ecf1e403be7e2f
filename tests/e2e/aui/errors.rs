//! Errors that the service sends, as a message or as a close code: the caller gets them, and the task can be used again.

use pontoon_testkit::AuiAnswer;

use super::*;
use crate::support::{listen, next};

#[tokio::test]
async fn an_error_is_the_callers_and_the_next_request_works_over_a_new_connection() {
    let network = Network::start("").await;
    let mut errors = listen(&network.client, "pontoon.event.aui.agents.error.raised.>").await;
    let started = AuiAnswer::default().updates(2);
    let ask = async |task: &str, text: &str| network.send(task, text, &[]).await.answer().await;
    // That the key is good is known once it has answered.
    assert_eq!(ask("t0", "hello").await.1.verdict(), ("response", None));
    for (number, (answer, verdict, words, code)) in [
        (AuiAnswer::default().fails(404, "no such task"), "failed", "Not found: no such task (404)", "404"),
        (started.clone().fails(422, "too long"), "failed", "Validation error: too long (422)", "422"),
        (started.clone().fails(500, "it broke"), "failed", "Internal server error: it broke (500)", "500"),
        (AuiAnswer::default().closes(1008), "unknown", "code 1008", "1008"),
        (AuiAnswer::default().closes(1011), "unknown", "code 1011", "1011"),
        (started.clone().closes(1011), "unknown", "code 1011", "1011"),
    ]
    .into_iter()
    .enumerate()
    {
        let task = format!("t{}", number + 1);
        network.service.answers_in(&task, answer);
        let (parts, last) = ask(&task, "a question").await;
        assert_eq!(last.verdict(), (verdict, Some("502")), "{task}: {}", last.message());
        assert!(last.message().contains(words), "{task}: {}", last.message());
        assert!("a question".starts_with(&whole(&parts)));
        let (_, event) = next(&mut errors, |_, _| true).await;
        assert_eq!((&event["channel"], &event["error"]["code"]), (&json!(task), &json!(code)), "{event}");

        network.service.answers_in(&task, AuiAnswer::default());
        let (_, last) = ask(&task, "another").await;
        assert_eq!((last.verdict(), &last.body["data"]["text"]), (("response", None), &json!("another")));
        let turns: Vec<_> = network.service.turns().into_iter().filter(|turn| turn.task == task).collect();
        assert_eq!(turns.iter().map(|turn| &*turn.text).collect::<Vec<_>>(), ["a question", "another"]);
        assert!(turns[0].connection < turns[1].connection);
    }
}
