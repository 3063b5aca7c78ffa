//! Random sequences of what operators, services and misfortune do, against a model that knows what
//! each descriptor may see. A sequence that goes wrong is made as short as it still goes wrong.
//!
//! `REFERENCE_SEED=` plays one again, and the ones after it; `make soak` plays three hundred.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod change;
mod model;
mod play;

use std::time::{Duration, Instant};

use model::{FILES, READERS, SECRETS, SERVICES};
use play::{Died, Op, play};
use tests::soak::{Random, rounds, tell};

/// Operations of a sequence.
const LENGTH: usize = 120;
/// How long a sequence is made shorter for.
const SHRINKING: Duration = Duration::from_secs(240);

fn any(random: &mut Random) -> Op {
    let mut below = |end: usize| usize::try_from(random.below(end as u64)).unwrap();
    let (reader, file, held) = (below(READERS.len()), below(FILES.len()), below(1000));
    let (service, secret) = (below(SERVICES.len()), below(SECRETS.len()));
    match below(100) {
        0..16 => Op::Set(secret),
        16..24 => Op::Revoke(service, secret),
        24..34 => Op::Grant(service, secret),
        34..54 => Op::Open(reader, file),
        54..59 => Op::Fork(reader, held),
        59..64 => Op::Map(reader, held),
        64..76 => Op::Look(reader, held),
        76..80 => Op::Close(reader, held),
        80..84 => Op::Names(reader),
        84..88 => Op::Size(reader, file),
        88..92 => Op::Watch(reader, file),
        92 | 93 => Op::Kill(Died::Secretsd),
        94 => Op::Kill(Died::Injector),
        95 => Op::Kill(Died::Both),
        96 => Op::TornSet(secret, held as u64 * 5),
        97 => Op::TornGrant(service, secret, held as u64 * 5),
        98 => Op::TornRevoke(service, secret, held as u64 * 5),
        _ => Op::Lose(reader),
    }
}

/// What went wrong, without the numbers that differ from play to play.
fn kind(wrong: &str) -> String {
    let line = wrong.lines().next().unwrap_or_default();
    line.chars().filter(|one| !one.is_numeric()).collect()
}

/// Leaves out what it can, while the same still goes wrong.
fn shorter(mut ops: Vec<Op>, mut wrong: String) -> (Vec<Op>, String) {
    let start = Instant::now();
    let mut size = ops.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < ops.len() && start.elapsed() < SHRINKING {
            let end = ops.len().min(at + size);
            let rest = [&ops[..at], &ops[end..]].concat();
            match play(&rest) {
                Err(now) if kind(&now) == kind(&wrong) => (ops, wrong) = (rest, now),
                _ => at = end,
            }
        }
        size /= 2;
    }
    (ops, wrong)
}

#[test]
fn each_descriptor_sees_what_the_model_says() {
    let first = Random::new("REFERENCE_SEED").seed();
    let sequences = rounds(3, 300);
    let mut looks = 0;
    for number in 0..sequences {
        let seed = first.wrapping_add(number);
        let mut random = Random::of(seed);
        let ops: Vec<Op> = (0..LENGTH).map(|_| any(&mut random)).collect();
        match play(&ops) {
            Ok(more) => looks += more,
            Err(wrong) => {
                eprintln!("REFERENCE_SEED={seed} goes wrong, and is made shorter: {wrong}");
                let (ops, wrong) = shorter(ops, wrong);
                panic!("REFERENCE_SEED={seed}: {wrong}\nby {ops:#?}");
            }
        }
    }
    tell(
        "reference",
        Some(first),
        &format!(
            "{sequences} sequences of {LENGTH} operations, {looks} looks: each as the model says"
        ),
    );
}

/// A connection that is lost while nobody serves it.
fn lost_meanwhile(died: Died) -> Vec<Op> {
    let (open, map) = (Op::Open(1, 0), Op::Map(1, 0));
    let looks = [Op::Look(1, 0), Op::Look(1, 1)];
    let first = [open, map, Op::Kill(died), Op::Lose(0)];
    let then = [Op::Revoke(0, 0), Op::Look(1, 0), Op::Grant(0, 0), open];
    [&first[..], &looks, &then].concat()
}

#[test]
fn nothing_of_a_connection_that_was_lost_while_nobody_served_it_is_read() {
    for died in [Died::Secretsd, Died::Injector, Died::Both] {
        play(&lost_meanwhile(died)).unwrap();
    }
}
