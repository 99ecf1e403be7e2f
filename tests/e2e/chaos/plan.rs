//! What happens in a run, drawn from its seed.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::source::TICK;

/// A run, before it runs.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where it was drawn from.
    pub(crate) seed: u64,
    /// How many events each service sends in 5 ms.
    pub(crate) pace: usize,
    /// How much text they have, in bytes.
    pub(crate) padding: usize,
    /// What the daemon does soon with more than few events (`delivery.overflow`), if it is not to keep as many as come.
    pub(crate) overflow: Option<&'static str>,
    /// Where the daemon keeps events that are not confirmed.
    pub(crate) storage: Storage,
    /// Whether there are three nats-servers, and three replicas of each stream.
    pub(crate) cluster: bool,
    /// How many events the services send together, at least; the steps may need more.
    pub(crate) events: usize,
    /// Whether the daemon's time of day can be set.
    pub(crate) fake_time: bool,
    /// Whether NATS is away when the daemon starts for the first time.
    pub(crate) nats_away: bool,
    /// Whether events must be in the streams before anything else happens.
    pub(crate) warm: bool,
    /// What is done, each after a pause.
    pub(crate) steps: Vec<(Duration, Step)>,
}

/// Where events are kept that NATS has not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In memory.
    Memory,
    /// On disk, with this `delivery.spool.durability`.
    Disk(&'static str),
}

/// Something that is done to one of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Wait,
    /// SIGSTOP for nats-server.
    FreezeNats,
    /// SIGCONT for nats-server.
    ThawNats,
    /// SIGKILL for nats-server.
    KillNats,
    /// Starts nats-server with the same store.
    StartNats,
    /// SIGSTOP for the daemon.
    FreezeDaemon,
    /// SIGCONT for the daemon.
    ThawDaemon,
    /// SIGKILL for the daemon.
    KillDaemon,
    /// Starts the daemon.
    StartDaemon,
    /// Deletes the stream of an instance.
    DeleteStream(usize),
    /// Removes all that the stream of an instance holds.
    PurgeStream(usize),
    /// Leaves no room on the disk of the daemon's events.
    FillDisk,
    /// Makes room again.
    FreeDisk,
    /// Ends the connection of an instance at its service.
    Break(usize, Ending),
    /// SIGHUP after a change of the file.
    Reload(Change),
    /// Sets the daemon's time of day so many seconds ahead of the machine's.
    SetClock(i64),
}

/// How a service ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// RST.
    Cut,
    /// RST behind so many bytes of a frame.
    CutWithin(usize),
    /// FIN.
    HangUp,
    /// A close frame.
    Close,
}

/// What changes in the daemon's file. Each change is taken back by the next of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    Nothing,
    /// Another name for the same NATS.
    Nats,
    /// An address where there is no NATS.
    NatsAway,
    /// The pause and the size of the buffer.
    Delivery,
    /// The level.
    Log,
    /// The deadline.
    Shutdown,
}

const INSTANCES: std::ops::Range<usize> = 0..2;
/// How many events each service sends in a tick of a long run.
const LONG_PACE: usize = 5;

impl Plan {
    /// Draws a run. Without `fake_time`, no clock is set.
    pub(crate) fn draw(seed: u64, fake_time: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let fake_time = random.random_ratio(3, 20) && fake_time;
        let nats_away = random.random_ratio(3, 20);
        let mut lines: Vec<_> = match random.random_range(0..20) {
            0 => Vec::new(),
            1..9 => vec![sequence(&mut random, fake_time)],
            9..14 => {
                let (first, second) = (sequence(&mut random, fake_time), sequence(&mut random, fake_time));
                vec![[first, second].concat()]
            }
            _ => vec![sequence(&mut random, fake_time), sequence(&mut random, fake_time)],
        };
        if nats_away {
            lines.insert(0, nats_comes_late(&mut random));
        }
        let pace = random.random_range(1..=6);
        let padding = *[20, 250, 1_000].choose(&mut random).expect("there are some");
        let overflow = random.random_ratio(1, 5).then(|| {
            *["drop_newest", "drop_oldest", "disconnect"].choose(&mut random).expect("there are some")
        });
        let storages = [Storage::Memory, Storage::Disk("process"), Storage::Disk("power")];
        Self {
            seed,
            pace,
            padding,
            overflow,
            storage: *storages.choose(&mut random).expect("there are some"),
            cluster: false,
            events: 0,
            fake_time,
            nats_away,
            warm: !nats_away && random.random_ratio(4, 5),
            steps: merge(&lines),
        }
    }

    /// Whether it was drawn by [`Plan::long`].
    pub(crate) fn is_long(&self) -> bool {
        self.events > 0
    }

    /// Draws a run in which so many events are sent, with a fault every few seconds.
    pub(crate) fn long(seed: u64, events: usize, cluster: bool, storage: Storage) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let ticks = events / (LONG_PACE * INSTANCES.len());
        let duration = TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
        let (mut steps, mut planned) = (Vec::new(), Duration::ZERO);
        while planned < duration {
            let pause = (random.random_range(0..3_000), Step::Wait);
            let line = [vec![pause], sequence(&mut random, false)].concat();
            let line = line.into_iter().map(|(pause, step)| (Duration::from_millis(pause), step));
            steps.extend(line.inspect(|(pause, _)| planned += *pause));
        }
        Self {
            seed,
            pace: LONG_PACE,
            padding: 100,
            overflow: None,
            storage,
            cluster,
            events,
            fake_time: false,
            nats_away: false,
            warm: true,
            steps,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            pace,
            padding,
            overflow,
            storage,
            cluster,
            events,
            fake_time,
            nats_away,
            warm,
            steps,
        } = self;
        write!(
            f,
            "seed {seed}: pace {pace}, padding {padding}, overflow {overflow:?}, {storage:?}, cluster {cluster}, events {events}, fake time {fake_time}, NATS away {nats_away}, warm {warm}"
        )?;
        steps.iter().try_for_each(|(pause, step)| write!(f, "\n  {:>4} ms {step:?}", pause.as_millis()))
    }
}

type Line = Vec<(u64, Step)>;

/// One fault, or some that belong together; milliseconds before each step.
fn sequence(random: &mut StdRng, fake_time: bool) -> Line {
    use Step::*;
    let instance = random.random_range(INSTANCES);
    let (lead, long, short) =
        (random.random_range(50..500), random.random_range(200..1_200), random.random_range(0..300));
    let soon = random.random_range(0..60);
    if fake_time && random.random_ratio(1, 2) {
        return clock(random, lead, short);
    }
    match random.random_range(0..38) {
        0..2 => vec![(lead, KillDaemon), (short, StartDaemon)],
        2..7 => vec![
            (lead, FreezeNats),
            (long, ThawNats),
            // With what was kept meanwhile just on its way.
            (soon, KillDaemon),
            (short, StartDaemon),
        ],
        7..10 => {
            let back = random.random_range(0..500);
            vec![(lead, KillNats), (long, StartNats), (back, KillDaemon), (short, StartDaemon)]
        }
        10..12 => {
            vec![(lead, FreezeNats), (long, KillDaemon), (short, StartDaemon), (short, ThawNats)]
        }
        12 => vec![(lead, FreezeNats), (long, ThawNats)],
        13 => vec![(lead, KillNats), (long, StartNats)],
        14 => {
            let again = vec![(soon, KillDaemon), (short, StartDaemon)];
            [vec![(lead, KillDaemon), (short, StartDaemon)], again].concat()
        }
        15..18 => vec![(lead, DeleteStream(instance))],
        18..20 => vec![(lead, KillDaemon), (soon, DeleteStream(instance)), (short, StartDaemon)],
        20..23 => {
            let within = Ending::CutWithin(random.random_range(0..1_000));
            let endings = [Ending::Cut, within, Ending::HangUp, Ending::Close];
            vec![(lead, Break(instance, *endings.choose(random).expect("there are some")))]
        }
        23 => vec![(lead, FreezeDaemon), (long, ThawDaemon)],
        24 => vec![(lead, FreezeDaemon), (soon, FreezeNats), (long, ThawDaemon), (short, ThawNats)],
        25..28 => {
            let changes = [Change::Nothing, Change::Nats, Change::Delivery, Change::Log, Change::Shutdown];
            vec![(lead, Reload(*changes.choose(random).expect("there are some")))]
        }
        28..30 => vec![(lead, Reload(Change::NatsAway)), (long, Reload(Change::NatsAway))],
        30 => vec![
            (lead, FreezeNats),
            (soon, Reload(Change::Delivery)),
            (long, ThawNats),
            (soon, Reload(Change::Nats)),
        ],
        34 => vec![(lead, PurgeStream(instance))],
        35 => vec![
            (lead, FreezeNats),
            (long, KillDaemon),
            (short, ThawNats),
            (0, PurgeStream(instance)),
            (short, StartDaemon),
        ],
        36 => vec![(lead, FillDisk), (long, FreeDisk)],
        37 => {
            vec![
                (lead, FreezeNats),
                (short, FillDisk),
                (long, FreeDisk),
                (short, KillDaemon),
                (short, ThawNats),
                (soon, StartDaemon),
            ]
        }
        31 => vec![(lead, FreezeNats), (long, Break(instance, Ending::HangUp)), (short, ThawNats)],
        _ => {
            let ending = *[Ending::Cut, Ending::HangUp].choose(random).expect("there are some");
            let late = vec![(lead, FreezeDaemon), (short, Break(instance, ending)), (short, ThawDaemon)];
            let kill = vec![(soon, KillDaemon), (short, StartDaemon)];
            if random.random_ratio(1, 4) { [late, kill].concat() } else { late }
        }
    }
}

/// The daemon's clock is set, while it runs or while it is down.
fn clock(random: &mut StdRng, lead: u64, short: u64) -> Line {
    let seconds = *[2, 60, 3_600, 86_400].choose(random).expect("there are some");
    let set = Step::SetClock(if random.random() { seconds } else { -seconds });
    let kill = [(short, Step::KillDaemon), (short, Step::StartDaemon)];
    match random.random_range(0..3) {
        0 => vec![(lead, set)],
        1 => vec![(lead, set), kill[0], kill[1]],
        _ => vec![kill[0], (short, set), kill[1]],
    }
}

/// NATS was away when the daemon started; it comes, and the daemon may be gone by then.
fn nats_comes_late(random: &mut StdRng) -> Line {
    let mut pause = || random.random_range(100..500);
    let kill = vec![(pause(), Step::KillDaemon), (pause(), Step::StartDaemon)];
    let start = vec![(pause(), Step::StartNats)];
    match random.random_range(0..3) {
        0 => start,
        1 => [kill, start].concat(),
        _ => [start, kill].concat(),
    }
}

/// All of them, each at its own time.
fn merge(lines: &[Line]) -> Vec<(Duration, Step)> {
    let mut all = Vec::new();
    for line in lines {
        let mut at = 0;
        for (pause, step) in line {
            at += pause;
            all.push((at, *step));
        }
    }
    all.sort_by_key(|(at, _)| *at);
    let mut last = 0;
    let steps = all.into_iter().map(|(at, step)| {
        let pause = Duration::from_millis(at - std::mem::replace(&mut last, at));
        (pause, step)
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_always_the_same_run() {
        for seed in 0..50 {
            assert_eq!(Plan::draw(seed, true).to_string(), Plan::draw(seed, true).to_string());
        }
        assert_ne!(Plan::draw(1, true).to_string(), Plan::draw(2, true).to_string());
    }

    #[test]
    fn lines_are_merged_by_time() {
        let lines = [
            vec![(10, Step::KillNats), (20, Step::StartNats)],
            vec![(5, Step::KillDaemon), (20, Step::StartDaemon)],
        ];
        let steps = merge(&lines).into_iter().map(|(pause, step)| (pause.as_millis(), step));
        let expected =
            [(5, Step::KillDaemon), (5, Step::KillNats), (15, Step::StartDaemon), (5, Step::StartNats)];
        assert!(steps.eq(expected));
    }
}
