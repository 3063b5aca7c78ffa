//! Versions: which are in reach, which are kept, which are gone.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use common::*;
use store::{Denied, ReadError, Reader, SetOptions, Standing, WriteError};

fn keep(keep: u32) -> SetOptions {
    SetOptions {
        keep: Some(keep),
        ..SetOptions::default()
    }
}

#[test]
fn keep_counts_what_is_in_reach() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    store.create(&op, &name, single("1"), Some(3), &[]).unwrap();
    for number in 2..=5 {
        store
            .set(
                &op,
                &name,
                single(&number.to_string()),
                SetOptions::default(),
            )
            .unwrap();
    }
    assert_eq!(reach(&store, "db"), [3, 4, 5]);
    assert!(matches!(
        store.rollback(&op, &name, 2),
        Err(WriteError::NotFound(_))
    ));
    assert_eq!(
        store
            .set(&op, &name, single("6"), keep(1))
            .unwrap()
            .versions
            .len(),
        1
    );
    assert_eq!(reach(&store, "db"), [6]);
    // What had gone out of reach by then is gone with the next change.
    store.rotate(&op, &name, single("7")).unwrap();
    let permit = all_of(&store, "db");
    assert!(matches!(
        read(&store, &permit, 5, None),
        Err(ReadError::NoVersion(..))
    ));
    assert_eq!(newest(&store, "db"), "7");
}

#[test]
fn a_version_that_is_held_stays_until_it_is_released() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    store.create(&op, &name, single("1"), Some(1), &[]).unwrap();
    let permit = all_of(&store, "db");
    assert!(store.hold(&name, 1));
    assert!(store.hold(&name, 1));
    for number in 2..=4 {
        store
            .rotate(&op, &name, single(&number.to_string()))
            .unwrap();
    }
    assert_eq!(reach(&store, "db"), [4]);
    assert_eq!(store.status().retained_versions, 1);
    assert_eq!(store.version(&permit, 1).unwrap().number, 1);
    assert_eq!(read(&store, &permit, 1, None).unwrap(), "1");
    store.release(&name, 1);
    assert_eq!(
        store.sweep().unwrap(),
        1,
        "version 3, which was newest until the last change"
    );
    assert_eq!(retained(&store), [(name.clone(), 1)]);
    assert_eq!(read(&store, &permit, 1, None).unwrap(), "1");
    store.release(&name, 1);
    assert_eq!(
        read(&store, &permit, 1, None).unwrap(),
        "1",
        "release removes nothing by itself"
    );
    assert_eq!(store.sweep().unwrap(), 1);
    assert!(matches!(
        read(&store, &permit, 1, None),
        Err(ReadError::NoVersion(..))
    ));
    assert!(!store.hold(&name, 1));
    assert_eq!(store.status().retained_versions, 0);
    assert_eq!(store.sweep().unwrap(), 0);
    // One release more than there were holds takes nothing from anyone.
    store.release(&name, 1);
    assert!(store.hold(&name, 4));
}

#[test]
fn the_newest_can_be_held_up_to_the_moment_in_which_the_next_one_shows() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    store.create(&op, &name, single("1"), Some(1), &[]).unwrap();
    for number in 1..200 {
        std::thread::scope(|threads| {
            let writer = threads.spawn(|| store.rotate(&op, &name, single("next")).unwrap());
            let permit = all_of(&store, "db");
            while !writer.is_finished() {
                let newest = store.secret(&permit).unwrap().newest().number;
                assert!(
                    store.hold(&name, newest),
                    "{newest} while making {}",
                    number + 1
                );
                read(&store, &permit, newest, None).unwrap();
                store.release(&name, newest);
            }
        });
    }
}

#[test]
fn under_keep_0_a_newer_version_takes_the_old_one_from_everyone() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    store.create(&op, &name, single("1"), None, &[]).unwrap();
    store.rotate(&op, &name, single("2")).unwrap();
    let permit = all_of(&store, "db");
    assert!(store.hold(&name, 1) && store.hold(&name, 2));
    assert_eq!(
        store
            .set(&op, &name, single("3"), keep(0))
            .unwrap()
            .versions
            .len(),
        1
    );
    for number in [1, 2] {
        assert!(matches!(
            read(&store, &permit, number, None),
            Err(ReadError::NoVersion(..))
        ));
        assert!(!store.hold(&name, number));
    }
    assert_eq!(
        (reach(&store, "db"), newest(&store, "db")),
        (vec![3], "3".into())
    );
    assert_eq!(retained(&store), []);
    store.rotate(&op, &name, single("4")).unwrap();
    assert_eq!(reach(&store, "db"), [4]);
}

#[test]
fn a_rollback_is_a_new_version_with_the_old_value() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    let value = |text| fields(&[("user", "admin"), ("password", text)]);
    store.create(&op, &name, value("one"), None, &[]).unwrap();
    store.rotate(&op, &name, value("two")).unwrap();
    assert_eq!(store.rollback(&op, &name, 1).unwrap().newest().number, 3);
    assert_eq!(
        read(&store, &all_of(&store, "db"), 3, Some("password")).unwrap(),
        "one"
    );
    assert_eq!(reach(&store, "db"), [1, 2, 3]);
    assert!(matches!(
        store.rollback(&op, &name, 3),
        Err(WriteError::Conflict(_))
    ));
    assert!(matches!(
        store.rollback(&op, &name, 9),
        Err(WriteError::NotFound(_))
    ));
    assert!(matches!(
        store.rollback(&op, &secret("no"), 1),
        Err(WriteError::NotFound(_))
    ));
}

#[test]
fn sealing_ends_every_permit_and_unsealing_brings_none_back() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    store
        .create(&op, &name, single("1"), None, &[service("web")])
        .unwrap();
    let permits = [all_of(&store, "db"), ask(&store, "web", "db").unwrap()];
    assert!(store.hold(&name, 1));
    store.seal();
    for permit in &permits {
        assert_eq!(permit.standing(), Standing::Sealed);
        assert!(matches!(
            read(&store, permit, 1, None),
            Err(ReadError::Sealed)
        ));
    }
    assert_eq!(
        store.permit(Reader::Operator(&op), &name).unwrap_err(),
        Denied::Sealed
    );
    assert!(!store.hold(&name, 1));
    assert!(matches!(store.list(&op, ""), Err(WriteError::Sealed)));
    assert!(matches!(
        store.rotate(&op, &name, single("2")),
        Err(WriteError::Sealed)
    ));
    store.unseal(store::Unlock::FileSlots).unwrap();
    assert_eq!(permits[1].standing(), Standing::Sealed);
    assert_eq!(newest(&store, "db"), "1");
    // What was held before the seal is held after it.
    store.set(&op, &name, single("2"), keep(1)).unwrap();
    store.rotate(&op, &name, single("3")).unwrap();
    assert_eq!(retained(&store).len(), 2);
    store.sweep().unwrap();
    assert_eq!(retained(&store), [(name, 1)]);
}

/// A wait for a clock that nobody can turn for a test.
fn until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_version_before_stays_readable_for_its_grace_and_not_longer() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    let options = SetOptions {
        keep: Some(1),
        ..SetOptions::default()
    };
    store.set(&op, &name, single("one"), options).unwrap();
    let permit = all_of(&store, "db");
    assert_eq!(store.previous(&permit).unwrap(), None);
    let hour = Duration::from_secs(3600);
    store
        .rotate_with_grace(&op, &name, single("two"), hour)
        .unwrap();
    let previous = || {
        let version = store.previous(&permit).unwrap();
        version.map(|version| version.number)
    };
    assert_eq!(previous(), Some(1));
    // Out of reach, and held by nobody; another rotation takes it away as little as a sweep does,
    // and neither does a restart of the grace's clock.
    store.rotate(&op, &name, single("three")).unwrap();
    assert_eq!(store.sweep().unwrap(), 1, "version 2");
    assert_eq!(previous(), Some(1));
    assert_eq!(read(&store, &permit, 1, None).unwrap(), "one");
    assert!(matches!(store.graces()[..], [(_, left)] if left > 3000));
    store.seal();
    store.unseal(store::Unlock::FileSlots).unwrap();
    let permit = all_of(&store, "db");
    assert_eq!(store.previous(&permit).unwrap().unwrap().number, 1);
    store.rotate_root(&op, &|_, _| {}).unwrap();
    assert_eq!(store.previous(&permit).unwrap().unwrap().number, 1);
    let second = Duration::from_secs(1);
    store
        .rotate_with_grace(&op, &name, single("four"), second)
        .unwrap();
    until(|| store.previous(&permit).unwrap().is_none());
    assert_eq!(store.graces(), [(name.clone(), 0)]);
    store.sweep().unwrap();
    let gone = |number| {
        matches!(
            read(&store, &permit, number, None),
            Err(ReadError::NoVersion(..))
        )
    };
    assert!(gone(1) && gone(3));
    assert_eq!(read(&store, &permit, 4, None).unwrap(), "four");
}

#[test]
fn there_is_no_grace_where_old_versions_are_revoked_or_for_no_time() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    let options = SetOptions {
        keep: Some(0),
        ..SetOptions::default()
    };
    store.set(&op, &name, single("one"), options).unwrap();
    let hour = Duration::from_secs(3600);
    for (lasts, value) in [
        (hour, "two"),
        (Duration::ZERO, "two"),
        (store::MAX_GRACE + hour, "two"),
    ] {
        let refused = store.rotate_with_grace(&op, &name, single(value), lasts);
        assert!(matches!(refused, Err(WriteError::Invalid(_))));
    }
    assert_eq!(store.history(&op, &name).unwrap().len(), 1);
}
