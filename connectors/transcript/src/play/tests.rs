//! The player held to a small connector: it must find every difference, and nothing else.

use std::time::Duration;

use pontoon_sdk::Join;
use pontoon_sdk::command::{Command, CommandId, Reply};
use pontoon_sdk::error::Code;
use pontoon_sdk::websocket::{Endpoint, Frame, WebSocket};
use pontoon_sdk::{LinkSpec, OnDemandLimits};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::*;

/// Says every command to the service; takes every text for an answer to the oldest. Those that are `slow` go one at a
/// time, through a link that is opened for them, and is not needed once the last is done.
struct Parrot;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

#[derive(Default)]
struct Talk {
    waiting: Vec<CommandId>,
    slow: bool,
}

pontoon_sdk::operations! {
    enum Request {
        /// Says a word.
        Say(Value) = "say" / "word", Response;
    }
}

impl Connector for Parrot {
    const TYPE: &'static str = "parrot";
    const SAMPLE: &'static str = "";
    type Transport = WebSocket;
    type Config = Config;
    type Request = Request;
    type Session = Talk;

    fn new(_: Config) -> pontoon_sdk::Result<Self> {
        Ok(Self)
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        Endpoint::new("ws://h/").map(|endpoint| LinkSpec::new("main", endpoint)).into_iter().collect()
    }

    fn route(&self, command: &Command, _: &Request) -> pontoon_sdk::Result<Route<WebSocket>> {
        match command.argument.as_deref() {
            None => Err(Error::rejected(Code::NotFound, "say what?")),
            Some("elsewhere") => Ok(Route::To(LinkKey::new("other"))),
            Some(word) if word.starts_with("slow") => {
                Ok(Route::OnDemand(LinkSpec::new("main", Endpoint::new("ws://h/")?)))
            }
            Some(_) => Ok(Route::To(LinkKey::new("main"))),
        }
    }

    fn session(&self, _: &LinkKey) -> Talk {
        Talk::default()
    }

    fn on_demand_limits(&self) -> OnDemandLimits {
        OnDemandLimits { commands: 3, bytes: 16, ..OnDemandLimits::default() }
    }
}

impl Session for Talk {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, joins: &[Join], out: &mut Outbox<Frame>) -> pontoon_sdk::Result<()> {
        for join in joins {
            out.send(Frame::text(join.key.as_str()));
        }
        out.ready();
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> pontoon_sdk::Result<()> {
        if frame.bytes().as_ref() == b"go away" {
            return Err(Error::auth("told to go away"));
        }
        let (data, raw) = frame.json::<Box<serde_json::value::RawValue>>()?;
        out.publish(Event::new(EventType::LogEntry, raw).scope("all"));
        if let Some(id) = self.waiting.pop() {
            out.reply(id, Reply::Response(data));
            if std::mem::take(&mut self.slow) {
                out.finish();
            }
        }
        Ok(())
    }

    fn takes(&mut self, _: &mut Outbox<Frame>) -> bool {
        !self.slow
    }

    fn encode(&mut self, _: Request, command: Command, out: &mut Outbox<Frame>) -> pontoon_sdk::Result<()> {
        let word = command.argument.unwrap_or_default();
        if word == "nothing" {
            return Err(Error::rejected(Code::BadBody, "nothing is not a word"));
        }
        if word == "later" {
            out.wake_at(out.now() + Duration::from_secs(5));
        }
        self.slow = word.starts_with("slow");
        if !self.slow {
            out.remember_for(command.id, Join { key: word.clone(), data: command.body })?;
        }
        out.send_for(command.id, Frame::text(word));
        self.waiting.push(command.id);
        Ok(())
    }

    fn ended(&mut self, end: &End, out: &mut Outbox<Frame>) -> Kind {
        if !self.slow && end.reason == "idle" {
            out.finish();
        }
        end.kind
    }

    fn tick(&mut self, out: &mut Outbox<Frame>) -> pontoon_sdk::Result<()> {
        out.send(Frame::text("tick"));
        out.wake_at(out.now() + Duration::from_secs(5));
        Ok(())
    }
}

fn right(text: &str) {
    play::<Parrot>("t", text).unwrap();
}

fn wrong(text: &str) -> String {
    play::<Parrot>("t.txt", text).unwrap_err()
}

const HELLO: &str = "bus <- say.hello {\"n\":1}\nup -> hello\njoin hello {\"n\":1}\n";

#[test]
fn a_conversation_plays() {
    right(&format!(
        "ready\n{HELLO}sent\nup <- [1]\nreply response [1]\nbus -> log.entry {{\"raw\":[1]}} scope=all"
    ));
}

#[test]
fn joins_are_given_back_after_a_reconnect() {
    right(&format!(
        "{HELLO}up closed 1001 bye\nreply unknown 504\nends disconnected\nup open\nup -> hello\nready"
    ));
}

#[test]
fn an_unrecognised_frame_is_an_event_and_the_session_goes_on() {
    right("up <- what\nbus -> frame.unrecognised {\"raw\":\"what\"}\nup <- 1\nbus -> log.entry {}");
}

#[test]
fn refusals_come_from_the_list_the_route_and_the_session() {
    right("bus <- shout\nreply rejected 404 no operation shout");
    right("bus <- say\nreply rejected 404 say what?");
    right("bus <- say.nothing\nreply rejected 400 not a word");
}

#[test]
fn an_error_of_another_kind_ends_the_link() {
    right("up <- go away\nup close auth: told\nends auth");
    assert!(wrong("up <- go away\nup close auth\nup <- 1").contains("t.txt:3: the connection is closed"));
}

#[test]
fn time_wakes_the_session_and_ends_the_callers_wait() {
    let later = "bus <- say.later {}\nup -> later\njoin later\n";
    right(&format!("{later}wait 12s\nup -> tick\nup -> tick\nreply unknown 504"));
    right(&format!("{later}timeout\nup -> tick\nup -> tick\nreply unknown 504\ntimeout"));
}

const FIRST_OF_TWO: &str = "bus <- say.slow1\nup -> slow1\nbus <- say.slow2 Pontoon-Timeout=1m\n";

#[test]
fn a_command_that_is_not_taken_waits_its_turn() {
    let answer = "up <- 1\nbus -> log.entry\nreply #1 response 1\n";
    right(&format!("{FIRST_OF_TWO}{answer}up -> slow2"));
    assert!(wrong(&format!("{FIRST_OF_TWO}up -> slow2")).contains("expected slow2"));
}

#[test]
fn it_goes_on_waiting_when_the_connection_is_lost() {
    right(&format!("{FIRST_OF_TWO}up closed\nreply #1 unknown 504\nup open\nup -> slow2"));
    right("up closed\nbus <- say.slow\nup open\nup -> slow");
}

#[test]
fn its_time_may_run_out_before_it_is_taken() {
    right(&format!(
        "{FIRST_OF_TWO}timeout #2\nreply #1 unknown 504\nreply #2 expired 408\nup closed\nup open"
    ));
    right("up closed\nbus <- say.slow\ntimeout\nreply expired 408\nup open");
}

#[test]
fn few_wait_for_one_link() {
    let three = "bus <- say.slow\nbus <- say.slow\nbus <- say.slow\n";
    right(&format!("up closed\n{three}bus <- say.slow\nreply rejected 429\ntimeout #3"));
    let large = "bus <- say.slow {\"abcdefghijklmnop\":1}\n";
    right(&format!("up closed\n{large}{large}reply rejected 429\ntimeout #1"));
}

#[test]
fn a_link_is_finished_only_if_no_command_waits_for_it() {
    let answer = "up <- 1\nbus -> log.entry\nreply #1 response 1\n";
    right(&format!(
        "bus <- say.slow\nup -> slow\n{answer}up close finished\nbus <- say.slow2\nup open\nup -> slow2"
    ));
    assert!(
        wrong(&format!("{FIRST_OF_TWO}{answer}up -> slow2\nup close finished"))
            .contains("to close: finished")
    );
    right("up closed idle\nup close finished\nends disconnected");
}

#[test]
fn every_difference_is_found_and_told_with_its_line() {
    let told = |lines: &str| wrong(&format!("{HELLO}{lines}"));
    assert_eq!(wrong("up -> hi"), "t.txt:1: expected hi; got nothing of the kind from line 1");
    assert!(wrong("bus <- say.a\nup -> b").contains("t.txt:2: expected b; got a"));
    assert!(wrong("bus <- say.a\nup -> a").contains("at the end: expected nothing more from line 1; got"));
    assert!(wrong("up <- 1\nup <- 2").starts_with("t.txt:2: expected nothing more from line 1"));
    assert!(wrong("up <- 1\nbus -> log.entry {\"text\":\"x\"}").contains("expected bus -> log.entry"));
    assert!(
        wrong("up <- 1\nbus -> log.entry {} scope=_").contains("got bus -> log.entry {\"raw\":1} scope=all")
    );
    assert!(
        told("up <- 1\nbus -> log.entry\nreply response 2")
            .contains("expected reply #1 response 2; got reply #1 response 1")
    );
    assert!(told("up <- 1\nbus -> log.entry\nreply failed 502").contains("got reply #1 response 1"));
    assert!(told("ends auth").contains("expected auth"));
    assert!(told("timeout\nup <- 1").contains("answers #1, whose caller waits no more"));
    assert!(wrong("up closed\nready").contains("to become ready"));
    assert!(wrong("bus <- say.elsewhere").contains("write `link other`"));
    assert!(wrong("config {\"x\":1}\nready").contains("unknown field `x`"));
}
