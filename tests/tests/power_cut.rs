//! Power cuts and kills at moments that nobody chose: what was acknowledged is there, whole, and
//! nothing else is.
//!
//! `POWER_CUT_SEED=` and `STORE_KILL_SEED=` play the same rounds again, but for the order in which
//! threads come; `make soak` has 1,000 cuts of a store and of records, and 10,000 kills.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use tests::powercut::Cut;
use tests::soak::{Random, is_long, rounds, tell};
use tests::trial::{Ending, FLOOD, Op, Start, Tally, Target, Trial, scenario};

/// Rounds with endings of one kind; ends the test with the seed where a promise is broken.
fn play(
    target: Target,
    count: u64,
    mut random: Random,
    ending: impl Fn(&mut Random) -> Ending,
) -> Tally {
    let seed = random.seed();
    let mut trial = Trial::begin(target);
    for round in 0..count {
        let (seed_of_round, ending) = (random.next_seed(), ending(&mut random));
        if let Err(broken) = trial.round(seed_of_round, ending) {
            panic!(
                "seed {seed}, round {round}, {ending:?}: {broken}\n{}",
                trial.tally
            );
        }
    }
    if let Err(broken) = trial.check() {
        panic!("seed {seed}, at the end: {broken}");
    }
    eprintln!("{target:?}\n{}", trial.tally);
    trial.tally.clone()
}

/// After how many changes of the disk: often while the store is opened, seldom so late that it has
/// made a snapshot by itself.
fn moment(random: &mut Random) -> u64 {
    match random.below(100) {
        0..25 => random.below(12),
        25..70 => random.below(400),
        70..96 => random.below(FLOOD),
        _ => FLOOD + random.below(500),
    }
}

/// A cut; or a kill, so that the power may go before what a kill has left unsynced is synced.
fn a_cut(random: &mut Random) -> Ending {
    let cut = *random.one_of(&Cut::ALL);
    match random.below(100) {
        0..8 => Ending::Close(random.below(100), cut),
        8..30 => Ending::Kill(moment(random)),
        _ => Ending::Cut(moment(random), cut),
    }
}

/// What of the first rounds is lost; `None`: nothing was.
fn lost(trial: &mut Trial, rounds: u64, seed: u64) -> Option<String> {
    let mut random = Random::of(seed);
    (0..rounds).find_map(|_| {
        let ending = Ending::Cut(40 + random.below(100), Cut::Everything);
        trial.round(random.next_seed(), ending).err()
    })
}

/// Says what was tried, of rounds that were worth it.
fn report(what: &str, seed: u64, count: u64, tally: &Tally) {
    assert!(tally.of("compared in full") > count / 2);
    assert!(tally.of("under way when it ended") > count / 4);
    let [kills, there, not_there] = [
        "kills",
        "a change under way was there, whole",
        "a change under way was not there, not half of it",
    ]
    .map(|what| tally.of(what));
    let cuts = count - kills;
    let text = format!(
        "{cuts} power cuts and {kills} SIGKILLs of {what}, {there} changes under way came about and \
         {not_there} did not: nothing acknowledged lost, nothing half there"
    );
    tell("power_cut", Some(seed), &text);
}

#[test]
fn the_harness_sees_that_sled_alone_loses_what_its_flush_acknowledged() {
    let mut trial = Trial::begin(Target::Sled);
    let lost =
        lost(&mut trial, 5, 1).expect("sled with flush() lost nothing: this disk does not cut");
    eprintln!("sled alone: {lost}");
    assert!(lost.contains("not as acknowledged"), "{lost}");
}

#[test]
fn the_harness_sees_a_store_lose_on_a_disk_that_lies_about_its_syncs() {
    for target in [Target::Store, Target::Records] {
        let mut trial = Trial::begin(target);
        trial.disk.lie(true);
        let lost = lost(&mut trial, 5, 2).expect("nothing was lost on a disk that syncs nothing");
        eprintln!("{target:?} on a disk that lies: {lost}");
    }
}

#[test]
fn a_store_keeps_what_it_acknowledged_through_power_cuts() {
    let count = rounds(30, 1300);
    let random = Random::new("POWER_CUT_SEED");
    let seed = random.seed();
    let tally = play(Target::Store, count, random, a_cut);
    for seldom in [
        "acknowledged: RotateRoot",
        "acknowledged: SlotRemove",
        "a snapshot that the store made by itself",
    ] {
        assert!(count < 300 || tally.of(seldom) > 0, "{seldom}: none");
    }
    report("a store", seed, count, &tally);
}

#[test]
fn records_keep_what_they_acknowledged_through_power_cuts_in_snapshots_too() {
    let count = rounds(30, 1300);
    let random = Random::new("POWER_CUT_SEED");
    let seed = random.seed();
    let tally = play(Target::Records, count, random, a_cut);
    assert!(tally.of("acknowledged: Snapshot") > count / 2);
    report("records in snapshots", seed, count, &tally);
}

/// What each kind of change leaves on the disk, at one of its changes after another: `step` apart on
/// average, every one in `make soak`. Gives how often the power went.
fn each_change(trial: &mut Trial, start: &Start, ops: &[Op], cuts: &[Cut], step: u64) -> u64 {
    let mut random = Random::new("POWER_CUT_SEED");
    let (mut after, mut count) = (0, 0);
    loop {
        for cut in cuts {
            match trial.cut_at(start, ops, after, *cut, &mut random) {
                Ok(true) => count += 1,
                Ok(false) => return count,
                Err(broken) => panic!("seed {}: {broken}", random.seed()),
            }
        }
        after += 1 + random.below(2 * step - 1);
    }
}

#[test]
fn the_power_may_go_at_any_change_of_a_scenario() {
    for target in [Target::Store, Target::Records] {
        let (before, during) = scenario(target);
        let mut trial = Trial::begin(target);
        let start = trial.prepare(&before).unwrap();
        let cuts = match is_long() {
            true => &Cut::ALL[..],
            false => &[Cut::Everything, Cut::Random],
        };
        let step = 100 / rounds(8, 100);
        let count = each_change(&mut trial, &start, &during, cuts, step);
        assert!(count > 10, "{count}");
        let text = format!("{count} power cuts of {target:?} at one change after another");
        tell("power_cut", None, &text);
    }
}

/// Right after the rename that switches to other files, the old ones may be needed again.
fn a_kill_then_a_cut(target: Target, op: Op, folder: &str, nth: usize) {
    let mut trial = Trial::begin(target);
    let (before, _) = scenario(target);
    trial.prepare(&before).unwrap();
    trial.disk.sync_all();
    let start = trial.kill_at_rename(op, folder, nth).unwrap();
    let cuts = [Cut::BytesOnly, Cut::Random, Cut::Random, Cut::Random];
    let count = each_change(&mut trial, &start, &[], &cuts, 1);
    // At least the sync, the frame that says "open", and its sync.
    assert!(count >= 6, "{count}");
}

#[test]
fn a_power_cut_may_call_back_the_switch_of_generations_that_a_kill_left_unsynced() {
    a_kill_then_a_cut(Target::Store, Op::RotateRoot, "/state", 1);
}

#[test]
fn a_key_slot_that_was_seen_after_a_kill_is_not_called_back_by_a_power_cut() {
    let op = Op::SlotAdd("second.key".into());
    a_kill_then_a_cut(Target::Store, op, "/state/gen-00000001", 1);
}

#[test]
fn a_power_cut_may_call_back_the_switch_of_journals_that_a_kill_left_unsynced() {
    a_kill_then_a_cut(Target::Records, Op::Snapshot, "/state", 2);
}

#[test]
fn a_store_keeps_what_it_acknowledged_through_kills() {
    let count = rounds(40, 10_000);
    let random = Random::new("STORE_KILL_SEED");
    let seed = random.seed();
    let kill = |random: &mut Random| Ending::Kill(moment(random));
    let tally = play(Target::Store, count, random, kill);
    report("a store", seed, count, &tally);
}
