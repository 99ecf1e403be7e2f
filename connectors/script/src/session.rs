//! One connection: frames and commands go to the script, and what it wants done to the outbox.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pontoon_generic::encoding::FrameReader;
use pontoon_sdk::streams::Streams;
use pontoon_sdk::{
    Code, Command, CommandId, End, Error, Event, EventType, Join, Kind, Outbox, Raw, Reply, Result, Session,
};
use rquickjs::function::IntoArgs;
use serde_json::json;
use serde_json::value::RawValue;

use crate::engine::{Act, Engine, Fault, Given};
use crate::event;
use crate::operations::Request;
use crate::protocol::Frames;
use crate::script::Script;

/// The longest time after which a script can want to be woken.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// One connection.
pub struct ScriptSession<F> {
    script: Arc<Script>,
    /// From `open` on, unless the script could not be started.
    engine: Option<Engine>,
    /// The time of the system at a moment, as milliseconds since 1970.
    clock: (Instant, f64),
    reader: FrameReader,
    streams: Streams,
    frames: std::marker::PhantomData<fn() -> F>,
}

/// How a connection is to end.
struct Ending(Option<Error>);

impl<F: Frames> ScriptSession<F> {
    pub(crate) fn new(script: Arc<Script>) -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let clock = (Instant::now(), since_1970.as_secs_f64() * 1e3);
        let reader = FrameReader::new(script.config.encoding());
        Self {
            script,
            engine: None,
            clock,
            reader,
            streams: Streams::default(),
            frames: std::marker::PhantomData,
        }
    }

    fn now(&self, out: &Outbox<F>) -> f64 {
        let (start, since_1970) = self.clock;
        (since_1970 + out.now().saturating_duration_since(start).as_secs_f64() * 1e3).floor()
    }

    fn engine(&self) -> Result<&Engine, Fault> {
        self.engine
            .as_ref()
            .ok_or_else(|| Fault { message: "the script was not started".to_owned(), exhausted: true })
    }

    /// Calls a function that has no result, and does what it wants done.
    fn call<A: for<'js> IntoArgs<'js>>(
        &mut self,
        name: &str,
        argument: A,
        out: &mut Outbox<F>,
    ) -> Result<()> {
        let now = self.now(out);
        let called = self.engine().and_then(|engine| engine.call::<_, ()>(name, now, argument));
        let acts = called.map(|((), acts)| acts).map_err(|fault| Error::disconnected(fault.message))?;
        self.perform(&acts, None, out).map_err(Error::disconnected)?.into_result()
    }

    /// Does what a call wanted done: all of it, or nothing.
    fn perform(&mut self, acts: &[Act], raw: Option<&Raw>, out: &mut Outbox<F>) -> Result<Ending, String> {
        let mut done = Vec::with_capacity(acts.len());
        for act in acts {
            let step = self
                .step(act, raw)
                .map_err(|wrong| format!("{}: out.{}: {wrong}", self.script.name(), called(&act.kind)))?;
            done.push(step);
        }
        let mut ending = None;
        for step in done {
            match step {
                Step::Send(frame, None) => out.send(frame),
                Step::Send(frame, Some(command)) => out.send_for(command, frame),
                Step::Publish(event) => out.publish(*event),
                Step::Reply(command, reply) => out.reply(command, reply),
                Step::Ask(number, subject, body) => out.ask(number, subject, body),
                Step::Remember(join, None) => out.remember(join).map_err(|error| error.to_string())?,
                Step::Remember(join, Some(command)) => {
                    out.remember_for(command, join).map_err(|error| error.to_string())?;
                }
                Step::Forget(key, None) => out.forget(key),
                Step::Forget(key, Some(command)) => out.forget_for(command, key),
                Step::Rejoin(key) => out.rejoin(&key),
                Step::Undo(command) => out.undo(command),
                Step::Ready => out.ready(),
                Step::Wake(span) => out.wake_at(out.now() + span),
                Step::Log(text) => out.log(text),
                Step::End(error) => ending = Some(error),
                Step::Ignore => {}
            }
        }
        Ok(Ending(ending))
    }

    fn step(&mut self, act: &Act, raw: Option<&Raw>) -> Result<Step<F>, String> {
        let text = || act.text.clone();
        let data = || RawValue::from_string(act.text.clone()).map_err(|error| error.to_string());
        let command = || act.command.map(CommandId).ok_or("no command is given");
        let pair =
            || serde_json::from_str::<(String, Box<RawValue>)>(&act.text).map_err(|error| error.to_string());
        Ok(match act.kind.as_str() {
            "text" | "binary" | "json" => {
                Step::Send(F::sent(act, self.script.config.encoding())?, act.command.map(CommandId))
            }
            "publish" => Step::Publish(Box::new(event::read(&act.text, raw, &mut self.streams)?)),
            "part" => Step::Reply(command()?, Reply::Part(data()?)),
            "acked" => Step::Reply(command()?, Reply::Acked(data()?)),
            "response" => Step::Reply(command()?, Reply::Response(data()?)),
            "fail" => {
                let (message, code) = pair()?;
                Step::Reply(command()?, Reply::Failed(Error::rejected(code_of(code.get())?, message)))
            }
            "unknown" => Step::Reply(command()?, Reply::Unknown(Error::rejected(Code::NoAnswer, text()))),
            "ask" => {
                let (subject, body) = pair()?;
                if !self.script.config.ask.allow(&subject) {
                    return Err(format!("the settings do not list the subject {subject}; add it to ask"));
                }
                Step::Ask(act.command.unwrap_or_default(), subject, body.into())
            }
            "remember" => {
                let (key, data) = pair()?;
                Step::Remember(Join { key, data }, act.command.map(CommandId))
            }
            "forget" => Step::Forget(text(), act.command.map(CommandId)),
            "rejoin" => Step::Rejoin(text()),
            "undo" => Step::Undo(command()?),
            "ready" => Step::Ready,
            "wake" => {
                let seconds = act.text.parse::<f64>().unwrap_or(f64::NAN) / 1e3;
                let span =
                    Duration::try_from_secs_f64(seconds).map_err(|_| "write a number of milliseconds")?;
                Step::Wake(span.clamp(Duration::from_millis(1), LONGEST_WAIT))
            }
            "close" => Step::End(Error::disconnected(text())),
            "refused" => Step::End(Error::auth(text())),
            "slow" => Step::End(Error::throttled(text())),
            "log" => Step::Log(text()),
            _ => Step::Ignore,
        })
    }
}

enum Step<F> {
    Send(F, Option<CommandId>),
    Publish(Box<Event>),
    Reply(CommandId, Reply),
    Ask(u64, String, Raw),
    Remember(Join, Option<CommandId>),
    Forget(String, Option<CommandId>),
    Rejoin(String),
    Undo(CommandId),
    Ready,
    Wake(Duration),
    Log(String),
    End(Error),
    Ignore,
}

impl Ending {
    fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// The function of `out` that makes such an act.
fn called(kind: &str) -> &str {
    match kind {
        "text" | "binary" | "json" => "send",
        "acked" | "response" => "reply",
        other => other,
    }
}

/// The first frame that `encode` sends carries its command out, if it names the command nowhere: else a command that was
/// written would count as one that was not.
fn carry_out(command: CommandId, acts: &mut [Act]) {
    let names =
        |act: &Act| act.command == Some(command.0) && !matches!(act.kind.as_str(), "remember" | "forget");
    if acts.iter().any(names) {
        return;
    }
    let is_sent = |act: &&mut Act| called(&act.kind) == "send" && act.command.is_none();
    if let Some(send) = acts.iter_mut().find(is_sent) {
        send.command = Some(command.0);
    }
}

fn code_of(number: &str) -> Result<Code, String> {
    let codes = [
        Code::BadBody,
        Code::Forbidden,
        Code::NotFound,
        Code::KeyReused,
        Code::TooLarge,
        Code::TooMany,
        Code::Refused,
        Code::NotConnected,
    ];
    let found = codes.into_iter().find(|code| code.number().to_string() == number);
    found.ok_or_else(|| {
        let known: Vec<_> = codes.iter().map(|code| code.number().to_string()).collect();
        format!("{number} is not a code of a refusal; those are {}", known.join(", "))
    })
}

impl<F: Frames> Session for ScriptSession<F> {
    type Frame = F;
    type Request = Request;

    fn open(&mut self, joins: &[Join], out: &mut Outbox<F>) -> Result<()> {
        let revealed = self.script.config.secrets.iter().map(|(name, secret)| {
            let text = secret.reveal().map_err(|error| Error::auth(error.message()))?;
            Ok((name.clone(), text))
        });
        let secrets = json!(revealed.collect::<Result<BTreeMap<_, _>>>()?).to_string();
        let given = Given { settings: &self.script.settings, secrets: &secrets };
        let started = Engine::new(&self.script.source, &given, self.script.config.limits, self.now(out));
        let (engine, _) = started.map_err(|fault| Error::disconnected(fault.message))?;
        self.engine = Some(engine);
        if !self.script.has("open") {
            out.ready();
            return Ok(());
        }
        let remembered: Vec<_> =
            joins.iter().map(|join| json!({ "key": join.key, "data": join.data })).collect();
        self.call("open", (json!(remembered).to_string(),), out)
    }

    fn decode(&mut self, frame: &F, out: &mut Outbox<F>) -> Result<()> {
        let received = frame;
        let Some(frame) = received.decoded(&mut self.reader, out)? else { return Ok(()) };
        let now = self.now(out);
        let raw = frame.payload();
        let decoded = self.engine().and_then(|engine| frame.decode(engine, now));
        let fault = match decoded {
            Ok(acts) if acts.iter().all(|act| act.kind == "log") => {
                self.perform(&acts, None, out).ok();
                let message = format!("{}: decode did nothing with this frame", self.script.name());
                Fault { message, exhausted: false }
            }
            Ok(acts) => match self.perform(&acts, Some(&raw), out) {
                Ok(ending) => return ending.into_result(),
                Err(message) => Fault { message, exhausted: false },
            },
            Err(fault) => fault,
        };
        if !fault.exhausted {
            return Err(Error::protocol(fault.message));
        }
        // It was read, and the connection ends.
        let mut event = Event::new(EventType::FrameUnrecognised, received.raw());
        event.fields.reason = Some(fault.message.clone());
        out.publish(event);
        Err(Error::disconnected(fault.message))
    }

    fn encode(&mut self, _: Request, command: Command, out: &mut Outbox<F>) -> Result<()> {
        let now = self.now(out);
        let delivery = self.script.delivery(command.operation);
        out.delivery(command.id, delivery);
        let seen = json!({
            "id": command.id.0,
            "operation": command.operation,
            "argument": command.argument,
            "body": command.body,
            "headers": command.headers.iter().cloned().collect::<BTreeMap<_, _>>(),
            "delivery": delivery.as_str(),
            "stream": command.stream,
        });
        let called =
            self.engine().and_then(|engine| engine.call::<_, ()>("encode", now, (seen.to_string(),)));
        let fault = match called {
            Ok(((), mut acts)) => {
                carry_out(command.id, &mut acts);
                match self.perform(&acts, None, out) {
                    Ok(ending) => return ending.into_result(),
                    Err(message) => Fault { message, exhausted: false },
                }
            }
            Err(fault) => fault,
        };
        out.reply(command.id, Reply::Failed(Error::internal(&fault.message)));
        if fault.exhausted { Err(Error::disconnected(fault.message)) } else { Ok(()) }
    }

    fn tick(&mut self, out: &mut Outbox<F>) -> Result<()> {
        if self.script.has("tick") { self.call("tick", (), out) } else { Ok(()) }
    }

    fn stored(&mut self, number: u64, out: &mut Outbox<F>) -> Result<()> {
        self.call("stored", (number,), out)
    }

    fn asked(&mut self, number: u64, answer: Result<Raw>, out: &mut Outbox<F>) -> Result<()> {
        let answer = match answer {
            Ok(body) => json!({ "data": body.parse::<Box<RawValue>>()? }),
            Err(error) => json!({ "error": { "code": error.code().number(), "message": error.message() } }),
        };
        self.call("asked", (number, answer.to_string()), out)
    }

    fn abandoned(&mut self, command: CommandId, _sent: bool, out: &mut Outbox<F>) {
        // An error has no caller here; a script that has reached a limit reaches it again.
        let _ = self.call("abandoned", (command.0,), out);
    }

    fn ended(&mut self, end: &End, out: &mut Outbox<F>) -> Kind {
        if !self.script.has("ended") {
            return end.kind;
        }
        let seen = json!({ "code": end.code, "reason": end.reason, "orderly": end.orderly }).to_string();
        let now = self.now(out);
        let called = self.engine().and_then(|engine| engine.call::<_, String>("ended", now, (seen,)));
        let Ok((kind, acts)) = called else { return end.kind };
        let _ = self.perform(&acts, None, out);
        match kind.as_str() {
            "refused" => Kind::Auth,
            "slow" => Kind::Throttled,
            _ => end.kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_encode_sends_carries_its_command_out() {
        for (acts, carrying) in [
            (&[("json", None)][..], Some(0)),
            (&[("log", None), ("text", None), ("binary", None)], Some(1)),
            (&[("remember", Some(7)), ("json", None)], Some(1)),
            // The script says itself which frame it is, or has answered.
            (&[("json", None), ("json", Some(7))], Some(1)),
            (&[("json", None), ("acked", Some(7))], None),
            // It answers another command meanwhile.
            (&[("acked", Some(6)), ("json", None)], Some(1)),
            (&[("wake", None)], None),
        ] {
            let act = |(kind, command): &(&str, _)| Act {
                kind: (*kind).to_owned(),
                text: String::new(),
                command: *command,
            };
            let mut made: Vec<_> = acts.iter().map(act).collect();
            carry_out(CommandId(7), &mut made);
            let is_carrying = |act: &Act| called(&act.kind) == "send" && act.command == Some(7);
            assert_eq!(made.iter().position(is_carrying), carrying, "{acts:?}");
        }
    }
}
