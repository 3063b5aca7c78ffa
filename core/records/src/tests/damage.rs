//! A damaged folder is recovered whole or refused by name; no value is ever wrong, old or missing.

use std::collections::BTreeMap;

use super::*;
use crate::IndexFound;
use crate::index::{Index, SledIndex};

/// What must be read, or nothing at all.
pub(super) type Truth = BTreeMap<u32, Vec<u8>>;

/// A store that has a snapshot, a journal behind it, and an index with all of it; closed.
pub(super) fn small_store() -> (Folder, Truth) {
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
pub(super) fn whole_or_refused(folder: &Folder, truth: &Truth, when: &str) -> Option<Opened> {
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

pub(super) fn refusal(error: &RecordsError, when: &str) {
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

#[test]
fn the_index_serves_what_it_has_though_snapshot_and_journal_are_lost_meanwhile() {
    let (folder, truth) = small_store();
    let (records, opened) = folder.open().unwrap();
    assert_eq!(opened.index, IndexFound::Whole);
    let lose = || {
        for file in [folder.named("snapshot-"), folder.path().join("journal")] {
            let len = fs::metadata(&file).unwrap().len();
            let zeros = vec![0; len as usize];
            // In place: whoever has it open sees it.
            let mut file = fs::OpenOptions::new().write(true).open(file).unwrap();
            std::io::Write::write_all(&mut file, &zeros).unwrap();
        }
    };
    lose();
    holds(&records, &truth, "the index alone");
    assert_eq!(records.health().healed, 0);
    records.commit(vec![put(7, b"new"), remove(6)]).unwrap();
    settled(&records);
    lose();
    assert_eq!(get(&records, 7).as_deref(), Some(&b"new"[..]));
    assert_eq!(get(&records, 5), truth.get(&5).cloned());
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
