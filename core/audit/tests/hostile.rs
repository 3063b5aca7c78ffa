//! What may go wrong beside the log, and who may want it to: kills between two writes, floods, readers
//! beside a writer, segments that go while they are read.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use audit::{Access, Event, Filter, Log, Options, Quota, Verdict, query, verify};
use common::{CHANGE, access, accesses, append, jsons, until};

fn options() -> Options {
    common::options(64 << 10, 10_000_000)
}

fn open(folder: &Path, options: Options) -> Log {
    Log::open(folder, options, "test").unwrap().0
}

#[test]
fn a_spare_that_a_power_cut_has_left_empty_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options());
    append(&log, 1);
    log.close();
    drop(log);
    for length in [0, 100, 64 << 10, 128 << 10] {
        let spare = folder.path().join("segment-0000000002");
        fs::write(spare, vec![0; length]).unwrap();
        let (log, found) = Log::open(folder.path(), options(), "test").unwrap();
        assert_eq!(found.damage, "", "{length}");
        log.close();
        drop(log);
        assert!(verify(folder.path(), None).unwrap().is_whole(), "{length}");
    }
}

#[test]
fn a_changed_newest_entry_is_damage_and_takes_none_before_it_along() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options());
    (0..8).for_each(|unique| append(&log, unique));
    log.close();
    drop(log);
    let path = folder.path().join("segment-0000000001");
    let bytes = fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for place in [used - 1, used - 40, used - 300, used - 600] {
        let copy = tempfile::tempdir().unwrap();
        let mut other = bytes.clone();
        other[place] ^= 1;
        fs::write(copy.path().join("segment-0000000001"), &other).unwrap();
        assert!(!verify(copy.path(), None).unwrap().is_whole(), "{place}");
        let (log, found) = Log::open(copy.path(), options(), "test").unwrap();
        assert!(found.damage.contains("segment 1"), "{place}: {found:?}");
        drop(log);
        let kept = fs::read(copy.path().join("segment-0000000001")).unwrap();
        assert_eq!(kept, other, "evidence stays as it is");
        assert!(!verify(copy.path(), None).unwrap().is_whole(), "{place}");
    }
}

#[test]
fn verify_and_query_beside_a_writer_neither_see_damage_nor_miss_an_entry() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options());
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (log, ends) = (&log, &ends);
            scope.spawn(move || {
                let mut unique = thread;
                while !ends.load(Ordering::Relaxed) {
                    append(log, unique);
                    unique += 2;
                    if unique % 200 < 2 {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        let mut after = 0;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..200 {
                let anchor = log.anchor();
                let verified = verify(folder.path(), Some(anchor)).unwrap();
                assert!(verified.is_whole(), "{verified:?}");
                let filter = Filter {
                    after,
                    ..Filter::default()
                };
                query(folder.path(), &filter, |entry| {
                    assert_eq!(entry.seq, after + 1);
                    after = entry.seq;
                    ControlFlow::Continue(())
                })
                .unwrap();
                assert!(after >= anchor.seq);
            }
        }));
        ends.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}

#[test]
fn old_segments_may_go_while_the_log_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let few = Options {
        segments: 3,
        ..options()
    };
    let log = open(folder.path(), few);
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut unique = 0;
            while !ends.load(Ordering::Relaxed) {
                append(&log, unique);
                unique += 1;
                if unique.is_multiple_of(500) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..200 {
                let verified = verify(folder.path(), None).unwrap();
                assert!(verified.is_whole(), "{verified:?}");
            }
        }));
        ends.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}

#[test]
fn a_flood_of_opens_without_room_keeps_no_change_from_the_reserve() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options());
    let in_the_way = folder.path().join("segment.new");
    fs::create_dir_all(in_the_way.join("x")).unwrap();
    let mut refused = 0_u64;
    let mut opens = 0_u64;
    while refused < 100 {
        match log.append(&Event::Open(access(opens)), false) {
            Ok(()) => opens += 1,
            Err(_) => refused += 1,
        }
        assert!(opens < 100_000);
    }
    // Each behind a refusal of this very moment.
    for _ in 0..10 {
        log.append_durable(&Event::Change(CHANGE)).unwrap();
        assert!(log.append(&Event::Open(access(opens)), false).is_err());
        refused += 1;
    }
    let denied = Access {
        verdict: Verdict::Denied,
        why: "not granted",
        ..access(0)
    };
    log.append(&Event::Open(denied), false).unwrap();
    let health = log.health();
    assert!(health.failing.is_some(), "opens fail still: {health:?}");
    assert_eq!(health.refused, refused);
    fs::remove_dir_all(in_the_way).unwrap();
    // By itself: nobody asks.
    until("it goes on", || log.health().failing.is_none());
    let told = jsons(
        folder.path(),
        &Filter {
            secret: None,
            operator: Some("secretsd".into()),
            ..Filter::default()
        },
    );
    assert_eq!(told.len(), 1, "{told:?}");
    let detail = told[0]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with(&format!("{refused} events were not written")),
        "{detail}"
    );
    append(&log, opens);
    assert!(
        verify(folder.path(), Some(log.anchor()))
            .unwrap()
            .is_whole()
    );
}

#[test]
fn the_newest_requests_are_known_again_however_many_there_were() {
    let folder = tempfile::tempdir().unwrap();
    let large = Options {
        segment_size: 8 << 20,
        ..options()
    };
    let log = open(folder.path(), large);
    let many = (1 << 16) + 5;
    (0..many).for_each(|unique| append(&log, unique));
    drop(log);
    let log = open(folder.path(), large);
    for unique in many - 100..many {
        log.append(&Event::Open(access(unique)), true).unwrap();
    }
    assert_eq!(accesses(folder.path()), many);
}

#[test]
fn a_counted_request_that_is_sent_again_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let none = Options {
        opens: Quota {
            per_second: 0,
            burst: 0,
        },
        ..options()
    };
    for flushed in [false, true] {
        let folder = folder.path().join(flushed.to_string());
        let log = open(&folder, none);
        (0..20).for_each(|unique| append(&log, unique));
        if flushed {
            log.flush();
        }
        drop(log);
        let log = open(&folder, none);
        for unique in 16..20 {
            log.append(&Event::Open(access(unique)), true).unwrap();
        }
        log.append(&Event::Open(access(20)), true).unwrap();
        log.flush();
        assert_eq!(accesses(&folder), 21, "flushed: {flushed}");
    }
}

#[test]
fn threads_beside_each_other_and_flushes_and_syncs_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let some = Options {
        opens: Quota {
            per_second: 10_000,
            burst: 100,
        },
        ..options()
    };
    let log = open(folder.path(), some);
    thread::scope(|scope| {
        for number in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for unique in 0..2000 {
                    append(log, number * 2000 + unique);
                    match unique % 500 {
                        100 => log.flush(),
                        200 => log.sync().unwrap(),
                        300 => log.append_durable(&Event::Change(CHANGE)).unwrap(),
                        _ => {}
                    }
                }
            });
        }
    });
    log.close();
    assert_eq!(accesses(folder.path()), 8000);
    let changes = Filter {
        kind: Some(audit::Kind::Change),
        ..Filter::default()
    };
    assert_eq!(jsons(folder.path(), &changes).len(), 16);
    assert!(
        verify(folder.path(), Some(log.anchor()))
            .unwrap()
            .is_whole()
    );
}

#[test]
fn a_kill_between_a_counts_entry_and_its_end_counts_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let none = Options {
        opens: Quota {
            per_second: 0,
            burst: 0,
        },
        ..options()
    };
    let log = open(folder.path(), none);
    (0..20).for_each(|unique| append(&log, unique));
    let counts = folder.path().join("merged");
    let before = fs::read(&counts).unwrap();
    log.flush();
    drop(log);
    fs::write(counts, before).unwrap();
    for _ in 0..2 {
        drop(open(folder.path(), none));
        assert_eq!(accesses(folder.path()), 20);
    }
}

#[test]
fn the_last_entries_are_found_over_segments_and_filters() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options());
    for unique in 0..2000 {
        append(&log, unique);
        if unique % 500 == 0 {
            log.append(&Event::Change(CHANGE), false).unwrap();
        }
    }
    let last = |last, kind| {
        let found = jsons(
            folder.path(),
            &Filter {
                last: Some(last),
                kind,
                ..Filter::default()
            },
        );
        found
            .iter()
            .map(|one| one["seq"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let newest = log.anchor().seq;
    assert_eq!(last(3, None), [newest - 2, newest - 1, newest]);
    assert_eq!(last(1_000_000, None).len() as u64, newest);
    assert_eq!(last(0, None).len(), 0);
    let changes = last(4, Some(audit::Kind::Change));
    assert_eq!(changes.len(), 4);
    assert_eq!(changes[1..], last(3, Some(audit::Kind::Change))[..]);
    assert_eq!(last(1_000_000, Some(audit::Kind::Open)).len(), 2000);
}

#[test]
fn all_that_this_boot_has_opened_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options());
    let first = Access {
        instance: 1,
        ..access(0)
    };
    log.append(&Event::Open(first), false).unwrap();
    until("many segments", || {
        (0..1000).for_each(|unique| append(&log, unique));
        fs::read_dir(folder.path()).unwrap().count() > 40
    });
    drop(log);
    let log = open(folder.path(), options());
    let readers = log.adoption().readers("tls");
    assert_eq!(
        readers.iter().map(|one| one.instance).collect::<Vec<_>>(),
        [1, 7]
    );
}
