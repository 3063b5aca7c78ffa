#![allow(clippy::unwrap_used)]
use std::fs::{self, File};
use std::ops::ControlFlow;

use super::*;
use crate::entry::{Access, Change, Outcome};
use crate::query::{Filter, query};
use crate::verify::verify;

const CHANGE: Change<'_> = Change {
    operator: "alice",
    uid: 1000,
    pid: 99,
    act: "secret.set",
    what: "db",
    detail: "",
    outcome: Outcome::Done,
    why: "",
};

fn append(log: &Log) -> Result<(), AppendError> {
    let access = crate::frame::tests::access();
    log.append(&Event::Open(access), false)
}

/// Details of what was written when the log went on, and notes of segments.
fn told(folder: &Path) -> Vec<String> {
    let mut told = Vec::new();
    query(folder, &Filter::default(), |entry| {
        match entry.record {
            Record::Event(Event::Change(change)) => told.push(change.detail.to_owned()),
            Record::Segment(switch) => told.push(switch.note.to_owned()),
            _ => {}
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    told.retain(|one| !one.is_empty());
    told
}

#[test]
fn a_file_that_cannot_be_written_is_left_for_another_and_what_was_missed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), Options::default(), "test").unwrap();
    append(&log).unwrap();
    // The kernel refuses to write through this one.
    let read_only = File::open(segment::path(folder.path(), 1)).unwrap();
    lock(&log.0.writer).segment.file = Arc::new(read_only);
    let refused = (0..20).filter(|_| append(&log).is_err()).count();
    assert_eq!(refused, 20);
    let health = log.health();
    assert!(
        health.failing.is_some() && health.refused == 20,
        "{health:?}"
    );
    let error = log.append_durable(&Event::Change(CHANGE)).unwrap_err();
    assert!(error.to_string().contains("Bad file"), "{error}");
    // By itself: nobody appends.
    while log.health().failing.is_some() {
        std::thread::sleep(Duration::from_millis(10));
    }
    append(&log).unwrap();
    let told = told(folder.path());
    assert!(
        told[0].starts_with("segment 1: ") && told[1].starts_with("21 events were not written"),
        "{told:?}"
    );
    let verified = verify(folder.path(), Some(log.anchor())).unwrap();
    assert!(
        verified.is_whole() && verified.segments == 2,
        "{verified:?}"
    );
}

#[test]
fn after_a_sync_that_failed_nothing_of_before_is_acknowledged_and_another_segment_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), Options::default(), "test").unwrap();
    append(&log).unwrap();
    let seq = log.anchor().seq;
    // Something that the kernel does not sync.
    let (end, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let unsyncable = Arc::new(File::from(std::os::fd::OwnedFd::from(end)));
    {
        let mut synced = lock(&log.0.synced);
        synced.seq = 0;
        lock(&log.0.writer).unsynced.push(unsyncable);
    }
    assert!(log.0.sync_up_to(seq).is_err());
    assert!(
        log.0.sync_up_to(seq).is_err(),
        "the kernel tells of it once"
    );
    assert!(log.health().failing.is_some());
    assert!(append(&log).is_err(), "until it goes on elsewhere");
    while log.health().failing.is_some() {
        std::thread::sleep(Duration::from_millis(10));
    }
    log.append_durable(&Event::Change(CHANGE)).unwrap();
    assert!(log.0.sync_up_to(seq).is_err());
    let verified = verify(folder.path(), Some(log.anchor())).unwrap();
    assert!(
        verified.is_whole() && verified.segments == 2,
        "{verified:?}"
    );
}

#[test]
fn what_an_older_version_says_late_is_not_news() {
    let folder = tempfile::tempdir().unwrap();
    let quota = crate::quota::Quota {
        per_second: 1000,
        burst: 1,
    };
    let options = Options {
        opens: quota,
        ..Options::default()
    };
    let (log, _) = Log::open(folder.path(), options, "test").unwrap();
    let older = crate::frame::tests::access();
    // Beyond the quota, and so counted; then there is quota again for a newer version.
    (0..100).for_each(|_| append(&log).unwrap());
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(3) {
        std::hint::spin_loop();
    }
    let newer = Access {
        version: older.version + 1,
        ..older
    };
    log.append(&Event::Open(newer), false).unwrap();
    // A kill: the count is an entry behind the newer open only now.
    let killed = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let _ = fs::copy(entry.path(), killed.path().join(entry.file_name()));
    }
    for _ in 0..2 {
        let (log, _) = Log::open(killed.path(), options, "test").unwrap();
        let readers = log.adoption().readers(older.secret);
        assert_eq!(readers[0].version, newer.version);
    }
}

#[test]
fn all_who_wait_for_a_sync_of_what_they_wrote_share_one() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), Options::default(), "test").unwrap();
    let before = {
        let mut synced = lock(&log.0.synced);
        synced.running = true;
        synced.syncs
    };
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            append(&log).unwrap();
            let log = log.clone();
            std::thread::spawn(move || log.sync_entries())
        })
        .collect();
    lock(&log.0.synced).running = false;
    log.0.synced_more.notify_all();
    for one in waiting {
        one.join().unwrap().unwrap();
    }
    // One for those who had written, and one or two by the log's own thread and for who came late.
    let syncs = lock(&log.0.synced).syncs - before;
    assert!((1..32).contains(&syncs), "{syncs} syncs of 64 who waited");
}
