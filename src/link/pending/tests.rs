//! Callers who are sent parts, and those who are gone: without NATS, and with the time given.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pontoon_sdk::{Command, CommandId, DeliveryLevel, End, Error, Reply};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use super::*;
use crate::metrics::InstanceMetrics;
use crate::reply::idempotency::{Entry, Fingerprint, Keys};
use crate::reply::liveness::GRACE;
use crate::reply::{Outgoing, ReplyReceiver, ReplySender, Stats, test_caller};
use crate::settings::Commands;

/// Commands that may be under way.
const PERMITS: usize = 16;
const OPERATION: &str = "message";

/// The callers of one connection, and what has left for the bus.
struct Fixture {
    replies: PendingCommands,
    sender: ReplySender,
    outgoing: ReplyReceiver,
    metrics: Arc<InstanceMetrics>,
    stats: Rc<Stats>,
    permits: Arc<Semaphore>,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let (sender, outgoing) = ReplySender::new(PERMITS);
        Self {
            replies: PendingCommands::default(),
            sender,
            outgoing,
            metrics: Arc::new(InstanceMetrics::new("desk", "test", &[OPERATION])),
            stats: Rc::default(),
            permits: Arc::new(Semaphore::new(PERMITS)),
            now: Instant::now(),
        }
    }

    fn caller(&self, number: u64) -> Caller {
        let mut caller = test_caller(&self.sender, number);
        (caller.metrics, caller.stats) = (self.metrics.clone(), self.stats.clone());
        caller.permit = self.permits.clone().try_acquire_owned().ok().map(Arc::new);
        caller
    }

    fn begin(&mut self, caller: Caller, number: u64, stream: bool) -> CommandId {
        let id = CommandId(number);
        let command = Command {
            id,
            operation: OPERATION,
            argument: None,
            body: raw("{}"),
            headers: Vec::new(),
            deadline: self.now + Duration::from_secs(60),
            stream,
        };
        self.replies.begin(&command, caller, DeliveryLevel::Response);
        self.replies.accepted(id);
        id
    }

    /// A caller who asks for parts, and whose command was written.
    fn streamed(&mut self, number: u64) -> CommandId {
        let command = self.begin(self.caller(number), number, true);
        self.replies.written(command);
        command
    }

    fn part(&mut self, command: CommandId, index: usize) {
        self.replies.reply(command, Reply::Part(raw(&index.to_string())));
    }

    fn response(&mut self, command: CommandId) {
        self.replies.reply(command, Reply::Response(raw("\"all\"")));
    }

    /// All that has left: to whom, what, with which data.
    fn sent(&mut self) -> Vec<(String, &'static str, Value)> {
        self.take().into_iter().map(|(to, status, data, _)| (to, status, data)).collect()
    }

    fn take(&mut self) -> Vec<(String, &'static str, Value, Option<String>)> {
        let mut all = Vec::new();
        while let Some(Outgoing { subject, answer, part, .. }) = self.outgoing.try_next() {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(
                (part.is_some(), body["status"].as_str()),
                (answer.outcome.is_none(), Some(answer.status()))
            );
            all.push((
                subject,
                answer.status(),
                body["data"].clone(),
                part.map(|part| format!("{}.{}", part.secret, part.number)),
            ));
        }
        all
    }

    /// A part is published, and there is no responder. Returns what that ends.
    fn part_without_responder(&mut self, command: CommandId, after: Duration) -> Option<(CommandId, bool)> {
        self.part(command, 0);
        let (.., name) = self.take().pop().unwrap();
        self.no_responder(&name.unwrap(), after)
    }

    fn no_responder(&mut self, name: &str, after: Duration) -> Option<(CommandId, bool)> {
        self.sender.liveness().no_responders(name, self.now + after);
        let gone = self.replies.gone.as_mut()?.1.try_recv().ok()?;
        self.replies.dismiss(gone).map(|sent| (gone, sent))
    }

    fn counted(&self) -> (u64, u64) {
        let figures = self.stats.figures(OPERATION);
        (figures.requests, figures.errors)
    }

    fn is_clean(&self) -> bool {
        self.sender.liveness().len() == 0 && self.permits.available_permits() == PERMITS
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

#[test]
fn parts_come_in_order_and_then_one_last_word() {
    let mut fixture = Fixture::new();
    let command = fixture.streamed(1);
    (0..3).for_each(|index| fixture.part(command, index));
    fixture.response(command);
    fixture.part(command, 3);
    fixture.response(command);
    let statuses: Vec<_> = fixture.sent().into_iter().map(|(_, status, data)| (status, data)).collect();
    let part = |index: u64| ("part", Value::from(index));
    assert_eq!(statuses, [part(0), part(1), part(2), ("response", "all".into())]);
    assert_eq!(fixture.counted(), (1, 0));
    assert!(fixture.is_clean());
}

#[test]
fn whoever_did_not_ask_for_parts_gets_none() {
    let mut fixture = Fixture::new();
    let command = fixture.begin(fixture.caller(1), 1, false);
    fixture.part(command, 0);
    fixture.response(command);
    assert_eq!(fixture.sent().len(), 1);
}

#[test]
fn a_caller_who_has_heard_what_it_waited_for_gets_no_parts() {
    let mut fixture = Fixture::new();
    let mut caller = fixture.caller(1);
    caller.wait = DeliveryLevel::Sent;
    let command = fixture.begin(caller, 1, true);
    fixture.part(command, 0);
    let early = fixture.take();
    fixture.replies.written(command);
    fixture.part(command, 1);
    assert_eq!(fixture.sent(), [("_INBOX.1".to_owned(), "sent", Value::Null)]);
    // It is not given up for not listening any more.
    assert_eq!(fixture.no_responder(early[0].3.as_deref().unwrap(), GRACE), None);
    assert_eq!(fixture.permits.available_permits(), 15);
    fixture.response(command);
    assert!(fixture.sent().is_empty() && fixture.is_clean());
}

#[test]
fn a_caller_who_is_gone_is_given_up_once() {
    let mut fixture = Fixture::new();
    let command = fixture.streamed(1);
    let other = fixture.streamed(2);
    assert_eq!(fixture.part_without_responder(command, Duration::ZERO), None);
    assert_eq!(fixture.part_without_responder(command, GRACE / 2), None);
    assert_eq!(fixture.part_without_responder(command, GRACE), Some((command, true)));
    fixture.part(command, 1);
    fixture.response(command);
    assert_eq!(fixture.sent(), [("_INBOX.1".to_owned(), "unknown", Value::Null)]);
    assert_eq!(fixture.counted(), (1, 1));
    assert_eq!((fixture.permits.available_permits(), fixture.sender.liveness().len()), (15, 1));
    fixture.part(other, 0);
    fixture.response(other);
    assert_eq!(fixture.sent().len(), 2);
    assert!(fixture.is_clean() && fixture.replies.next_deadline().is_none());
}

#[test]
fn what_was_not_written_expires_with_its_caller() {
    let mut fixture = Fixture::new();
    let command = fixture.begin(fixture.caller(1), 1, true);
    assert_eq!(fixture.part_without_responder(command, Duration::ZERO), None);
    assert_eq!(fixture.part_without_responder(command, GRACE), Some((command, false)));
    assert_eq!(fixture.sent(), [("_INBOX.1".to_owned(), "expired", Value::Null)]);
}

#[test]
fn a_caller_who_comes_back_is_not_given_up() {
    let mut fixture = Fixture::new();
    let command = fixture.streamed(1);
    for round in 0..5 {
        assert_eq!(fixture.part_without_responder(command, GRACE * round), None, "{round}");
        // This one is received.
        fixture.part(command, 0);
    }
    fixture.response(command);
    assert_eq!(fixture.counted(), (1, 0));
}

#[test]
fn a_command_with_a_key_goes_on_without_parts() {
    let mut fixture = Fixture::new();
    let keys = Keys::new(&Commands::default(), None);
    let claim = |caller| keys.entry("key", Fingerprint::new("message", "{}", [].into_iter()), caller);
    let Entry::First(caller) = claim(fixture.caller(1)) else { panic!("not the first") };
    let command = fixture.begin(caller, 1, true);
    fixture.replies.written(command);
    assert!(matches!(claim(fixture.caller(2)), Entry::Joined));
    assert_eq!(fixture.part_without_responder(command, Duration::ZERO), None);
    assert_eq!(fixture.part_without_responder(command, GRACE), None);
    assert_eq!(fixture.sender.liveness().len(), 0);
    fixture.part(command, 1);
    assert!(fixture.sent().is_empty());
    fixture.response(command);
    let replied: Vec<_> = fixture.sent().into_iter().map(|(to, status, _)| (to, status)).collect();
    assert_eq!(replied, [("_INBOX.1".to_owned(), "response"), ("_INBOX.2".to_owned(), "response")]);
    assert_eq!(fixture.counted(), (2, 0));
}

#[test]
fn a_reply_keeps_its_place_until_it_has_left_and_carries_its_trace() {
    let mut fixture = Fixture::new();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut caller = fixture.caller(1);
    caller.traceparent = Some(trace.into());
    let command = fixture.begin(caller, 1, true);
    let mut event = Event::new(pontoon_sdk::EventType::MessageAccepted, pontoon_sdk::Raw::null());
    event.command = Some(command);
    fixture.part(command, 0);
    fixture.response(command);
    assert_eq!(fixture.permits.available_permits(), PERMITS - 1);
    for _ in 0..2 {
        let reply = fixture.outgoing.try_next().unwrap();
        assert_eq!(reply.traceparent.as_deref(), Some(trace));
    }
    assert!(fixture.is_clean());
    // What the command causes may come after its answer.
    fixture.replies.trace(&mut event);
    assert_eq!(event.traceparent.as_deref(), Some(trace));
}

#[test]
fn whoever_names_more_than_a_reply_can_say_is_refused() {
    let mut fixture = Fixture::new();
    for named in [true, false] {
        let mut caller = fixture.caller(1);
        caller.named_wait = named;
        let command = fixture.begin(caller, 1, false);
        assert_eq!(fixture.replies.lower(command, DeliveryLevel::Response), Ok(()));
        let lowered = fixture.replies.lower(command, DeliveryLevel::Sent);
        assert_eq!(lowered.is_err(), named);
        match lowered {
            Err(error) => assert!(!fixture.replies.unsent(command, &error)),
            Ok(()) => fixture.replies.written(command),
        }
        let (_, status, _) = fixture.sent().remove(0);
        assert_eq!(status, if named { "rejected" } else { "sent" });
    }
    assert!(fixture.is_clean());
}

#[test]
fn nobody_can_guess_whom_to_report() {
    let mut fixture = Fixture::new();
    let command = fixture.streamed(1);
    (0..3).for_each(|index| fixture.part(command, index));
    let name = fixture.take().pop().unwrap().3.unwrap();
    let secret = name.strip_suffix(".3").unwrap();
    let own = |tail: &str| format!("{secret}{tail}");
    let wrong = ["", ".", "1.1", "0000000000000001.1", "x.1"].map(str::to_owned);
    let tails = ["", ".1.1", ".0", ".4", ".18446744073709551615", ".99999999999999999999", ".2"].map(own);
    for name in wrong.iter().chain(&tails) {
        assert_eq!(fixture.no_responder(name, Duration::ZERO), None, "{name:?}");
        // The same again, and numbers that make no row, end nothing.
        assert_eq!(fixture.no_responder(name, GRACE * 2), None, "{name:?}");
    }
    assert_eq!(fixture.no_responder(&name, GRACE), Some((command, true)));
}

#[test]
fn parts_leave_room_for_last_words() {
    let mut fixture = Fixture::new();
    let commands: Vec<_> = (0..4).map(|number| fixture.streamed(number)).collect();
    for index in 0..1_000 {
        commands.iter().for_each(|command| fixture.part(*command, index));
    }
    commands.iter().for_each(|command| fixture.response(*command));
    let sent = fixture.sent();
    for number in 0..4 {
        let to = format!("_INBOX.{number}");
        let own: Vec<_> = sent.iter().filter(|(subject, ..)| *subject == to).collect();
        let (last, parts) = own.split_last().unwrap();
        assert_eq!(last.1, "response");
        assert!(parts.len() > 100 && parts.len() < 1_000);
        assert!(parts.iter().enumerate().all(|(index, (.., data))| *data == index));
    }
    // Once they have left, there is room again.
    let command = fixture.streamed(5);
    fixture.part(command, 0);
    assert_eq!(fixture.sent().len(), 1);
}

#[test]
fn parts_are_bounded_in_bytes() {
    let mut fixture = Fixture::new();
    let command = fixture.streamed(1);
    let large = format!("\"{}\"", "x".repeat(3 << 20));
    for _ in 0..10 {
        fixture.replies.reply(command, Reply::Part(raw(&large)));
    }
    assert_eq!(fixture.sent().len(), 2);
    let huge = format!("\"{}\"", "x".repeat(9 << 20));
    fixture.replies.reply(command, Reply::Part(raw(&huge)));
    assert_eq!(fixture.sent().len(), 1, "one alone may have more");
}

#[test]
fn nothing_more_is_read_while_parts_find_no_room_unless_none_leaves() {
    let mut fixture = Fixture::new();
    let (second, now) = (Duration::from_secs(1), fixture.now);
    let quiet = fixture.begin(fixture.caller(1), 1, false);
    assert!(fixture.replies.backpressure(now).is_none());
    let command = fixture.streamed(2);
    let mut index = 0;
    let mut fill = |fixture: &mut Fixture| {
        let first = index;
        while fixture.replies.backpressure(now).is_none() {
            fixture.part(command, index);
            index += 1;
        }
        index - first
    };
    let room = fill(&mut fixture);
    assert!(room > 500);
    // What leaves makes room, and nothing is lost.
    assert_eq!(fixture.sent().len(), room);
    let more = fill(&mut fixture);
    let sent = fixture.sent();
    assert!(more == room && sent.iter().enumerate().all(|(index, (.., data))| *data == room + index));
    // None leaves: it is given up for as long as that goes on.
    fill(&mut fixture);
    assert!(fixture.replies.backpressure(now + second / 2).is_some());
    assert!(
        fixture.replies.backpressure(now + second).is_none()
            && fixture.replies.backpressure(now + second * 9).is_none()
    );
    assert!(fixture.outgoing.try_next().is_some());
    fixture.part(command, 0);
    assert!(fixture.replies.backpressure(now + second * 10).is_some());
    assert!(fixture.replies.backpressure(now + second * 11).is_none());
    assert_eq!(fixture.sent().len(), room);
    assert!(fixture.replies.backpressure(now + second * 11).is_none());
    fill(&mut fixture);
    // A caller that was sent everything waits for no room.
    assert!(fixture.replies.backpressure(now).is_some());
    fixture.response(command);
    assert!(fixture.replies.backpressure(now).is_none());
    fixture.response(quiet);
}

#[test]
fn nothing_is_left_of_two_thousand_commands_however_they_end() {
    let mut fixture = Fixture::new();
    for number in 0..2_000 {
        let command = fixture.streamed(number);
        fixture.part(command, 0);
        match number % 7 {
            0 => fixture.response(command),
            1 => fixture.replies.reply(command, Reply::Unknown(Error::internal("x"))),
            2 => fixture.replies.refuse(command, &Error::internal("x")),
            3 => assert!(fixture.replies.unsent(command, &Error::internal("x"))),
            4 => assert_eq!(fixture.replies.expire(fixture.now + Duration::from_secs(60)), [(command, true)]),
            5 => drop(fixture.replies.disconnect(&End::disconnected("x"))),
            _ => {
                fixture.part_without_responder(command, Duration::ZERO);
                assert!(fixture.part_without_responder(command, GRACE).is_some());
            }
        }
        let last_replies = fixture.sent().iter().filter(|(_, status, _)| *status != "part").count();
        assert_eq!((last_replies, fixture.counted().0), (1, number + 1), "{number}");
        assert!(
            fixture.is_clean() && fixture.replies.waiting.is_empty() && fixture.replies.deadlines.is_empty()
        );
    }
    // What is forgotten with all its commands is forgotten, too.
    for number in 0..10 {
        fixture.streamed(number);
    }
    fixture.replies = PendingCommands::default();
    assert_eq!(fixture.sent().iter().filter(|(_, status, _)| *status == "unknown").count(), 10);
    assert!(fixture.is_clean());
}
