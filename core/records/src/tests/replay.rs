//! Files of another time, another history or another store, put in place of our own.

use super::damage::{Truth, refusal, small_store, whole_or_refused};
use super::*;
use crate::IndexFound;

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
fn the_snapshot_of_a_history_that_went_another_way_is_refused_or_healed() {
    let (folder, mut truth) = small_store();
    let other = folder.copied();
    // The same number, transaction and count of records; another record.
    for (folder, record) in [(&folder, b"one"), (&other, b"two")] {
        let (records, _) = folder.open().unwrap();
        records.commit(vec![put(5, record)]).unwrap();
        records.snapshot().unwrap();
        settled(&records);
    }
    truth.insert(5, b"one".to_vec());
    replay(&other, &folder, "snapshot-");
    assert!(
        whole_or_refused(&folder, &truth, "fork")
            .unwrap()
            .snapshot_rewritten
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
