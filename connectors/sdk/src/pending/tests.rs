//! Requests and answers in every order, alone and at random.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::Kind;
use crate::session::Action;
use crate::websocket::Frame;

const WINDOW: Duration = Duration::from_secs(5);
const ORDERS: [Order; 3] = [Order::ById, Order::Serial, Order::InOrder];

type Requests = Pending<String, u64, Frame>;

/// A pending table with its outbox. A request's context is the number of its command.
struct Fixture {
    pending: Requests,
    out: Outbox<Frame>,
}

impl Fixture {
    fn new(order: Order) -> Self {
        let pending = Pending::new(order).late_window(WINDOW);
        Self { pending, out: Outbox::new(Instant::now()) }
    }

    fn send_until(&mut self, id: u64, key: &str, deadline: Instant) -> Result<()> {
        let command = Command {
            id: CommandId(id),
            operation: "call",
            argument: None,
            body: RawValue::NULL.to_owned(),
            headers: Vec::new(),
            deadline,
            stream: false,
        };
        self.pending.send(&command, key.to_owned(), id, Frame::text(format!("request {id}")), &mut self.out)
    }

    fn send(&mut self, id: u64, key: &str) -> Result<()> {
        self.send_until(id, key, self.out.now() + Duration::from_secs(3_600))
    }

    /// The commands whose frames were sent since the last call.
    fn sent(&mut self) -> Vec<u64> {
        let ids = self.out.drain().map(|action| match action {
            Action::Send(frame, Some(CommandId(id))) if frame == Frame::text(format!("request {id}")) => id,
            other => panic!("{other:?}"),
        });
        ids.collect()
    }

    fn answered(&mut self, key: &str) -> Option<(Option<u64>, u64)> {
        let answered = self.pending.answered(key, &mut self.out)?;
        Some((answered.command.map(|command| command.0), answered.context))
    }

    fn abandoned(&mut self, id: u64, sent: bool) {
        self.pending.abandoned(CommandId(id), sent, &mut self.out);
    }

    fn pass(&mut self, time: Duration) -> bool {
        self.out.advance(self.out.now() + time);
        self.out.take_due() && self.pending.expire(&mut self.out)
    }

    fn assert_empty(&self) {
        let pending = &self.pending;
        assert!(pending.lanes.is_empty() && pending.callers.is_empty() && pending.holds.is_empty());
        assert_eq!(pending.waiting_bytes, 0);
    }
}

#[test]
fn serial_requests_of_a_key_wait_for_their_turn() {
    let mut fixture = Fixture::new(Order::Serial);
    for id in 1..=3 {
        fixture.send(id, "a").unwrap();
    }
    fixture.send(4, "b").unwrap();
    assert_eq!(fixture.sent(), [1, 4]);
    assert!(!fixture.pending.is_free("a") && fixture.pending.is_free("c"));
    assert_eq!(fixture.answered("c"), None);
    assert_eq!(fixture.answered("a"), Some((Some(1), 1)));
    assert_eq!(fixture.sent(), [2]);
    fixture.abandoned(3, false);
    assert_eq!(fixture.answered("a"), Some((Some(2), 2)));
    assert_eq!(fixture.answered("a"), None);
    assert_eq!(fixture.answered("b"), Some((Some(4), 4)));
    assert!(fixture.sent().is_empty());
    fixture.assert_empty();
}

#[test]
fn a_late_answer_goes_to_the_hold_and_then_the_next_request_is_sent() {
    for order in [Order::Serial, Order::InOrder] {
        let mut fixture = Fixture::new(order);
        fixture.send(1, "a").unwrap();
        fixture.abandoned(1, true);
        fixture.send(2, "a").unwrap();
        assert_eq!(fixture.sent(), [1]);
        assert_eq!(fixture.answered("a"), Some((None, 1)));
        assert_eq!(fixture.sent(), [2]);
        assert_eq!(fixture.answered("a"), Some((Some(2), 2)));
        fixture.assert_empty();
    }
}

#[test]
fn a_hold_ends_with_the_late_window_which_begins_again_with_each_part() {
    for order in ORDERS {
        let mut fixture = Fixture::new(order);
        fixture.send(1, "a").unwrap();
        let part = fixture.pending.part("a", &mut fixture.out);
        assert_eq!(part, Some(Answered { command: Some(CommandId(1)), context: &1 }));
        assert_eq!(fixture.out.wake(), None);
        fixture.abandoned(1, true);
        assert!(!fixture.pass(WINDOW - Duration::from_millis(1)));
        let part = fixture.pending.part("a", &mut fixture.out);
        assert_eq!(part, Some(Answered { command: None, context: &1 }));
        assert!(!fixture.pass(WINDOW - Duration::from_millis(1)));
        assert!(fixture.pass(Duration::from_millis(1)));
        assert_eq!(fixture.answered("a"), None);
        fixture.assert_empty();
    }
}

#[test]
fn without_a_window_a_hold_lasts() {
    let mut fixture = Fixture::new(Order::Serial);
    fixture.pending = Pending::new(Order::Serial);
    fixture.send(1, "a").unwrap();
    fixture.abandoned(1, true);
    assert_eq!(fixture.out.wake(), None);
    fixture.out.advance(fixture.out.now() + Duration::from_secs(1 << 30));
    assert!(!fixture.pending.expire(&mut fixture.out));
    assert_eq!(fixture.answered("a"), Some((None, 1)));
}

#[test]
fn a_request_that_was_never_written_leaves_no_hold() {
    for order in ORDERS {
        let mut fixture = Fixture::new(order);
        fixture.send(1, "a").unwrap();
        fixture.abandoned(1, false);
        fixture.assert_empty();
        fixture.send(2, "a").unwrap();
        assert_eq!(fixture.sent(), [1, 2]);
        assert_eq!(fixture.answered("a"), Some((Some(2), 2)));
    }
}

#[test]
fn a_request_that_waited_past_its_deadline_is_not_sent() {
    let mut fixture = Fixture::new(Order::Serial);
    fixture.send(1, "a").unwrap();
    fixture.send_until(2, "a", fixture.out.now() + WINDOW).unwrap();
    fixture.send(3, "a").unwrap();
    fixture.pass(WINDOW);
    assert_eq!(fixture.answered("a"), Some((Some(1), 1)));
    assert_eq!(fixture.sent(), [1, 3]);
    assert_eq!(fixture.answered("a"), Some((Some(3), 3)));
    fixture.assert_empty();
}

#[test]
fn requests_in_order_are_answered_in_order_around_a_hold() {
    let mut fixture = Fixture::new(Order::InOrder);
    for id in 1..=3 {
        fixture.send(id, "a").unwrap();
    }
    assert_eq!(fixture.sent(), [1, 2, 3]);
    fixture.abandoned(2, true);
    fixture.send(4, "a").unwrap();
    // The answer to the second is due only after that to the first.
    assert!(!fixture.pass(WINDOW * 4));
    assert_eq!(fixture.answered("a"), Some((Some(1), 1)));
    assert!(!fixture.pass(WINDOW - Duration::from_millis(1)));
    assert!(fixture.sent().is_empty());
    assert_eq!(fixture.answered("a"), Some((None, 2)));
    assert_eq!(fixture.sent(), [4]);
    assert_eq!(fixture.answered("a"), Some((Some(3), 3)));
    assert_eq!(fixture.answered("a"), Some((Some(4), 4)));
    fixture.assert_empty();
}

#[test]
fn several_holds_in_order_end_together() {
    let mut fixture = Fixture::new(Order::InOrder);
    for id in 1..=3 {
        fixture.send(id, "a").unwrap();
    }
    for id in 1..=3 {
        fixture.abandoned(id, true);
    }
    fixture.send(4, "a").unwrap();
    assert!(fixture.pass(WINDOW));
    assert_eq!(fixture.sent(), [1, 2, 3, 4]);
    assert_eq!(fixture.answered("a"), Some((Some(4), 4)));
    fixture.assert_empty();
}

#[test]
fn unique_requests_are_answered_in_any_order_and_late_ones_are_known() {
    let mut fixture = Fixture::new(Order::ById);
    for (id, key) in [(1, "a"), (2, "b"), (3, "c")] {
        fixture.send(id, key).unwrap();
    }
    let error = fixture.send(4, "a").unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Rejected, Code::TooMany));
    assert_eq!(fixture.sent(), [1, 2, 3]);
    fixture.abandoned(1, true);
    assert_eq!(fixture.answered("c"), Some((Some(3), 3)));
    assert_eq!(fixture.answered("a"), Some((None, 1)));
    assert_eq!(fixture.answered("a"), None);
    assert_eq!(fixture.answered("b"), Some((Some(2), 2)));
    fixture.assert_empty();
}

#[test]
fn the_oldest_unique_hold_is_forgotten_when_there_are_too_many() {
    let mut fixture = Fixture::new(Order::ById);
    fixture.pending = Pending::new(Order::ById).max_requests(1, "max_calls");
    for id in 0..5_000 {
        fixture.send(id, &id.to_string()).unwrap();
        fixture.abandoned(id, true);
    }
    let pending = &fixture.pending;
    assert_eq!((pending.holds.len(), pending.lanes.len()), (MAX_ID_HOLDS, MAX_ID_HOLDS));
    assert_eq!(fixture.answered("4999"), Some((None, 4_999)));
    assert_eq!(fixture.answered("3000"), None);
}

#[test]
fn an_error_without_a_key_is_certain_only_where_one_request_is_unanswered() {
    let mut fixture = Fixture::new(Order::Serial);
    assert_eq!(fixture.pending.oldest(&mut fixture.out), None);
    fixture.send(1, "b").unwrap();
    fixture.send(2, "a").unwrap();
    fixture.send(3, "a").unwrap();
    assert_eq!(
        fixture.pending.oldest(&mut fixture.out),
        Some(Answered { command: Some(CommandId(1)), context: None })
    );
    // The hold that it leaves may have been meant, too.
    assert_eq!(
        fixture.pending.oldest(&mut fixture.out),
        Some(Answered { command: Some(CommandId(2)), context: None })
    );
    assert_eq!(fixture.pending.oldest(&mut fixture.out), None);
    assert_eq!(fixture.answered("b"), Some((None, 1)));
    assert_eq!(fixture.answered("a"), Some((None, 2)));
    assert_eq!(fixture.sent(), [1, 2, 3]);
    let only = Answered { command: Some(CommandId(3)), context: Some(3) };
    assert_eq!(fixture.pending.oldest(&mut fixture.out), Some(only));
    fixture.assert_empty();
}

#[test]
fn requests_are_bounded_in_count_with_their_holds() {
    for order in [Order::Serial, Order::InOrder] {
        let mut fixture = Fixture::new(order);
        fixture.pending = Pending::new(order).late_window(WINDOW).max_requests(2, "max_calls");
        fixture.send(1, "a").unwrap();
        fixture.send(2, "a").unwrap();
        let error = fixture.send(3, "b").unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::Rejected, Code::TooMany));
        assert!(error.message().contains("(max_calls)"), "{error}");
        fixture.abandoned(2, false);
        fixture.abandoned(1, true);
        fixture.send(4, "b").unwrap();
        assert!(fixture.send(5, "c").is_err());
        assert!(fixture.pass(WINDOW));
        fixture.send(6, "c").unwrap();
    }
}

#[test]
fn requests_that_wait_are_bounded_in_bytes() {
    let mut fixture = Fixture::new(Order::Serial);
    fixture.pending = Pending::new(Order::Serial).max_waiting_bytes(20, "max_queue_bytes");
    // "request 1" has nine bytes; those that need not wait do not count.
    for (id, key) in [(1, "a"), (2, "a"), (3, "a"), (4, "b")] {
        fixture.send(id, key).unwrap();
    }
    let error = fixture.send(5, "a").unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Rejected, Code::TooMany));
    assert!(error.message().contains("18 bytes") && error.message().contains("(max_queue_bytes)"), "{error}");
    fixture.answered("a");
    fixture.send(6, "a").unwrap();
}

/// A request as the service sees it.
struct Received {
    id: u64,
    key: String,
    /// Whether its frame was written: the service knows of it.
    written: bool,
    /// When its caller was abandoned.
    abandoned: Option<Instant>,
}

/// A service that keeps to what an order needs of it, and the commands that the daemon knows of.
struct Service {
    order: Order,
    fixture: Fixture,
    /// Those that were sent and not answered, in the order in which they were sent.
    received: Vec<Received>,
    /// The deadline of each command, and its key.
    commands: HashMap<u64, (Instant, String)>,
    /// Commands whose callers wait.
    callers: Vec<u64>,
    next: u64,
}

impl Service {
    fn new(order: Order) -> Self {
        let fixture = Fixture::new(order);
        let (received, callers) = (Vec::new(), Vec::new());
        Self { order, fixture, received, commands: HashMap::new(), callers, next: 0 }
    }

    fn now(&self) -> Instant {
        self.fixture.out.now()
    }

    /// Takes note of the frames that were sent.
    fn collect(&mut self) {
        for id in self.fixture.sent() {
            let (deadline, key) = self.commands[&id].clone();
            assert!(deadline > self.now(), "request {id} was sent after its deadline");
            assert!(self.callers.contains(&id), "request {id} was sent after it was abandoned");
            self.received.push(Received { id, key, written: false, abandoned: None });
        }
    }

    fn send(&mut self, choice: usize) {
        let id = self.next;
        self.next += 1;
        let key = if self.order == Order::ById { id.to_string() } else { (choice % 3).to_string() };
        let patience = if choice.is_multiple_of(4) { WINDOW } else { WINDOW * 1_000 };
        let deadline = self.now() + patience;
        self.commands.insert(id, (deadline, key.clone()));
        self.callers.push(id);
        self.fixture.send_until(id, &key, deadline).unwrap();
    }

    fn write(&mut self) {
        if let Some(first) = self.received.iter_mut().find(|request| !request.written) {
            first.written = true;
        }
    }

    /// The places of those that the service may answer now.
    fn answerable(&self) -> Vec<usize> {
        let open = |place: &usize| {
            let request = &self.received[*place];
            let first = self.received.iter().find(|other| other.key == request.key).map(|first| first.id);
            let in_time = request.abandoned.is_none_or(|at| self.now() < at + WINDOW);
            request.written && in_time && (self.order != Order::InOrder || first == Some(request.id))
        };
        (0..self.received.len()).filter(open).collect()
    }

    fn pick(&self, choice: usize) -> Option<usize> {
        let answerable = self.answerable();
        answerable.get(choice % answerable.len().max(1)).copied()
    }

    /// The answer reaches the caller of its request, or, if that was abandoned, the hold: nothing else.
    fn answer(&mut self, place: usize) {
        let request = self.received.remove(place);
        let caller = request.abandoned.is_none().then_some(request.id);
        assert_eq!(self.fixture.answered(&request.key), Some((caller, request.id)));
        self.callers.retain(|id| *id != request.id);
    }

    /// An error without a key reaches the caller of its request, or no caller is told that it is certain.
    fn error(&mut self, place: usize) {
        if self.order == Order::InOrder && self.received.len() > 1 {
            return;
        }
        let request = self.received.remove(place);
        match self.fixture.pending.oldest(&mut self.fixture.out) {
            Some(Answered { command, context: Some(context) }) => {
                assert_eq!(command, request.abandoned.is_none().then_some(CommandId(request.id)));
                assert_eq!(context, request.id);
                self.callers.retain(|id| *id != request.id);
            }
            Some(Answered { command, context: None }) => {
                let CommandId(id) = command.unwrap();
                self.callers.retain(|caller| *caller != id);
                self.note_abandoned(id);
            }
            None => assert!(request.abandoned.is_some()),
        }
    }

    fn note_abandoned(&mut self, id: u64) {
        let now = self.now();
        if let Some(request) = self.received.iter_mut().find(|request| request.id == id) {
            request.abandoned = Some(now);
        }
    }

    fn abandon(&mut self, choice: usize) {
        if self.callers.is_empty() {
            return;
        }
        let id = self.callers.swap_remove(choice % self.callers.len());
        let written = self.received.iter().any(|request| request.id == id && request.written);
        if written {
            self.note_abandoned(id);
        } else {
            self.received.retain(|request| request.id != id);
        }
        self.fixture.abandoned(id, written);
    }

    /// The service never answers one: it need not, unless answers are told apart by their order.
    fn lose(&mut self, choice: usize) {
        if let Some(place) = self.pick(choice) {
            let alone = self.received.len() == 1 && self.received[place].abandoned.is_some();
            if self.order != Order::InOrder || alone {
                self.received.remove(place);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let then = self.now() + time;
        // In order, every answer comes within the window.
        let is_due = |request: &Received| request.abandoned.is_some_and(|at| at + WINDOW <= then);
        while self.order == Order::InOrder
            && let Some(due) = self.received.iter().find(|request| is_due(request))
        {
            let first = self.received.iter().position(|request| request.key == due.key).unwrap();
            // It was written before the one behind it that was abandoned.
            self.answer(first);
            self.collect();
        }
        self.fixture.pass(time);
    }

    fn step(&mut self, kind: u8, choice: usize) {
        match kind {
            0..=2 => self.send(choice),
            3 | 4 => self.write(),
            5 | 6 => self.pick(choice).into_iter().for_each(|place| self.answer(place)),
            7 => self.abandon(choice),
            8 => self.lose(choice),
            9 => self.pick(choice).into_iter().for_each(|place| self.error(place)),
            _ => self.pass(WINDOW * u32::try_from(choice % 5).unwrap() / 3),
        }
        self.collect();
    }
}

proptest! {
    /// Whatever happens, an answer reaches no caller but the one whose request it answers; and when all callers are gone
    /// and all windows have passed, nothing is left.
    #[test]
    fn no_caller_gets_the_answer_to_another_request(
        order in 0..3_usize,
        steps in prop::collection::vec((0..11_u8, any::<u16>()), 0..200),
    ) {
        let mut service = Service::new(ORDERS[order]);
        for (kind, choice) in steps {
            service.step(kind, usize::from(choice));
        }
        while !service.callers.is_empty() {
            service.abandon(0);
            service.collect();
        }
        for _ in 0..3 {
            service.pass(WINDOW);
            service.collect();
        }
        service.fixture.assert_empty();
    }
}
