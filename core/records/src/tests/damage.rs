//! A damaged folder is recovered whole or refused by name; no value is ever wrong, old or missing.

use std::collections::BTreeMap;

use super::*;
use crate::IndexFound;
use crate::index::{Index, SledIndex};

/// What must be read, or nothing at all.
type Truth = BTreeMap<u32, Vec<u8>>;

/// A store that has a snapshot, a journal behind it, and an index with all of it; closed.
fn small_store() -> (Folder, Truth) {
    let (folder, records) = Folder::with_records();
    let mut truth = Truth::new();
    for number in 0..8 {
        let record = vec![number as u8; 40 + number as usize * 13];
        records.commit(vec![put(number, &record)]).unwrap();
        truth.insert(number, record);
    }
    records.snapshot().unwrap();
    records
        .commit(vec![put(1, b"newer"), put(20, b"new"), remove(2)])
        .unwrap();
    records.commit(vec![put(3, &[3; 900]), remove(20)]).unwrap();
    truth.extend([(1, b"newer".to_vec()), (3, vec![3; 900])]);
    truth.remove(&2);
    settled(&records);
    drop(records);
    (folder, truth)
}

fn holds(records: &Records, truth: &Truth, when: &str) {
    let names: Vec<_> = records
        .entries()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let expected: Vec<_> = truth.keys().copied().map(name).collect();
    assert_eq!(names, expected, "{when}");
    for (number, record) in truth {
        assert_eq!(
            get(records, *number).as_ref(),
            Some(record),
            "{when}: {number}"
        );
    }
    assert_eq!((get(records, 2), get(records, 20)), (None, None), "{when}");
}

/// Opens a damaged folder: whole, or refused with a name and a way back.
fn whole_or_refused(folder: &Folder, truth: &Truth, when: &str) -> Option<Opened> {
    match folder.open() {
        Ok((records, opened)) => {
            holds(&records, truth, when);
            records.commit(vec![put(99, b"after")]).unwrap();
            records.snapshot().unwrap();
            drop(records);
            let mut truth = truth.clone();
            truth.insert(99, b"after".to_vec());
            holds(&folder.open().unwrap().0, &truth, when);
            Some(opened)
        }
        Err(error) => {
            refusal(&error, when);
            None
        }
    }
}

fn refusal(error: &RecordsError, when: &str) {
    assert!(
        matches!(error, RecordsError::Damaged { .. }),
        "{when}: {error}"
    );
    assert!(
        error.to_string().contains("deploy restore"),
        "{when}: {error}"
    );
}

fn flip(folder: &Folder, file: &Path, at: usize, bit: u8) {
    let path = folder.path().join(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

fn bytes_of(folder: &Folder) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |file: PathBuf| (file.clone(), fs::read(folder.path().join(file)).unwrap());
    folder.files().into_iter().map(read).collect()
}

#[test]
fn any_flipped_bit_is_recovered_whole_or_refused_by_name() {
    let (folder, truth) = small_store();
    let mut outcomes = BTreeMap::<String, (u32, u32)>::new();
    for file in folder.files() {
        let len = fs::metadata(folder.path().join(&file)).unwrap().len() as usize;
        // What is in use of a file is at its front; the rest is zeros.
        let front = len.min(4096);
        let few = (0..front).step_by((front / 60).max(1));
        let far = (front..len).step_by((len / 12).max(1));
        for (at, bit) in few.chain(far).zip((0..8).cycle()) {
            let damaged = folder.copied();
            flip(&damaged, &file, at, bit);
            let when = format!("{} byte {at} bit {bit}", file.display());
            let opened = whole_or_refused(&damaged, &truth, &when);
            let (whole, refused) = outcomes.entry(file.display().to_string()).or_default();
            *(if opened.is_some() { whole } else { refused }) += 1;
        }
    }
    for (file, (whole, refused)) in outcomes {
        // The journal is the only witness of what was last; everything else has a second one.
        assert_eq!(
            file == "journal",
            refused > 0,
            "{file}: {whole} whole, {refused} refused"
        );
    }
}

#[test]
fn a_file_that_was_cut_is_recovered_whole_or_refused_by_name() {
    let (folder, truth) = small_store();
    for file in folder.files() {
        let len = fs::metadata(folder.path().join(&file)).unwrap().len();
        for part in 0..16 {
            let damaged = folder.copied();
            let path = damaged.path().join(&file);
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(len * part / 16)
                .unwrap();
            whole_or_refused(
                &damaged,
                &truth,
                &format!("{} to {part}/16", file.display()),
            );
        }
    }
}

#[test]
fn a_snapshot_that_is_damaged_is_written_anew_from_the_index() {
    let (folder, truth) = small_store();
    let snapshot = folder.named("snapshot-");
    let file = snapshot.file_name().unwrap().as_ref();
    for at in (0..fs::metadata(&snapshot).unwrap().len() as usize).step_by(23) {
        let damaged = folder.copied();
        flip(&damaged, file, at, (at % 8) as u8);
        let (records, opened) = damaged.open().unwrap();
        assert!(opened.snapshot_rewritten, "{at}");
        holds(&records, &truth, &format!("{at}"));
    }
    fs::remove_file(&snapshot).unwrap();
    assert!(
        whole_or_refused(&folder, &truth, "removed")
            .unwrap()
            .snapshot_rewritten
    );
}

#[test]
fn a_snapshot_and_an_index_that_are_damaged_are_refused_and_left_as_they_are() {
    let (folder, _) = small_store();
    let snapshot = folder.named("snapshot-");
    flip(&folder, snapshot.file_name().unwrap().as_ref(), 200, 3);
    let index = SledIndex::open(&folder.named("index-")).unwrap();
    index.put(&name(5), 6, b"other").unwrap();
    index.sync().unwrap();
    drop(index);
    let before = bytes_of(&folder);
    let error = folder.open().unwrap_err();
    refusal(&error, "both");
    assert!(error.to_string().contains("snapshot-"), "{error}");
    assert_eq!(bytes_of(&folder), before);
}

#[test]
fn without_a_journal_nothing_is_believed() {
    let (folder, _) = small_store();
    fs::remove_file(folder.path().join("journal")).unwrap();
    refusal(&folder.open().unwrap_err(), "no journal");
}

#[test]
fn without_an_index_it_is_filled_anew() {
    let (folder, truth) = small_store();
    fs::remove_dir_all(folder.named("index-")).unwrap();
    let opened = whole_or_refused(&folder, &truth, "no index").unwrap();
    assert!(matches!(opened.index, IndexFound::Rebuilt(_)), "{opened}");
}

#[test]
fn what_the_index_lost_kept_or_brought_back_is_noticed_at_that_read() {
    let (folder, truth) = small_store();
    let index = SledIndex::open(&folder.named("index-")).unwrap();
    index.remove(&name(0)).unwrap();
    index.put(&name(1), 2, &[1; 53]).unwrap();
    index.put(&name(2), 3, &[2; 66]).unwrap();
    index.put(&name(4), 5, b"forged").unwrap();
    drop(index);
    let (records, opened) = folder.open().unwrap();
    assert_eq!(opened.index, IndexFound::Whole, "it looks whole");
    holds(&records, &truth, "first");
    assert_eq!(records.health().healed, 3);
    settled(&records);
    holds(&records, &truth, "then");
    assert_eq!(records.health().healed, 3, "the index has them again");
}

#[test]
fn what_stops_sled_from_opening_is_taken_away_first() {
    let (folder, truth) = small_store();
    let index = folder.named("index-");
    fs::write(index.join("snap.00000000000007FF.generating"), b"half").unwrap();
    fs::write(index.join("snap.0000000000000FFF"), b"").unwrap();
    let opened = whole_or_refused(&folder, &truth, "leftovers").unwrap();
    assert_eq!(opened.index, IndexFound::Whole, "{opened}");
}

#[test]
fn what_an_interrupted_snapshot_left_is_taken_away() {
    let (folder, truth) = small_store();
    fs::write(folder.path().join("journal.new"), b"half").unwrap();
    fs::write(folder.path().join("snapshot-00000003.new"), b"half").unwrap();
    fs::copy(
        folder.named("snapshot-00000002"),
        folder.path().join("snapshot-00000001"),
    )
    .ok();
    let unfinished = SledIndex::open(&folder.path().join("index-00000099")).unwrap();
    unfinished.put(&name(0), 1, b"half").unwrap();
    drop(unfinished);
    let (records, opened) = folder.open().unwrap();
    assert_eq!(opened.index, IndexFound::Whole, "{opened}");
    holds(&records, &truth, "leftovers");
    drop(records);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|one| one.unwrap())
        .collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

/// The store as it was before the last transactions, and as it is now.
fn older_and_newer() -> (Folder, Folder, Truth) {
    let (older, mut truth) = small_store();
    let newer = older.copied();
    let (records, _) = newer.open().unwrap();
    records
        .commit(vec![remove(5), put(6, b"after a revoke")])
        .unwrap();
    truth.remove(&5);
    truth.insert(6, b"after a revoke".to_vec());
    settled(&records);
    drop(records);
    (older, newer, truth)
}

fn replay(from: &Folder, to: &Folder, start: &str) {
    let old = from.named(start);
    let new = to.named(start);
    if old.is_dir() {
        fs::remove_dir_all(&new).unwrap();
        copy_dir(&old, &new);
    } else {
        fs::copy(old, new).unwrap();
    }
}

#[test]
fn an_older_journal_alone_is_refused() {
    let (older, newer, _) = older_and_newer();
    replay(&older, &newer, "journal");
    let before = fs::read(newer.path().join("journal")).unwrap();
    let error = newer.open().unwrap_err();
    refusal(&error, "older journal");
    assert!(error.to_string().contains("older copy"), "{error}");
    assert_eq!(fs::read(newer.path().join("journal")).unwrap(), before);
}

#[test]
fn an_older_index_alone_catches_up() {
    let (older, newer, truth) = older_and_newer();
    replay(&older, &newer, "index-");
    let opened = whole_or_refused(&newer, &truth, "older index").unwrap();
    assert_eq!(opened.index, IndexFound::Behind(2), "{opened}");
}

#[test]
fn older_files_from_before_a_snapshot_are_refused_or_healed() {
    let (older, newer, truth) = older_and_newer();
    let (records, _) = newer.open().unwrap();
    records.snapshot().unwrap();
    settled(&records);
    drop(records);
    let replayed = newer.copied();
    replay(&older, &replayed, "journal");
    refusal(&replayed.open().unwrap_err(), "journal");
    let replayed = newer.copied();
    replay(&older, &replayed, "journal");
    fs::copy(
        older.named("snapshot-"),
        replayed.path().join("snapshot-00000002"),
    )
    .unwrap();
    refusal(&replayed.open().unwrap_err(), "journal and snapshot");
    let replayed = newer.copied();
    replay(&older, &replayed, "snapshot-");
    let opened = whole_or_refused(&replayed, &truth, "snapshot").unwrap();
    assert!(opened.snapshot_rewritten, "{opened}");
    let replayed = newer.copied();
    replay(&older, &replayed, "index-");
    let opened = whole_or_refused(&replayed, &truth, "index").unwrap();
    assert!(matches!(opened.index, IndexFound::Rebuilt(_)), "{opened}");
}

#[test]
fn a_history_that_was_rolled_back_and_went_on_is_told_from_the_one_that_the_index_has() {
    let (older, newer, _) = older_and_newer();
    let (records, _) = older.open().unwrap();
    records.commit(vec![put(5, b"another way")]).unwrap();
    records.commit(vec![put(5, b"and on")]).unwrap();
    drop(records);
    replay(&older, &newer, "journal");
    let error = newer.open().unwrap_err();
    refusal(&error, "fork");
    assert!(
        error.to_string().contains("not the one that the index has"),
        "{error}"
    );
}

#[test]
fn files_of_another_store_are_refused_or_healed() {
    let (folder, truth) = small_store();
    let other = Folder::new();
    let records = Records::create(other.path(), [3; 16], &KEY).unwrap();
    for number in 0..12 {
        records.commit(vec![put(number, b"other")]).unwrap();
        if number == 8 {
            records.snapshot().unwrap();
        }
    }
    settled(&records);
    drop(records);
    let swapped = folder.copied();
    replay(&other, &swapped, "journal");
    let error = swapped.open().unwrap_err();
    refusal(&error, "journal");
    assert!(
        error.to_string().contains("journal of another store"),
        "{error}"
    );
    let swapped = folder.copied();
    replay(&other, &swapped, "snapshot-");
    assert!(
        whole_or_refused(&swapped, &truth, "snapshot")
            .unwrap()
            .snapshot_rewritten
    );
    let swapped = folder.copied();
    replay(&other, &swapped, "index-");
    let opened = whole_or_refused(&swapped, &truth, "index").unwrap();
    assert!(matches!(opened.index, IndexFound::Rebuilt(_)), "{opened}");
}

#[test]
fn an_index_that_fails_while_it_serves_is_noticed_and_begun_anew() {
    let (folder, truth) = small_store();
    let (records, _) = folder.open().unwrap();
    records.disk().index_missing("a test says so");
    holds(&records, &truth, "failed");
    assert!(records.health().index.is_some());
    records.snapshot().unwrap();
    assert_eq!(records.health().index, None);
    settled(&records);
    holds(&records, &truth, "anew");
}
