//! Which member of a cluster should run an instance: weighted rendezvous hashing (highest random weight). Every daemon
//! computes the same from the same members, and a member that joins or leaves moves only the instances that it gets or had.

use std::collections::BTreeSet;

/// A member, as far as instances are given to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its share, in proportion to others; with 0 it gets nothing.
    pub weight: u32,
    /// What instances may ask for.
    pub labels: BTreeSet<String>,
    /// Instances that it cannot run.
    pub unable: BTreeSet<String>,
}

/// The member that should run this instance. `only` are the labels of which it must have one; empty: any member may. `None`
/// if no member may.
pub fn owner<'a>(
    instance: &str,
    only: &[String],
    candidates: impl IntoIterator<Item = &'a Candidate>,
) -> Option<&'a Candidate> {
    let may_run = |candidate: &&Candidate| {
        candidate.weight > 0
            && !candidate.unable.contains(instance)
            && (only.is_empty() || only.iter().any(|label| candidate.labels.contains(label)))
    };
    let instance = hash(instance);
    let scored = candidates.into_iter().filter(may_run).map(|candidate| {
        let mixed = mix(instance ^ hash(&candidate.name).rotate_left(32));
        (score(mixed, candidate.weight), candidate)
    });
    let best = scored.max_by(|(one, a), (other, b)| one.total_cmp(other).then_with(|| b.name.cmp(&a.name)));
    best.map(|(_, candidate)| candidate)
}

/// `-weight / ln(u)` with u in (0, 1): the largest one is that of a member with the probability of its share of all weights.
fn score(mixed: u64, weight: u32) -> f64 {
    // The 53 bits that a float holds exactly, and never 0 or 1.
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / uniform.ln()
}

/// FNV-1a, the same on all machines and in all versions.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The end of `SplitMix64`: every bit of the result depends on every bit of the value.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn candidate(name: &str, weight: u32, labels: &str) -> Candidate {
        let labels = labels.split_whitespace().map(str::to_owned).collect();
        Candidate { name: name.to_owned(), weight, labels, unable: BTreeSet::new() }
    }

    fn members(number: usize) -> Vec<Candidate> {
        (0..number).map(|n| candidate(&format!("pontoon-{n}"), 1, "")).collect()
    }

    fn instances(number: usize) -> Vec<String> {
        (0..number).map(|n| format!("account_{n}")).collect()
    }

    fn owners<'a>(instances: &[String], members: &'a [Candidate]) -> Vec<&'a str> {
        let name = |instance: &String| owner(instance, &[], members).unwrap().name.as_str();
        instances.iter().map(name).collect()
    }

    fn shares<'a>(owners: &[&'a str]) -> BTreeMap<&'a str, usize> {
        let mut shares = BTreeMap::new();
        owners.iter().for_each(|owner| *shares.entry(*owner).or_default() += 1);
        shares
    }

    #[test]
    fn labels_and_weights_say_who_may_run_an_instance() {
        let all = [candidate("a", 1, "eu"), candidate("b", 1, "us gpu"), candidate("c", 0, "eu us asia")];
        for (only, wanted) in
            [("eu", Some("a")), ("us", Some("b")), ("gpu asia", Some("b")), ("asia", None), ("mars", None)]
        {
            let only: Vec<_> = only.split_whitespace().map(str::to_owned).collect();
            for instance in instances(20) {
                let found = owner(&instance, &only, &all).map(|candidate| candidate.name.as_str());
                assert_eq!(found, wanted, "{only:?}");
            }
        }
        assert_eq!(owner("x", &[], &[]), None);
    }

    /// What daemons of different versions must agree on.
    #[test]
    fn the_assignment_is_the_same_in_every_version() {
        let all = members(4);
        let owners = owners(&instances(12), &all);
        let numbers: Vec<_> = owners.iter().map(|owner| owner.trim_start_matches("pontoon-")).collect();
        assert_eq!(numbers.join(""), "330101233222");
    }

    #[test]
    fn the_order_of_the_members_does_not_matter() {
        let (all, mut reversed) = (members(7), members(7));
        reversed.reverse();
        let instances = instances(500);
        assert_eq!(owners(&instances, &all), owners(&instances, &reversed));
    }

    #[test]
    fn instances_are_shared_in_proportion_to_the_weights() {
        let all = [candidate("small", 1, ""), candidate("large", 3, "")];
        let instances = instances(10_000);
        let share = shares(&owners(&instances, &all))["large"];
        assert!((7_200..7_800).contains(&share), "{share}");
    }

    /// The limits of the design: 10,000 instances on 100 daemons. A hash that is uniform gives each 100 ± 10, and a member
    /// that joins or leaves moves what it gets or had: about 100, and nothing else.
    #[test]
    fn ten_thousand_instances_on_a_hundred_members_are_spread_and_move_no_more_than_they_must() {
        let (instances, all) = (instances(10_000), members(101));
        let before = owners(&instances, &all[..100]);
        let shares = shares(&before);
        let (most, least) = (shares.values().max().unwrap(), shares.values().min().unwrap());
        println!("100 members: {least} to {most} instances, where the mean is 100");
        assert!(shares.len() == 100 && *most <= 140 && *least >= 60, "{least} to {most}");
        let joined = owners(&instances, &all);
        let moved: Vec<_> = before.iter().zip(&joined).filter(|(one, other)| one != other).collect();
        println!("a join moves {} instances, where the ideal is {}", moved.len(), 10_000 / 101);
        assert!(moved.iter().all(|(_, to)| **to == "pontoon-100"));
        assert!((60..=140).contains(&moved.len()), "{}", moved.len());
        let left = owners(&instances, &all[1..]);
        let moved: Vec<_> = joined.iter().zip(&left).filter(|(one, other)| one != other).collect();
        println!("a leave moves {} instances", moved.len());
        assert!(moved.iter().all(|(from, _)| **from == "pontoon-0"));
        assert!((60..=140).contains(&moved.len()), "{}", moved.len());
    }
}
