//! A disk that fails: a scenario is played once for each call that it makes, and that call fails.
//! What was acknowledged is there after a restart, and after a power cut; what was refused as not
//! written is not; reading goes on; status says what is wrong.
//!
//! `FAILING_DISK_SEED=` takes the same calls again; `make soak` takes them all, and a
//! quarter of it each once, with one of the four ways to fail.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use tests::powercut::{Fault, Part};
use tests::soak::{Random, is_long, rounds, tell};
use tests::trial::{Target, Trial, scenario};

/// How many calls of each part fail in `make test`. sled may hang on its own, which takes the store
/// seconds to see.
const SHORT: [(Part, u64); 2] = [(Part::Own, 24), (Part::Index, 3)];

fn every_call_fails_in_turn(target: Target) {
    let (before, during) = scenario(target);
    let mut trial = Trial::begin(target);
    let start = trial.prepare(&before).unwrap();
    let (counts, _) = trial.fail(&start, &during, None).unwrap();
    let mut random = Random::new("FAILING_DISK_SEED");
    let seed = random.seed();
    let (mut tried, mut failed, mut calls, mut broken) = (0, 0, 0, Vec::new());
    for (part, short) in SHORT {
        let all: Vec<Fault> = (1..=counts[&part])
            .flat_map(|nth| [(nth, libc::EIO), (nth, libc::ENOSPC)])
            .flat_map(|(nth, errno)| [(nth, errno, false), (nth, errno, true)])
            .map(|(nth, errno, lasts)| Fault {
                part,
                nth,
                errno,
                lasts,
            })
            .collect();
        calls += counts[&part];
        let count = rounds(short, all.len() as u64);
        for number in 0..count as usize {
            let step = all.len() / count as usize;
            let fault = match is_long() {
                true => all[number * step + number % step],
                false => *random.one_of(&all),
            };
            match trial.fail(&start, &during, Some(fault)) {
                Ok((_, first)) => failed += u64::from(first.is_some()),
                Err(why) => broken.push(format!("{fault:?}: {why}")),
            }
            tried += 1;
        }
    }
    assert!(broken.is_empty(), "seed {seed}:\n{}", broken.join("\n"));
    eprintln!(
        "{target:?}: {calls} calls; {failed} of {tried} faults were met\n{}",
        trial.tally
    );
    // Threads differ in how many calls they make, so the last ones may not come about.
    assert!(failed > tried / 2, "{failed} of {tried}");
    assert!(
        trial
            .tally
            .of("it took no writes until a restart, and status said so")
            > 0
    );
    let what = format!(
        "{failed} calls of {target:?} failed, of {calls}, with EIO or ENOSPC, once or from then on: \
         nothing acknowledged lost, reading went on"
    );
    tell("failing_disk", Some(seed), &what);
}

#[test]
fn a_store_loses_nothing_whichever_call_of_its_disk_fails_and_says_what_is_wrong() {
    every_call_fails_in_turn(Target::Store);
}

#[test]
fn records_lose_nothing_whichever_call_of_a_snapshot_fails_and_say_what_is_wrong() {
    every_call_fails_in_turn(Target::Records);
}
