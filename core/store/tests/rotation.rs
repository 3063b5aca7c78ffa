//! Root key rotation: beside reads and writes, and killed at any point.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use store::{Cipher, ReadError, SetOptions, State, Store, Unlock, WriteError};

fn fill(store: &Store, secrets: usize) {
    for number in 0..secrets {
        let name = secret(&format!("s{number}"));
        store
            .create(
                &operator(),
                &name,
                single(&number.to_string()),
                None,
                &[service("web")],
            )
            .unwrap();
    }
    store
        .config_create(
            &operator(),
            &"app".parse().unwrap(),
            pairs(&[("a", "1")]),
            false,
        )
        .unwrap();
}

fn generation_of(store: &Store, name: &str) -> u32 {
    let raw = store.raw_record(&operator(), &secret(name)).unwrap();
    u32::from_le_bytes(raw[4..8].try_into().unwrap())
}

#[test]
fn everything_is_under_the_next_generation_and_nothing_else_has_changed() {
    for disk in [None, Some(OnDisk::make().unsealed())] {
        let memory = memory();
        let store = disk.as_ref().map_or(&memory, OnDisk::store);
        let op = operator();
        fill(store, 100);
        store.delete(&op, &secret("s7")).unwrap().commit().unwrap();
        let permit = ask(store, "web", "s1").unwrap();
        let told = RefCell::new(Vec::new());
        let next = store.rotate_root(&op, &|done, total| told.borrow_mut().push((done, total)));
        assert_eq!(next.unwrap(), 2);
        assert_eq!(store.state(), State::Unsealed { generation: 2 });
        // Of each secret a head and a version, one tombstone, one service, one config.
        let told = told.into_inner();
        assert_eq!(
            (told.first(), told.last()),
            (Some(&(0, 201)), Some(&(201, 201)))
        );
        assert!(told.is_sorted());
        assert_eq!(store.status().rotation, None);
        assert!(permit.is_valid());
        assert_eq!(read(store, &permit, 1, None).unwrap(), "1");
        for number in (0..100).filter(|number| *number != 7) {
            let name = format!("s{number}");
            assert_eq!(
                (newest(store, &name), generation_of(store, &name)),
                (number.to_string(), 2)
            );
        }
        assert_eq!(merged(store, "app"), (pairs(&[("a", "1")]), 1));
        let again = store
            .create(&op, &secret("s7"), single("x"), None, &[])
            .unwrap();
        assert_eq!(again.newest().number, 2);
        if let Some(disk) = &disk {
            assert!(!disk.dir().join("gen-00000001").exists());
            let current = std::fs::read_to_string(disk.dir().join("CURRENT")).unwrap();
            assert_eq!(current, "gen-00000002\n");
        }
        store.seal();
        store.unseal(Unlock::FileSlots).unwrap();
        assert_eq!(
            (newest(store, "s1"), newest(store, "s7")),
            ("1".into(), "x".into())
        );
    }
}

/// Writes, deletes, grants, and says at the end what must be there.
fn write_until(ended: &AtomicBool, store: &Store, writer: usize) -> BTreeMap<String, String> {
    let op = operator();
    let mut acknowledged = BTreeMap::new();
    let mut round = 0;
    while !ended.load(Ordering::SeqCst) || round < 50 {
        let name = format!("w{writer}.{}", round % 7);
        let value = format!("value {round}");
        let options = SetOptions {
            keep: Some(round % 3),
            ..SetOptions::default()
        };
        store
            .set(&op, &secret(&name), single(&value), options)
            .unwrap();
        store
            .grant(
                &op,
                &service("web"),
                &[secret(&name)],
                None,
                Default::default(),
            )
            .unwrap();
        acknowledged.insert(name.clone(), value);
        if round % 5 == 4 {
            store
                .revoke(&op, &service("web"), &[secret(&name)])
                .unwrap()
                .commit()
                .unwrap();
            store.delete(&op, &secret(&name)).unwrap().commit().unwrap();
            acknowledged.remove(&name);
        }
        round += 1;
    }
    acknowledged
}

fn read_until(ended: &AtomicBool, store: &Store) -> u64 {
    let permit = ask(store, "web", "s3").unwrap();
    let mut reads = 0;
    while !ended.load(Ordering::SeqCst) {
        assert_eq!(read(store, &permit, 1, None).unwrap(), "3");
        assert_eq!(merged(store, "app"), (pairs(&[("a", "1")]), 1));
        reads += 1;
    }
    reads
}

fn beside_reads_and_writes(store: &Store, rotations: u32) -> BTreeMap<String, String> {
    fill(store, 50);
    let ended = AtomicBool::new(false);
    let written = Mutex::new(BTreeMap::new());
    std::thread::scope(|threads| {
        let (ended, written) = (&ended, &written);
        for writer in 0..2 {
            threads.spawn(move || {
                let acknowledged = write_until(ended, store, writer);
                written.lock().unwrap().extend(acknowledged);
            });
        }
        let reader = threads.spawn(move || read_until(ended, store));
        for _ in 0..rotations {
            store.rotate_root(&operator(), &|_, _| {}).unwrap();
        }
        ended.store(true, Ordering::SeqCst);
        assert!(reader.join().unwrap() > 0);
    });
    written.into_inner().unwrap()
}

fn has_all(store: &Store, acknowledged: &BTreeMap<String, String>) {
    for (name, value) in acknowledged {
        assert_eq!(newest(store, name), *value, "{name}");
    }
    let list = store.list(&operator(), "w").unwrap();
    assert_eq!(list.len(), acknowledged.len());
}

#[test]
fn reads_and_writes_go_on_and_every_acknowledged_write_is_there() {
    let store = memory();
    let acknowledged = beside_reads_and_writes(&store, 20);
    has_all(&store, &acknowledged);
    store.seal();
    store.unseal(Unlock::FileSlots).unwrap();
    has_all(&store, &acknowledged);
}

#[test]
fn reads_and_writes_go_on_on_disk_too() {
    let mut disk = OnDisk::make().unsealed();
    let acknowledged = beside_reads_and_writes(disk.store(), 4);
    has_all(disk.store(), &acknowledged);
    disk.reopen();
    has_all(disk.store(), &acknowledged);
    assert_eq!(disk.store().state(), State::Unsealed { generation: 5 });
}

#[test]
fn a_second_rotation_at_the_same_time_is_refused() {
    let store = memory();
    fill(&store, 10);
    let refused = RefCell::new(0);
    let progress = |_, _| {
        let other = store.rotate_root(&operator(), &|_, _| {});
        assert!(matches!(other, Err(WriteError::Busy(_))));
        assert!(store.status().rotation.is_some());
        *refused.borrow_mut() += 1;
    };
    store.rotate_root(&operator(), &progress).unwrap();
    assert!(*refused.borrow() >= 2);
}

#[test]
fn a_seal_ends_a_rotation_and_the_old_generation_stays() {
    let disk = OnDisk::make().unsealed();
    let store = disk.store();
    fill(store, 200);
    std::thread::scope(|threads| {
        let sealer = RefCell::new(None);
        let progress = |done, _| {
            if done == 0 {
                let seal = threads.spawn(|| store.seal());
                // Sealed from its first moment on; it returns when this rotation has given up.
                while store.state() != State::Sealed {
                    std::thread::yield_now();
                }
                *sealer.borrow_mut() = Some(seal);
            }
        };
        let rotated = store.rotate_root(&operator(), &progress);
        assert!(matches!(rotated, Err(WriteError::Sealed)));
        sealer.into_inner().unwrap().join().unwrap();
    });
    assert!(!disk.dir().join("gen-00000002").exists());
    let report = store.unseal(Unlock::FileSlots).unwrap();
    assert_eq!((report.generation, report.leftovers.len()), (1, 0));
    assert_eq!(newest(store, "s7"), "7");
}

const CHILD: &str = "STORE_ROTATION_CHILD";

/// Not a test of its own: what [`killed_at_any_point_one_whole_generation_stays`] kills.
#[test]
fn child_that_rotates_and_writes() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let store = Store::open(Path::new(&dir)).unwrap();
    store.unseal(Unlock::FileSlots).unwrap();
    println!("ready");
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 0.. {
                let value = single(&number.to_string());
                store
                    .set(
                        &operator(),
                        &secret("counter"),
                        value,
                        SetOptions::default(),
                    )
                    .unwrap();
                println!("wrote {number}");
            }
        });
        loop {
            store.rotate_root(&operator(), &|_, _| {}).unwrap();
            println!("rotated");
        }
    });
}

#[test]
fn killed_at_any_point_one_whole_generation_stays() {
    let mut disk = OnDisk::make().unsealed();
    fill(disk.store(), 30);
    disk.store()
        .set(
            &operator(),
            &secret("counter"),
            single("0"),
            SetOptions::default(),
        )
        .unwrap();
    disk.store().close();
    let mut generations = std::collections::BTreeSet::new();
    for round in 0..12_u64 {
        disk.forget();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_rotates_and_writes", "--nocapture"])
            .env(CHILD, disk.dir())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines =
            std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        // At a point that nobody chose, in the first rotation or a later one.
        let begun = if round % 3 == 0 { "ready" } else { "rotated" };
        let mut said = Vec::new();
        while !said
            .last()
            .is_some_and(|line: &String| line.ends_with(begun))
        {
            said.push(lines.next().unwrap().unwrap());
        }
        std::thread::park_timeout(Duration::from_millis(3 + 11 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = said
            .into_iter()
            .chain(lines.map_while(Result::ok))
            .filter_map(|line| line.strip_prefix("wrote ")?.parse::<u64>().ok())
            .last();
        disk.reopen();
        let store = disk.store();
        let State::Unsealed { generation } = store.state() else {
            panic!("sealed")
        };
        generations.insert(generation);
        for number in [0, 13, 29] {
            assert_eq!(
                newest(store, &format!("s{number}")),
                number.to_string(),
                "round {round}"
            );
        }
        assert!(ask(store, "web", "s3").unwrap().is_valid());
        let found: u64 = newest(store, "counter").parse().unwrap();
        if let Some(acknowledged) = acknowledged {
            assert!(
                found >= acknowledged,
                "{found} after {acknowledged} was acknowledged"
            );
        }
        let folders = std::fs::read_dir(disk.dir()).unwrap().flatten();
        let folders =
            folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("gen-"));
        assert_eq!(folders.count(), 1);
        store.close();
    }
    assert!(generations.len() > 8, "{generations:?}");
}

#[test]
fn a_reader_between_two_generations_sees_no_error() {
    let disk = OnDisk::make_with(
        Cipher::ChaCha20Poly1305,
        store::NewSlot::File {
            path: None,
            label: String::new(),
        },
    )
    .unsealed();
    let store = disk.store();
    // Large values lie in files of their own in sled, which go with the folder.
    let large = "x".repeat(200_000);
    store
        .create(&operator(), &secret("large"), single(&large), None, &[])
        .unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let permit = all_of(store, "large");
            while !ended.load(Ordering::SeqCst) {
                assert_eq!(read(store, &permit, 1, None).unwrap(), large);
                assert!(
                    !store
                        .raw_record(&operator(), &secret("large"))
                        .unwrap()
                        .is_empty()
                );
            }
        });
        for _ in 0..5 {
            store.rotate_root(&operator(), &|_, _| {}).unwrap();
        }
        ended.store(true, Ordering::SeqCst);
    });
    let permit = all_of(store, "large");
    assert!(matches!(
        read(store, &permit, 2, None),
        Err(ReadError::NoVersion(..))
    ));
}
