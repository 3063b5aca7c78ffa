//! A damaged store is recovered whole or refused by name: never a wrong, old or missing value.
//!
//! In the long form (`SOAK=100`) every bit and every length; else a part that a seed chooses.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod damaged;

use common::{by, typed};
use damaged::journal::{frames, records, snapshot_records, swap, swap_frames};
use damaged::*;

/// What a refusal may call the thing that is broken, by the file that is.
fn is_named(refusal: &str, file: &str) -> bool {
    let names: &[&str] = match file.rsplit('/').next().unwrap() {
        // Nothing in it says which of the two is wrong.
        "STORE" | "CURRENT" | "keys" => &["STORE", "CURRENT", "/keys"],
        name => &[name],
    };
    names.iter().any(|name| refusal.contains(name))
}

/// Without the numbers of sled's own files.
fn short(file: &str) -> &str {
    let name = file.strip_prefix("gen-00000002/").unwrap_or(file);
    name.split_once("snap.").map_or(name, |_| "index, snap")
}

#[test]
fn a_flipped_bit_is_recovered_whole_or_refused_by_name() {
    let life = by_file();
    let mut random = Random::new();
    let mut counts = Vec::new();
    let (good, _) = life.last();
    for (name, bytes) in &good.0 {
        let mut tries = Tries::of(life.last());
        let file = name.to_str().unwrap();
        // Behind what is used there are zeros: a bit of each sector of those.
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        let mut all: Vec<_> = (0..used * 8).collect();
        let beyond = (used..bytes.len()).step_by(512);
        all.extend(beyond.map(|at| {
            let at = at + random.below(512.min(bytes.len() - at));
            at * 8 + random.below(8)
        }));
        let many = rounds(if used < 512 { used } else { 300 }, all.len());
        for bit in random.pick(all, many) {
            let (when, refusal) = tries.flip(good, file, bit);
            if let Some(refusal) = refusal {
                assert!(is_named(&refusal, file), "{when}: {refusal}");
            }
        }
        counts.push(format!("{}: {}", short(file), tries.counts()));
    }
    tell(
        &format!("bits flipped; {}", counts.join("; ")),
        Some(random.seed),
    );
}

/// All subsets of some parts.
fn subsets<'a>(parts: &[&'a str]) -> Vec<Vec<&'a str>> {
    let has = |set: usize, at: usize| set >> at & 1 == 1;
    let of = |set: usize| {
        let chosen = parts.iter().enumerate().filter(|(at, _)| has(set, *at));
        chosen.map(|(_, part)| *part).collect()
    };
    (1..1 << parts.len()).map(of).collect()
}

/// After a kill, and without the index: nobody else knows what journal and snapshot said.
#[test]
fn without_an_index_a_flipped_bit_of_journal_or_snapshot_is_refused() {
    let life = by_file();
    let mut random = Random::new();
    let (mut good, truth) = (life.last().0.clone(), life.last().1);
    good.take("/index-");
    let close = frames(good.bytes("/journal")).pop().unwrap();
    good.bytes("/journal")[close.at..close.at + close.bytes].fill(0);
    let mut tries = Tries::of((&good, truth));
    for file in ["/journal", "/snapshot-"] {
        let bytes = good.clone().bytes(file).clone();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let all: Vec<_> = (0..used * 8).collect();
        for bit in random.pick(all, rounds(200, used * 8)) {
            let (when, refusal) = tries.flip(&good, file, bit);
            let refusal = refusal.unwrap_or_else(|| panic!("{when}: it is not seen"));
            assert!(refusal.contains(file), "{when}: {refusal}");
        }
    }
    tell(
        &format!("bits without an index; {}", tries.counts()),
        Some(random.seed),
    );
}

#[test]
fn a_damaged_keys_file_opens_by_no_passphrase() {
    const WORDS: &str = "the words";
    let life = life(typed(WORDS), &|| by(WORDS));
    let mut random = Random::new();
    let (mut good, truth) = (life.last().0.clone(), life.last().1);
    good.take("second.key");
    good.take("third.key");
    let used = good.bytes("/keys").len();
    let mut tries = Tries::of((&good, truth)).by_passphrase(WORDS);
    let all: Vec<_> = (0..used * 8).collect();
    for bit in random.pick(all, rounds(40, used * 8)) {
        let (when, refusal) = tries.flip(&good, "/keys", bit);
        let refusal = refusal.unwrap_or_else(|| panic!("{when}: it is not seen"));
        // Of its own slot a passphrase cannot tell which of the two is wrong.
        let is_named = refusal.contains("/keys") || refusal.contains("`keys` is damaged");
        assert!(is_named, "{when}: {refusal}");
    }
    tell(
        &format!("keys, by a passphrase; {}", tries.counts()),
        Some(random.seed),
    );
}

#[test]
fn without_the_other_slots_a_damaged_key_file_is_named() {
    let life = by_file();
    let mut random = Random::new();
    let (mut good, truth) = (life.last().0.clone(), life.last().1);
    good.take("second.key");
    good.take("third.key");
    let mut tries = Tries::of((&good, truth));
    let bytes = good.clone().bytes("file-slot.key").len();
    let all: Vec<_> = (0..bytes * 8).collect();
    for bit in random.pick(all, rounds(150, bytes * 8)) {
        let (when, refusal) = tries.flip(&good, "file-slot.key", bit);
        if let Some(refusal) = refusal {
            assert!(refusal.contains("file-slot.key"), "{when}: {refusal}");
        }
    }
    let mut bad = good.clone();
    bad.take("file-slot.key");
    let refusal = tries.damage(&bad, "missing").unwrap();
    assert!(refusal.contains("file-slot.key"), "{refusal}");
    tell(
        &format!("the only key file; {}", tries.counts()),
        Some(random.seed),
    );
}

#[test]
fn a_file_that_was_cut_or_is_missing_is_recovered_whole_or_refused_by_name() {
    let life = by_file();
    let mut random = Random::new();
    let mut counts = Vec::new();
    let (good, _) = life.last();
    for (name, bytes) in good.0.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let mut tries = Tries::of(life.last());
        let file = name.to_str().unwrap();
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        let near = |at: usize| [at.saturating_sub(1), at, at + 1];
        let mut lengths: Vec<_> = [0, used, bytes.len() - 1]
            .into_iter()
            .flat_map(near)
            .collect();
        if file.ends_with("/journal") {
            lengths.extend(frames(bytes).iter().flat_map(|frame| near(frame.at)));
        }
        if file.contains("/snapshot-") {
            let ends = snapshot_records(bytes);
            lengths.extend(ends.iter().flat_map(|record| near(record[0])));
        }
        let all = (0..used)
            .chain((used..bytes.len()).step_by(512))
            .collect::<Vec<_>>();
        let many = rounds(if used < 512 { 15 } else { 50 }, all.len());
        lengths.extend(random.pick(all, many));
        lengths.retain(|length| *length < bytes.len());
        lengths.sort_unstable();
        lengths.dedup();
        for length in lengths {
            let mut bad = good.clone();
            bad.0.get_mut(name).unwrap().truncate(length);
            let when = format!("{file} cut to {length}");
            if let Some(refusal) = tries.damage(&bad, &when) {
                assert!(is_named(&refusal, file), "{when}: {refusal}");
            }
        }
        let mut bad = good.clone();
        bad.0.remove(name);
        if let Some(refusal) = tries.damage(&bad, &format!("{file} missing")) {
            assert!(is_named(&refusal, file), "{file} missing: {refusal}");
        }
        counts.push(format!("{}: {}", short(file), tries.counts()));
    }
    tell(
        &format!("lengths; {}", counts.join("; ")),
        Some(random.seed),
    );
}

#[test]
fn two_records_or_frames_that_changed_places_are_seen() {
    let life = by_file();
    let (good, _) = life.last();
    let mut tries = Tries::of(life.last());
    let mut image = good.clone();
    let journal = image.bytes("/journal").clone();
    let found = records(&journal);
    for (at, (name, one)) in found.iter().enumerate() {
        for (other_name, other) in &found[at + 1..] {
            let mut bad = good.clone();
            if one.len() == other.len() {
                swap(bad.bytes("/journal"), one, other);
            } else {
                swap(bad.bytes("/journal"), name, other_name);
            }
            // Two versions of one record have the same name.
            if bad != *good {
                let refusal = tries.damage(&bad, "two records of the journal").unwrap();
                assert!(is_named(&refusal, "/journal"), "{refusal}");
            }
        }
    }
    let frames = frames(&journal);
    for (at, one) in frames.iter().enumerate() {
        for other in frames[at + 1..]
            .iter()
            .filter(|other| other.bytes == one.bytes)
        {
            let mut bad = good.clone();
            swap_frames(bad.bytes("/journal"), one, other);
            let refusal = tries.damage(&bad, "two frames").unwrap();
            assert!(is_named(&refusal, "/journal"), "{refusal}");
        }
    }
    assert!(
        tries.refused >= 12 && tries.whole == 0,
        "{}",
        tries.counts()
    );
    let snapshot = image.bytes("/snapshot-").clone();
    let found = snapshot_records(&snapshot);
    let db = image.bytes("/db").clone();
    let in_index = |record: &[usize]| {
        let bytes = &snapshot[record[0]..=record[record.len() - 1]];
        let at = db.windows(bytes.len()).position(|window| window == bytes)?;
        Some((at..at + bytes.len()).collect::<Vec<_>>())
    };
    let mut swapped = 0;
    for (at, one) in found.iter().enumerate() {
        for other in found[at + 1..]
            .iter()
            .filter(|other| other.len() == one.len())
        {
            let mut bad = good.clone();
            swap(bad.bytes("/snapshot-"), one, other);
            assert_eq!(tries.damage(&bad, "two records of the snapshot"), None);
            if let (Some(one), Some(other)) = (in_index(one), in_index(other)) {
                let mut bad = good.clone();
                swap(bad.bytes("/db"), &one, &other);
                assert_eq!(tries.damage(&bad, "two records of the index"), None);
                swapped += 1;
            }
        }
    }
    assert!(swapped > 0, "none of the index");
    tell(
        &format!("records and frames swapped; {}", tries.counts()),
        None,
    );
}

#[test]
fn two_files_that_changed_places_are_seen() {
    let life = by_file();
    let (good, _) = life.last();
    let mut tries = Tries::of(life.last());
    let files: Vec<_> = good.0.keys().collect();
    for (at, one) in files.iter().enumerate() {
        for other in &files[at + 1..] {
            let mut bad = good.clone();
            bad.0.insert((*one).clone(), good.0[*other].clone());
            bad.0.insert((*other).clone(), good.0[*one].clone());
            let when = format!("{} and {}", one.display(), other.display());
            if let Some(refusal) = tries.damage(&bad, &when) {
                let named = |file: &std::path::Path| is_named(&refusal, file.to_str().unwrap());
                assert!(named(one) || named(other), "{when}: {refusal}");
            }
        }
    }
    tell(&format!("two files swapped; {}", tries.counts()), None);
}

/// Whose files the parts of a folder are: never half of one and half of the other.
#[test]
fn files_of_another_store_of_the_same_passphrase_are_seen() {
    const WORDS: &str = "the same words";
    let make = || life(typed(WORDS), &|| by(WORDS));
    let (ours, theirs) = (make(), make());
    let (good, truth) = ours.last();
    let (other, others) = theirs.last();
    let parts = [
        "STORE",
        "CURRENT",
        "/keys",
        "/journal",
        "/snapshot-",
        "/index-",
    ];
    let mut random = Random::new();
    let all = subsets(&parts);
    let (mut few, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|set| set.len() == 1);
    few.push(parts.to_vec());
    let many = rounds(24, rest.len());
    few.extend(random.pick(rest, many));
    let mut tries = Tries::of(ours.last()).by_passphrase(WORDS);
    for set in few {
        let mut bad = good.clone();
        for part in &set {
            bad = bad.with(part, other);
        }
        let when = format!("{set:?} of another store");
        // With all of these it is that other store, and whoever knows the id sees it.
        let is_other = ["STORE", "/keys", "/journal"]
            .iter()
            .all(|part| set.contains(part));
        tries.damage_to(&bad, &when, &mut |picture, _| {
            assert_eq!(picture, if is_other { others } else { truth }, "{when}");
            assert_eq!(picture.id != truth.id, is_other);
        });
    }
    assert!(tries.whole > 2, "{}", tries.counts());
    tell(
        &format!("files of another store; {}", tries.counts()),
        Some(random.seed),
    );
}

/// What is older is refused or caught up with, unless journal and index are both: that is all of the
/// generation, and only an anchor outside tells. Of `keys` alone, slots that were added are missing.
#[test]
fn an_older_file_alone_is_never_believed() {
    let life = by_file();
    let (good, truth) = life.last();
    let parts = ["CURRENT", "/keys", "/journal", "/snapshot-", "/index-"];
    let mut tries = Tries::of(life.last());
    let mut believed = 0;
    for (moment, (older, old)) in life.moments.iter().enumerate().rev().skip(1) {
        for set in subsets(&parts) {
            let mut bad = good.clone();
            for part in &set {
                bad = bad.with(part, older);
            }
            let when = format!("{set:?} of moment {moment}");
            let rolled_back =
                set.contains(&"/journal") && (set.contains(&"/index-") || old.at.0 < truth.at.0);
            tries.damage_to(&bad, &when, &mut |picture, report| {
                let mut may = truth.clone();
                if rolled_back && picture.at != truth.at {
                    assert!(picture.at < truth.at, "{when}: an anchor tells");
                    may.clone_from(old);
                    may.slots.clone_from(&truth.slots);
                    believed += 1;
                }
                if set.contains(&"/keys") {
                    may.slots.clone_from(&old.slots);
                }
                assert_eq!(*picture, may, "{when}: {report:?}");
            });
        }
        // The older snapshot under the newer one's name.
        let mut bad = good.clone();
        *bad.bytes("/snapshot-") = older.clone().bytes("/snapshot-").clone();
        assert_eq!(tries.damage(&bad, "an older snapshot, renamed"), None);
        // The older generation beside the one in use: what an interrupted rotation leaves.
        let mut bad = good.clone();
        bad.0.extend(older.clone().take("gen-00000001").0);
        assert_eq!(tries.damage(&bad, "an older generation beside"), None);
    }
    assert!(believed > 0);
    tell(
        &format!(
            "older files; {}, {believed} of them all of an older store",
            tries.counts()
        ),
        None,
    );
}

#[test]
fn a_folder_rolled_back_as_a_whole_shows_against_an_anchor() {
    let life = by_file();
    for (one, then) in life.moments.iter().zip(&life.moments[1..]) {
        assert!(one.1.at < then.1.at, "a backup's version counts up");
        let mut tries = Tries::of((&one.0, &one.1));
        assert_eq!(tries.damage(&one.0, "rolled back"), None);
    }
}

#[test]
fn a_journal_cut_at_any_frame_is_refused_wherever_the_end_is_known() {
    let life = by_file();
    let (closed, truth) = life.last();
    let mut image = closed.clone();
    let journal = image.bytes("/journal").clone();
    let frames = frames(&journal);
    let close = frames.last().unwrap();
    assert_eq!(close.kind, 4, "a clean stop ends the journal");
    let zeroed = |image: &Image, from: usize, to: usize| {
        let mut image = image.clone();
        image.bytes("/journal")[from..to].fill(0);
        image
    };
    let killed = zeroed(closed, close.at, close.at + close.bytes);
    let without = |image: &Image| {
        let mut image = image.clone();
        image.take("/index-");
        image
    };
    let (older, then) = &life.moments[3];
    let bases = [
        ("closed", true, closed.clone()),
        ("killed", true, killed.clone()),
        ("closed, no index", false, without(closed)),
        ("killed, no index", false, without(&killed)),
        ("killed, older index", false, killed.with("/index-", older)),
    ];
    let mut counts = Vec::new();
    for (base, known, good) in &bases {
        let mut tries = Tries::of((good, truth));
        let mut unseen = 0;
        for (number, frame) in frames.iter().enumerate() {
            let before = frames[..number].last().map_or(0, |before| before.last_seq);
            let mut cut = good.clone();
            cut.bytes("/journal").truncate(frame.at);
            let all = journal.len();
            let ways = [
                ("cut", cut),
                ("zeros from", zeroed(good, frame.at, all)),
                ("zeros in", zeroed(good, frame.at, frame.at + frame.bytes)),
                ("a sector of", zeroed(good, frame.at, frame.at + 512)),
                (
                    "the last sector of",
                    zeroed(good, frame.at + frame.bytes - 512, frame.at + frame.bytes),
                ),
            ];
            for (way, bad) in ways {
                let when = format!("{base}: {way} frame {}", number + 1);
                let refusal = tries.damage_to(&bad, &when, &mut |picture, report| {
                    if picture == truth {
                        return;
                    }
                    // Nothing knows of the last transaction any more, and that is said.
                    assert!(!known, "{when}: {report:?}");
                    assert_eq!(picture.at, (truth.at.0, before), "{when}");
                    // Unless it is the store of an earlier stop as a whole, its index too.
                    let opened = report.opened.as_ref().unwrap().to_string();
                    let is_said = opened.contains("would leave no trace");
                    assert!(is_said || picture == then, "{when}: {opened}");
                    unseen += 1;
                });
                if let Some(refusal) = refusal {
                    assert!(refusal.contains("/journal"), "{when}: {refusal}");
                }
            }
        }
        assert_eq!(*known, unseen == 0, "{base}");
        counts.push(format!(
            "{base}: {}, {unseen} left no trace",
            tries.counts()
        ));
    }
    tell(&format!("journal cut; {}", counts.join("; ")), None);
}
