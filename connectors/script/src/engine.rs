//! A script that runs: one engine for each connection, bounded in time, in memory and in output, without I/O.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rquickjs::context::intrinsic::{
    Date, Eval, Json, MapSet, Promise, Proxy, RegExp, RegExpCompiler, TypedArrays,
};
use rquickjs::function::{Func, IntoArgs};
use rquickjs::{
    CatchResultExt as _, CaughtError, Context, Ctx, Exception, FromJs, Function, Module, Object, Persistent,
    Runtime, Value,
};
use rustix::time::{ClockId, clock_gettime};

use crate::codecs;
use crate::config::{Limits, Source};

/// What a script has besides the language.
const PRELUDE: &str = include_str!("prelude.js");
/// How deep calls may go, in bytes of the thread's stack.
const STACK: usize = 256 * 1024;

/// What the script may see.
pub(crate) struct Given<'a> {
    /// JSON of the setting `settings`.
    pub(crate) settings: &'a str,
    /// JSON of the secrets by their names.
    pub(crate) secrets: &'a str,
}

/// Something that a script wants done.
#[derive(Debug)]
pub struct Act {
    /// Which function of `out` was called.
    pub(crate) kind: String,
    /// Its argument.
    pub(crate) text: String,
    /// The number of the command that it is about.
    pub(crate) command: Option<u64>,
}

/// A call that failed. Nothing of what it wanted is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// File, line and what is wrong.
    pub(crate) message: String,
    /// The script has reached a limit, and must start over.
    pub(crate) exhausted: bool,
}

/// What is measured while a call runs.
struct Meter {
    limits: Limits,
    /// What the thread had computed when the call began.
    began: Cell<Duration>,
    /// Bytes that it may still write.
    left: Cell<usize>,
    /// The limit that was reached.
    reached: Cell<Option<&'static str>>,
    /// Milliseconds since 1970 at the time of the call.
    now: Cell<f64>,
    acts: RefCell<Vec<Act>>,
}

/// A script that runs.
pub struct Engine {
    // Before the context, whose memory it is in.
    entry: Persistent<Object<'static>>,
    context: Context,
    meter: Rc<Meter>,
    name: String,
}

impl Engine {
    /// Starts a script. Returns with it what it has, as JSON: its operations and the names of its functions.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(
        source: &Source,
        given: &Given<'_>,
        limits: Limits,
        now: f64,
    ) -> Result<(Self, String), Fault> {
        let meter = Rc::new(Meter {
            limits,
            began: Cell::new(computed()),
            left: Cell::new(0),
            reached: Cell::new(None),
            now: Cell::new(now),
            acts: RefCell::default(),
        });
        let plain =
            |error: rquickjs::Error| Fault { message: format!("{}: {error}", source.name), exhausted: true };
        let runtime = Runtime::new().map_err(plain)?;
        runtime.set_max_stack_size(STACK);
        let watch = Rc::clone(&meter);
        runtime.set_interrupt_handler(Some(Box::new(move || watch.is_over())));
        type Intrinsics = (Date, Eval, RegExpCompiler, RegExp, Json, Proxy, MapSet, TypedArrays, Promise);
        let context = Context::custom::<Intrinsics>(&runtime).map_err(plain)?;
        meter.begin(now);
        let fault = |caught: &CaughtError<'_>| meter.fault(&source.name, caught);
        let entry =
            context.with(|ctx| prepared(&ctx, given, &meter).catch(&ctx).map_err(|caught| fault(&caught)))?;
        // What is ours was set up before, where memory does not run out.
        runtime.set_memory_limit(limits.memory.0);
        let has =
            context.with(|ctx| used(&ctx, source, &entry).catch(&ctx).map_err(|caught| fault(&caught)))?;
        Ok((Self { entry, context, meter, name: source.name.clone() }, has))
    }

    /// Calls a function of the prelude. Returns what it returns, and what the script wants done.
    ///
    /// # Errors
    /// What the script has thrown, or the limit that it has reached.
    pub(crate) fn call<A, R>(&self, name: &str, now: f64, argument: A) -> Result<(R, Vec<Act>), Fault>
    where
        A: for<'js> IntoArgs<'js>,
        R: for<'js> FromJs<'js>,
    {
        self.meter.begin(now);
        let result = self.context.with(|ctx| {
            let called = self.entry.clone().restore(&ctx).and_then(|entry| {
                let function: Function<'_> = entry.get(name)?;
                function.call::<A, R>(argument)
            });
            called.catch(&ctx).map_err(|caught| self.meter.fault(&self.name, &caught))
        });
        // A script may have caught what a limit has thrown.
        let result = result.and_then(|result| match self.meter.reached.get() {
            Some(limit) => Err(Fault { message: format!("{}: {limit}", self.name), exhausted: true }),
            None => Ok(result),
        });
        let acts = self.meter.acts.take();
        result.map(|result| (result, acts))
    }
}

/// Runs the prelude. Returns the functions by which the script is called.
fn prepared(
    ctx: &Ctx<'_>,
    given: &Given<'_>,
    meter: &Rc<Meter>,
) -> rquickjs::Result<Persistent<Object<'static>>> {
    let native = Object::new(ctx.clone())?;
    codecs::add(&native)?;
    let clock = Rc::clone(meter);
    native.set("now", Func::from(move || clock.now.get()))?;
    let writer = Rc::clone(meter);
    let act =
        move |ctx: Ctx<'_>, kind: String, text: String, command: f64| writer.write(&ctx, kind, text, command);
    native.set("act", Func::from(act))?;
    let seen = Object::new(ctx.clone())?;
    seen.set("settings", ctx.json_parse(given.settings)?)?;
    seen.set("secrets", ctx.json_parse(given.secrets)?)?;
    let prelude: Function<'_> = ctx.eval(PRELUDE)?;
    let entry: Object<'_> = prelude.call((native, seen))?;
    Ok(Persistent::save(ctx, entry))
}

/// Runs the module. Returns what it has.
fn used(ctx: &Ctx<'_>, source: &Source, entry: &Persistent<Object<'static>>) -> rquickjs::Result<String> {
    let (module, evaluated) =
        Module::declare(ctx.clone(), source.name.as_str(), source.text.as_str())?.eval()?;
    evaluated.finish::<()>()?;
    let exported: Value<'_> = module.get("default")?;
    entry.clone().restore(ctx)?.get::<_, Function<'_>>("use")?.call((exported,))
}

impl Meter {
    fn begin(&self, now: f64) {
        self.began.set(computed());
        self.left.set(self.limits.output.0);
        self.reached.set(None);
        self.now.set(now);
        self.acts.borrow_mut().clear();
    }

    /// Whether the call has had its time. Asked now and then while it runs.
    fn is_over(&self) -> bool {
        let is_over = computed().saturating_sub(self.began.get()) > self.limits.time.0;
        if is_over {
            self.reached.set(Some("a call took longer than limits.time allows"));
        }
        is_over
    }

    fn write(&self, ctx: &Ctx<'_>, kind: String, text: String, command: f64) -> rquickjs::Result<()> {
        // Each needs some memory, even with no text.
        let size = text.len() + size_of::<Act>();
        match self.left.get().checked_sub(size) {
            Some(left) => self.left.set(left),
            None => {
                let reached = "a call wrote more than limits.output allows";
                self.reached.set(Some(reached));
                return Err(Exception::throw_range(ctx, reached));
            }
        }
        // `NONE` in the prelude is negative. A number of a command is exact.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let command = (command >= 0.0).then_some(command as u64);
        self.acts.borrow_mut().push(Act { kind, text, command });
        Ok(())
    }

    fn fault(&self, file: &str, caught: &CaughtError<'_>) -> Fault {
        let thrown = match caught {
            CaughtError::Exception(exception) => {
                let name: Option<String> = exception.as_object().get("name").ok();
                let text = exception.message().unwrap_or_default();
                let stack = exception.stack().unwrap_or_default();
                Thrown {
                    line: line(file, &stack),
                    text: format!("{}: {text}", name.as_deref().unwrap_or("Error")),
                }
            }
            CaughtError::Value(value) => {
                let text = value.as_string().and_then(|text| text.to_string().ok());
                Thrown {
                    line: None,
                    text: text.unwrap_or_else(|| "something was thrown that is not an Error".to_owned()),
                }
            }
            CaughtError::Error(error) => Thrown { line: None, text: error.to_string() },
        };
        let is_memory = thrown.text.contains("out of memory")
            || matches!(caught, CaughtError::Error(rquickjs::Error::Allocation));
        // Where there is no memory for an error, the engine throws null.
        let is_null = matches!(caught, CaughtError::Value(value) if value.is_null());
        let reached = self
            .reached
            .get()
            .or(is_memory.then_some("the script needs more memory than limits.memory allows"))
            .or(is_null.then_some("null was thrown, as where memory has run out (limits.memory)"));
        let place = thrown.line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
        let message = format!("{place}: {}", reached.unwrap_or(&thrown.text));
        Fault { message, exhausted: reached.is_some() }
    }
}

/// What was thrown, and where.
struct Thrown {
    line: Option<u32>,
    text: String,
}

/// The line of the file in the first entry of a stack that is in it: `    at decode (discord.js:12:5)`.
fn line(file: &str, stack: &str) -> Option<u32> {
    let mut entries = stack.lines().filter_map(|entry| {
        let (_, place) = entry.split_once(&format!("{file}:"))?;
        place.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    });
    entries.next()
}

/// How long this thread has computed.
fn computed() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds)
}
