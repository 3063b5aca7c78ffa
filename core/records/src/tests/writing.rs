//! Many writers, failing disks, and what happens in the background.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use sys::lock::lock;

use super::*;
use crate::tuning::Tuning;

fn tuned(folder: &Folder, tuning: &Tuning) -> Records {
    Records::open_tuned(folder.path(), STORE, &KEY, tuning.clone())
        .unwrap()
        .0
}

#[test]
fn writers_that_wait_together_share_one_sync() {
    let (folder, records) = Folder::with_records();
    let disk = records.disk();
    let before = records.health().syncs;
    let held = lock(&disk.writer);
    thread::scope(|scope| {
        let write = |number: u32| {
            let records = &records;
            scope.spawn(move || records.commit(vec![put(number, &[1])]).unwrap())
        };
        let writers: Vec<_> = (0..64).map(write).collect();
        until("all wait", || disk.group.waiting() == 64);
        assert_eq!(
            records.entries().len(),
            0,
            "nothing is visible before the sync"
        );
        drop(held);
        let mut numbers: Vec<_> = writers.into_iter().map(|one| one.join().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(
            numbers,
            (1..65).collect::<Vec<_>>(),
            "each has a number of its own"
        );
    });
    let health = records.health();
    assert_eq!((health.commits, health.syncs - before), (64, 1));
    drop(records);
    assert_eq!(folder.open().unwrap().0.entries().len(), 64);
}

#[test]
fn a_frame_has_an_end_when_many_wait_with_large_records() {
    let (_folder, records) = Folder::with_records();
    let disk = records.disk();
    let held = lock(&disk.writer);
    thread::scope(|scope| {
        for number in 0..20 {
            let records = &records;
            scope.spawn(move || {
                records
                    .commit(vec![put(number, &vec![1; 1 << 20])])
                    .unwrap()
            });
        }
        until("all wait", || disk.group.waiting() == 20);
        drop(held);
    });
    let health = records.health();
    assert!((3..8).contains(&health.syncs), "{}", health.syncs);
    assert_eq!(records.entries().len(), 20);
}

#[test]
fn after_a_sync_that_failed_nothing_is_written_until_the_records_are_opened_again() {
    let (folder, records) = Folder::with_records();
    drop(records);
    let tuning = Tuning::default();
    let records = tuned(&folder, &tuning);
    records.commit(vec![put(1, b"before")]).unwrap();
    tuning.faults.syncs.fail_after(0);
    let error = records
        .commit(vec![put(1, b"unknown"), put(2, b"unknown")])
        .unwrap_err();
    assert!(matches!(error, RecordsError::Io { .. }), "{error}");
    assert_eq!(
        get(&records, 1).as_deref(),
        Some(&b"before"[..]),
        "reading goes on"
    );
    assert_eq!(
        get(&records, 2),
        None,
        "what was not acknowledged is not shown"
    );
    let error = records.commit(vec![put(3, b"after")]).unwrap_err();
    assert!(matches!(error, RecordsError::Stopped(_)), "{error}");
    assert!(error.to_string().contains("restart secretsd"), "{error}");
    assert!(matches!(records.snapshot(), Err(RecordsError::Stopped(_))));
    assert!(records.health().stopped.is_some());
    drop(records);
    let (records, opened) = folder.open().unwrap();
    assert!(opened.unclean, "no closing frame behind what is not known");
    let found = (get(&records, 1), get(&records, 2));
    let (before, unknown) = (Some(b"before".to_vec()), Some(b"unknown".to_vec()));
    assert!(
        found == (before, None) || found == (unknown.clone(), unknown),
        "whole or not at all"
    );
    records.commit(vec![put(3, b"after")]).unwrap();
}

#[test]
fn a_write_that_failed_is_not_there_and_may_be_tried_again() {
    let (folder, records) = Folder::with_records();
    drop(records);
    let tuning = Tuning::default();
    let records = tuned(&folder, &tuning);
    tuning.faults.writes.fail_after(0);
    records.commit(vec![put(1, b"lost")]).unwrap_err();
    assert_eq!(get(&records, 1), None);
    let troubles = records.health().troubles();
    assert!(troubles[0].contains("nothing was written"), "{troubles:?}");
    records.commit(vec![put(1, b"kept")]).unwrap();
    assert_eq!(records.health().troubles(), [""; 0]);
    drop(records);
    assert_eq!(
        get(&folder.open().unwrap().0, 1).as_deref(),
        Some(&b"kept"[..])
    );
}

#[test]
fn a_sync_that_finds_the_disk_full_does_not_say_that_nothing_was_written() {
    let (folder, records) = Folder::with_records();
    drop(records);
    let tuning = Tuning::default();
    let records = tuned(&folder, &tuning);
    tuning.faults.syncs.find_full();
    let error = records.commit(vec![put(1, b"there")]).unwrap_err();
    assert!(matches!(error, RecordsError::Io { .. }), "{error}");
    let troubles = records.health().troubles();
    assert!(troubles[0].contains("restart secretsd"), "{troubles:?}");
    drop(records);
    // This disk has kept it.
    let (records, _) = folder.open().unwrap();
    assert_eq!(get(&records, 1).as_deref(), Some(&b"there"[..]));
}

#[test]
fn a_snapshot_that_fails_leaves_the_old_files_in_use() {
    let (folder, records) = Folder::with_records();
    records
        .commit(vec![put(1, b"one"), put(2, b"two")])
        .unwrap();
    drop(records);
    let tuning = Tuning::default();
    let records = tuned(&folder, &tuning);
    records.commit(vec![put(1, b"uno")]).unwrap();
    tuning.faults.syncs.fail_after(0);
    records.snapshot().unwrap_err();
    let troubles = records.health().troubles();
    assert!(troubles[0].contains("tried again"), "{troubles:?}");
    let names = |folder: &Folder| {
        let entry = |one: std::io::Result<fs::DirEntry>| one.unwrap().file_name();
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(entry).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&folder),
        ["index-00000001", "journal", "snapshot-00000001"]
    );
    records.commit(vec![put(3, b"three")]).unwrap();
    records.snapshot().unwrap();
    assert_eq!(records.health().troubles(), [""; 0]);
    assert_eq!(
        names(&folder),
        ["index-00000002", "journal", "snapshot-00000002"]
    );
    drop(records);
    let (records, _) = folder.open().unwrap();
    assert_eq!(get(&records, 1).as_deref(), Some(&b"uno"[..]));
    assert_eq!(records.entries().len(), 3);
}

#[test]
fn reads_and_writes_go_on_while_snapshots_are_made() {
    let folder = Folder::on_disk();
    let records = Records::create(folder.path(), STORE, &KEY).unwrap();
    records
        .commit(
            (0..400)
                .map(|number| put(number, &0u64.to_le_bytes()))
                .collect(),
        )
        .unwrap();
    let ended = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    let value =
        |record: Option<Vec<u8>>| u64::from_le_bytes(record.unwrap()[..8].try_into().unwrap());
    thread::scope(|scope| {
        for writer in 0..4 {
            let (records, ended, written) = (&records, &ended, &written);
            scope.spawn(move || {
                // Two names of each writer have the same value at any moment.
                for round in 1u64.. {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let own = writer * 100 + (round % 50) as u32 * 2;
                    let both = vec![
                        put(own, &round.to_le_bytes()),
                        put(own + 1, &round.to_le_bytes()),
                    ];
                    records.commit(both).unwrap();
                    assert_eq!(get(records, own).unwrap(), round.to_le_bytes());
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            let mut last = vec![0; 400];
            while !ended.load(Ordering::Relaxed) {
                for number in 0..400 {
                    let now = value(get(&records, number));
                    assert!(now >= last[number as usize], "an old value came back");
                    last[number as usize] = now;
                }
            }
        });
        for round in 1..=15 {
            until("writers wrote", || {
                written.load(Ordering::Relaxed) >= round * 20
            });
            records.snapshot().unwrap();
        }
        ended.store(true, Ordering::Relaxed);
    });
    let before: Vec<_> = (0..400).map(|number| get(&records, number)).collect();
    settled(&records);
    drop(records);
    let (records, opened) = folder.open().unwrap();
    assert!(!opened.unclean, "{opened}");
    let after: Vec<_> = (0..400).map(|number| get(&records, number)).collect();
    assert!(before == after);
    assert!(
        (0..400)
            .step_by(2)
            .all(|own| get(&records, own) == get(&records, own + 1))
    );
}

#[test]
fn a_long_journal_is_folded_into_a_snapshot_by_itself() {
    let (folder, records) = Folder::with_records();
    drop(records);
    let tuning = Tuning {
        journal_limit: 100_000,
        ..Tuning::default()
    };
    let records = tuned(&folder, &tuning);
    for number in 0..300 {
        records.commit(vec![put(number, &[5; 700])]).unwrap();
    }
    until("a snapshot", || records.health().snapshot_seq > 0);
    until("the rest", || records.health().journal_bytes < 150_000);
    assert_eq!(records.entries().len(), 300);
}

#[test]
fn what_was_removed_goes_from_the_files_by_itself() {
    let (folder, records) = Folder::with_records();
    records.commit(vec![put(1, b"one")]).unwrap();
    records.commit(vec![remove(1)]).unwrap();
    drop(records);
    let tuning = Tuning {
        stale_after: Duration::from_millis(20),
        ..Tuning::default()
    };
    let records = tuned(&folder, &tuning);
    assert_eq!(records.health().superseded, 1, "known after opening, too");
    until("gone", || records.health().superseded == 0);
}

#[test]
fn an_index_that_failed_is_begun_anew_by_itself() {
    let (_folder, records) = Folder::with_records();
    records.commit(vec![put(1, b"one")]).unwrap();
    records.disk().index_missing("a test says so");
    records.disk().bell.notify_all();
    until("anew", || records.health().index.is_none());
    assert_eq!(get(&records, 1).as_deref(), Some(&b"one"[..]));
}
