//! Tests: several daemons with a simulated bucket and clock, which are killed, stopped for a while and cut off.

use super::*;

const TTL: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(50);

/// The bucket of leases: revision, the run that set it (none if it was deleted), and when.
#[derive(Default)]
struct Bucket {
    entries: BTreeMap<String, (u64, Option<String>, Duration)>,
    revision: u64,
}

impl Bucket {
    fn expire(&mut self, now: Duration) {
        self.entries.retain(|_, (_, _, stored)| *stored + TTL > now);
    }

    fn set(&mut self, instance: &str, run: Option<&str>, now: Duration) -> u64 {
        self.revision += 1;
        let entry = (self.revision, run.map(str::to_owned), now);
        self.entries.insert(instance.to_owned(), entry);
        self.revision
    }

    fn take(&mut self, instance: &str, run: &str, expected: u64, now: Duration) -> Found {
        let found = self.entries.get(instance).cloned();
        let released = matches!(found, Some((_, None, _))) && expected == 0;
        match found {
            Some((revision, Some(owner), _)) if revision != expected && owner != run => Found::Theirs,
            _ => Found::Ours { revision: self.set(instance, Some(run), now), sent: now, released },
        }
    }
}

struct Daemon {
    state: State,
    /// Until when it is not running.
    stopped_until: Duration,
    /// Until when it does not reach NATS.
    cut_off_until: Duration,
    running: BTreeMap<String, u64>,
}

struct World {
    now: Duration,
    random: u64,
    bucket: Bucket,
    daemons: BTreeMap<String, Daemon>,
    instances: BTreeMap<String, Vec<String>>,
    settings: Cluster,
    takeovers: Vec<Reason>,
    runs: u64,
    moves: usize,
}

impl World {
    fn new(settings: Cluster, instances: usize, seed: u64) -> Self {
        let instances = (0..instances).map(|n| (format!("i{n}"), Vec::new())).collect();
        let (daemons, takeovers) = (BTreeMap::new(), Vec::new());
        let (now, bucket) = (Duration::from_secs(100), Bucket::default());
        Self { now, random: seed, bucket, daemons, instances, settings, takeovers, runs: 0, moves: 0 }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % limit
    }

    fn start(&mut self, name: &str) {
        self.runs += 1;
        let run = format!("run-{}", self.runs);
        let mut state = State::new(self.settings.clone(), name.to_owned(), run, self.now);
        state.configure(self.instances.clone());
        let (stopped_until, cut_off_until) = (Duration::ZERO, Duration::ZERO);
        let daemon = Daemon { state, stopped_until, cut_off_until, running: BTreeMap::new() };
        self.daemons.insert(name.to_owned(), daemon);
    }

    fn tick(&mut self) {
        self.now += TICK;
        let now = self.now;
        self.bucket.expire(now);
        let names: Vec<_> = self.daemons.keys().cloned().collect();
        for name in names {
            let mut daemon = self.daemons.remove(&name).unwrap();
            if now >= daemon.stopped_until {
                self.turn(&name, &mut daemon);
            }
            self.daemons.insert(name, daemon);
        }
        self.check();
    }

    fn turn(&mut self, name: &str, daemon: &mut Daemon) {
        let now = self.now;
        let is_up = now >= daemon.cut_off_until;
        if daemon.stopped_until + TICK >= now {
            daemon.state.resumed(now);
        }
        if !is_up {
            daemon.state.unsettle(now);
        }
        for action in daemon.state.step(now) {
            // What is done may not be confirmed.
            let is_confirmed = is_up && self.below(50) > 0;
            match action {
                Action::Take(instance, revision) => {
                    let found = (is_up || self.below(4) == 0)
                        .then(|| self.bucket.take(&instance, &daemon.state.run, revision, now));
                    let reason = daemon.state.taken(&instance, found.filter(|_| is_confirmed));
                    self.takeovers.extend(reason);
                }
                Action::Release(instance, revision) => {
                    let is_ours = self.bucket.entries.get(&instance).is_some_and(|entry| entry.0 == revision);
                    if is_up && is_ours {
                        self.bucket.set(&instance, None, now);
                    }
                    daemon.state.released(&instance);
                }
                Action::Announce if is_up => {
                    let heartbeat = daemon.state.heartbeat(now);
                    let others = self.daemons.values_mut().filter(|other| now >= other.cut_off_until);
                    others.for_each(|other| {
                        assert!(!other.state.receive(name, Some(heartbeat.clone()), now));
                    });
                }
                Action::Announce => {}
            }
        }
        for (instance, stop) in daemon.state.to_stop() {
            // Some take a while to drain, and one that is stuck never ends.
            if daemon.running.contains_key(&instance) && self.below(5) == 0 {
                daemon.running.remove(&instance);
                daemon.state.ended(&instance);
                self.moves += usize::from(stop == Stop::Moved);
            }
        }
        for instance in self.instances.keys() {
            if let Some(grant) = daemon.state.grant(instance, now) {
                let before = daemon.running.insert(instance.clone(), grant.epoch);
                assert!(before.is_none(), "{instance} was started twice");
            }
        }
    }

    /// No instance may be run by two at a time: not even by one that does not run just now, and would go on.
    fn check(&self) {
        for instance in self.instances.keys() {
            let may_act = self.daemons.iter().filter(|(_, daemon)| {
                let lease = daemon.state.slots.get(instance).and_then(|slot| slot.lease.as_ref());
                lease.is_some_and(|lease| self.now < lease.until && !lease.fences.publish.is_revoked())
            });
            let may_act: Vec<_> = may_act.map(|(name, _)| name).collect();
            assert!(may_act.len() <= 1, "{instance} may be run by {may_act:?} at {:?}", self.now);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.tick();
        }
    }

    /// The member that runs each instance.
    fn owners(&self) -> BTreeMap<&str, &str> {
        let running = self.daemons.iter().flat_map(|(name, daemon)| {
            daemon.running.keys().map(|instance| (instance.as_str(), name.as_str()))
        });
        running.collect()
    }

    fn running(&self) -> usize {
        self.daemons.values().map(|daemon| daemon.running.len()).sum()
    }
}

fn world(instances: usize, seed: u64, moves: u32) -> World {
    let settings = Cluster { enabled: true, moves, ..Cluster::default() };
    let mut world = World::new(settings, instances, seed);
    for name in ["a", "b", "c"] {
        world.start(name);
    }
    world
}

#[test]
fn every_instance_runs_in_one_daemon_whatever_is_killed_stopped_or_cut_off() {
    for seed in 0..20 {
        let mut world = world(30, seed, 10_000);
        for _ in 0..40 {
            let time = Duration::from_millis(100 + world.below(8_000));
            world.run(time);
            let name = ["a", "b", "c"][usize::try_from(world.below(3)).unwrap()];
            let until = world.now + Duration::from_millis(world.below(12_000));
            match world.below(5) {
                0 => {
                    world.daemons.remove(name);
                    world.run(Duration::from_millis(500));
                    world.start(name);
                }
                1 => world.daemons.get_mut(name).unwrap().stopped_until = until,
                2 => world.daemons.get_mut(name).unwrap().cut_off_until = until,
                3 => {
                    let daemon = world.daemons.get_mut(name).unwrap();
                    daemon.state.leave();
                    for instance in std::mem::take(&mut daemon.running).into_keys() {
                        daemon.state.ended(&instance);
                    }
                    world.run(Duration::from_secs(1));
                    world.start(name);
                }
                _ => {}
            }
        }
        world.run(Duration::from_secs(60));
        assert_eq!((world.owners().len(), world.running()), (30, 30), "seed {seed}");
        for (name, daemon) in &world.daemons {
            let own = daemon.state.instances().filter(|(_, target, _)| *target == Some(name.as_str()));
            assert_eq!(own.count(), daemon.running.len(), "seed {seed}: {name} runs what it should");
        }
    }
}

#[test]
fn an_instance_has_a_later_epoch_in_each_run_also_where_it_is_started_again_in_the_same_daemon() {
    let mut world = world(1, 7, 30);
    let mut last = 0;
    for round in 0..10 {
        world.run(Duration::from_secs(10));
        let (name, epoch) = world
            .daemons
            .iter()
            .find_map(|(name, daemon)| Some((name.clone(), *daemon.running.values().next()?)))
            .expect("it runs");
        assert!(epoch > last && epoch > FIRST_EPOCH, "{epoch} after {last}");
        last = epoch;
        let daemon = world.daemons.get_mut(&name).unwrap();
        if round % 2 == 0 {
            daemon.running.clear();
            daemon.state.ended("i0");
        } else {
            world.daemons.remove(&name);
            world.start(&name);
        }
    }
}

#[test]
fn a_member_that_joins_gets_its_share_one_at_a_time_and_no_faster_than_allowed() {
    let settings = Cluster { enabled: true, moves: 6, ..Cluster::default() };
    let mut world = World::new(settings, 60, 3);
    world.start("a");
    world.run(Duration::from_secs(10));
    assert_eq!(world.owners().values().filter(|owner| **owner == "a").count(), 60);
    world.start("b");
    world.tick();
    assert!(!world.daemons["b"].state.joined);
    world.run(Duration::from_secs(50));
    assert!(world.daemons["b"].state.joined);
    assert_eq!((world.moves, world.running()), (6, 60));
    world.run(Duration::from_secs(600));
    let share = world.owners().values().filter(|owner| **owner == "b").count();
    assert!((20..=40).contains(&share), "{share}");
    assert_eq!(world.moves, share, "only what the new member gets has moved");
}

#[test]
fn what_a_member_had_is_taken_soon_after_its_end_for_the_right_reason() {
    let mut world = world(30, 5, 10_000);
    world.run(Duration::from_secs(120));
    world.takeovers.clear();
    let had = world.daemons.remove("a").unwrap().running.len();
    world.run(TTL + Duration::from_millis(500));
    assert_eq!(world.running(), 30);
    assert_eq!(world.takeovers, vec![Reason::Expired; had]);
    world.takeovers.clear();
    let daemon = world.daemons.get_mut("b").unwrap();
    daemon.state.leave();
    let had = daemon.running.len();
    for instance in std::mem::take(&mut daemon.running).into_keys() {
        daemon.state.ended(&instance);
    }
    world.run(Duration::from_millis(500));
    assert_eq!(world.running(), 30);
    assert_eq!(world.takeovers, vec![Reason::Released; had]);
}

#[test]
fn while_nats_is_away_leases_are_lost_or_held_as_configured_and_a_stop_ends_them() {
    for (on_nats_loss, stopped, kept) in [
        (OnNatsLoss::StepDown, Duration::ZERO, 0),
        (OnNatsLoss::Hold, Duration::ZERO, 10),
        (OnNatsLoss::Hold, TTL, 0),
    ] {
        let settings = Cluster { enabled: true, on_nats_loss, ..Cluster::default() };
        let mut world = World::new(settings, 10, 9);
        world.start("a");
        world.run(Duration::from_secs(10));
        let end = world.now + Duration::from_secs(30);
        let daemon = world.daemons.get_mut("a").unwrap();
        (daemon.cut_off_until, daemon.stopped_until) = (end, world.now + stopped);
        world.run(Duration::from_secs(25));
        let state = &world.daemons["a"].state;
        assert_eq!(
            state.slots.values().filter(|slot| slot.lease.is_some()).count(),
            kept,
            "{on_nats_loss:?}"
        );
        world.run(Duration::from_secs(15));
        assert_eq!(world.running(), 10, "{on_nats_loss:?}");
    }
}

#[test]
fn a_member_that_was_stopped_gets_nothing_back_before_it_can_take_it() {
    let mut world = world(30, 11, 10_000);
    world.run(Duration::from_secs(30));
    let had = world.daemons["a"].running.len();
    world.daemons.get_mut("a").unwrap().stopped_until = world.now + TTL * 2;
    world.run(TTL * 2);
    let end = world.now + Duration::from_secs(30);
    let mut without = 0;
    while world.now < end {
        world.tick();
        // One at a time moves; a release that does not arrive leaves it to the end of its lease.
        without = without.max(30_usize.saturating_sub(world.owners().len()));
    }
    assert!(had > 3 && without <= 2, "{without} of {had} instances run nowhere at a time");
    assert_eq!(world.daemons["a"].running.len(), had);
}

#[test]
fn a_member_that_was_cut_off_takes_what_another_one_gives_up_as_soon_as_it_is_back() {
    let mut world = world(30, 13, 10_000);
    world.run(Duration::from_secs(30));
    world.daemons.get_mut("a").unwrap().cut_off_until = world.now + TTL * 2;
    world.run(TTL * 2 + Duration::from_millis(300));
    assert_eq!(world.owners().values().filter(|owner| **owner == "a").count(), 0);
    let daemon = world.daemons.get_mut("b").unwrap();
    daemon.state.leave();
    for instance in std::mem::take(&mut daemon.running).into_keys() {
        daemon.state.ended(&instance);
    }
    world.run(TTL / 5);
    // A release that does not arrive leaves it to the end of its lease.
    assert!(world.running() >= 28, "{} run", world.running());
    assert!(world.owners().values().any(|owner| *owner == "a"));
}

#[test]
fn what_is_stuck_in_a_member_runs_in_another_one_until_it_has_ended_there() {
    let mut world = world(9, 3, 10_000);
    world.run(Duration::from_secs(30));
    let had: Vec<_> = world.daemons["a"].running.keys().cloned().collect();
    world.daemons.get_mut("a").unwrap().state.stuck(&had[0]);
    // Its thread never ends.
    world.daemons.get_mut("a").unwrap().running.remove(&had[0]);
    world.run(Duration::from_secs(1));
    assert!(world.owners().contains_key(had[0].as_str()), "it is given up at once");
    assert_eq!(world.daemons["a"].running.len(), had.len() - 1);
    world.daemons.get_mut("a").unwrap().state.ended(&had[0]);
    world.run(Duration::from_secs(30));
    assert_eq!(world.owners()[had[0].as_str()], "a");
}

#[test]
fn a_member_that_ends_while_instances_are_handed_over_to_it_leaves_at_most_one_of_each_other_member_unowned()
{
    let mut world = world(60, 17, 10_000);
    world.run(Duration::from_secs(60));
    world.daemons.remove("a");
    world.run(TTL * 2);
    world.start("a");
    let end = world.now + Duration::from_secs(60);
    while world.daemons["a"].running.len() < 5 {
        assert!(world.now < end, "it gets none");
        world.tick();
    }
    world.daemons.remove("a");
    let (before, end) = (world.running(), world.now + TTL / 2);
    let mut least = before;
    while world.now < end {
        world.tick();
        least = least.min(world.running());
    }
    assert!(before - least <= 2, "{before} ran, and then {least}");
}
