//! A store on disk from init to seal: who gets in, what stays, what is refused.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::*;
use store::{
    Cipher, InitError, InitOptions, OpenError, SlotError, SlotKind, State, Store, Unlock,
    UnlockedBy, UnsealError, WriteError,
};

fn modes(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        if entry.file_type().unwrap().is_dir() {
            assert_eq!(mode, 0o700, "{:?}", entry.path());
            modes(&entry.path());
        } else {
            assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
        }
    }
}

#[test]
fn everything_is_there_after_a_clean_stop_and_after_none() {
    let mut disk = OnDisk::make().unsealed();
    fill(disk.store());
    check(disk.store());
    disk.reopen();
    check(disk.store());
    disk.store().close();
    disk.reopen();
    check(disk.store());
    let meta = disk
        .store()
        .create(&operator(), &secret("gone"), single("y"), None, &[])
        .unwrap();
    assert_eq!(
        meta.newest().number,
        2,
        "a number that a deleted secret had is not given again"
    );
}

#[test]
fn a_new_store_is_closed_to_others_and_shows_no_name() {
    let disk = OnDisk::make().unsealed();
    let op = operator();
    let name = secret("canary-name");
    disk.store()
        .create(
            &op,
            &name,
            single("canary-value"),
            None,
            &[service("canary-web")],
        )
        .unwrap();
    disk.store().close();
    let mode = fs::metadata(disk.dir()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    modes(&disk.dir());
    let mut folders = vec![disk.dir()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let bytes = fs::read(entry.path()).unwrap();
            assert!(
                !bytes.windows(6).any(|window| window == b"canary"),
                "{:?}",
                entry.path()
            );
        }
    }
}

#[test]
fn init_takes_an_empty_folder_alone_and_leaves_nothing_when_it_fails() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("state");
    let init = |slot| {
        Store::init(
            &dir,
            InitOptions {
                cipher: Cipher::default(),
                slot,
            },
        )
    };
    let failed = init(typed(""));
    assert!(matches!(
        failed,
        Err(InitError::Slot(SlotError::EmptyPassphrase))
    ));
    assert!(fs::read_dir(&dir).unwrap().next().is_none());
    let failed = init(file(Some("no/such/folder/key")));
    assert!(matches!(failed, Err(InitError::Slot(SlotError::File(_)))));
    assert!(fs::read_dir(&dir).unwrap().next().is_none());
    assert!(matches!(Store::open(&dir), Err(OpenError::NoStore(_))));
    // What the disk does not let us look at is no reason to make another store.
    std::os::unix::fs::symlink("STORE", dir.join("STORE")).unwrap();
    assert!(matches!(Store::open(&dir), Err(OpenError::File(_))));
    fs::remove_file(dir.join("STORE")).unwrap();
    let report = init(file(None)).unwrap();
    assert_eq!(
        report.slot.kind,
        SlotKind::File {
            path: "file-slot.key".into()
        }
    );
    assert!(matches!(init(file(None)), Err(InitError::NotEmpty(_))));
    let store = Store::open(&dir).unwrap();
    assert_eq!((store.id(), store.state()), (report.id, State::Sealed));
    assert_eq!(store.status().slots, [report.slot]);
}

#[test]
fn one_process_at_a_time() {
    let disk = OnDisk::make();
    assert!(matches!(
        Store::open(&disk.dir()),
        Err(OpenError::AlreadyRunning(_))
    ));
}

#[test]
fn a_sealed_store_does_nothing() {
    let disk = OnDisk::make();
    let (store, op) = (disk.store(), operator());
    assert!(matches!(store.list(&op, ""), Err(WriteError::Sealed)));
    assert!(matches!(
        store.rotate_root(&op, &|_, _| {}),
        Err(WriteError::Sealed)
    ));
    assert!(matches!(store.slot_list(&op), Err(WriteError::Sealed)));
    assert!(matches!(store.sweep(), Err(WriteError::Sealed)));
    assert_eq!(store.status().secrets, 0);
    assert!(store.status().records.is_none());
}

#[test]
fn after_a_crash_the_keyring_unseals_and_after_a_seal_it_does_not() {
    let mut disk = OnDisk::make().unsealed();
    fill(disk.store());
    disk.drop_and_open();
    let report = disk.store().unseal(Unlock::Keyring).unwrap();
    assert_eq!(report.by, UnlockedBy::Keyring);
    check(disk.store());
    disk.store().close();
    disk.drop_and_open();
    disk.store().unseal(Unlock::Keyring).unwrap();
    disk.store().rotate_root(&operator(), &|_, _| {}).unwrap();
    disk.drop_and_open();
    assert_eq!(disk.store().unseal(Unlock::Keyring).unwrap().generation, 2);
    check(disk.store());
    disk.store().seal();
    assert!(matches!(
        disk.store().unseal(Unlock::Keyring),
        Err(UnsealError::NotInKeyring)
    ));
    disk.drop_and_open();
    assert!(matches!(
        disk.store().unseal(Unlock::Keyring),
        Err(UnsealError::NotInKeyring)
    ));
    disk.store().unseal(Unlock::FileSlots).unwrap();
    check(disk.store());
}

#[test]
fn a_key_in_the_keyring_that_is_not_the_stores_is_not_believed() {
    let mut disk = OnDisk::make().unsealed();
    fill(disk.store());
    let description = format!("deploy-secrets:{}:1", disk.store().id());
    disk.drop_and_open();
    for key in [&[7; 32][..], &[7; 31], &[]] {
        if sys::keyring::put(&description, key).is_err() {
            continue;
        }
        let unsealed = disk.store().unseal(Unlock::Keyring);
        assert!(matches!(unsealed, Err(UnsealError::Keys { .. })));
        assert_eq!(disk.store().state(), State::Sealed);
    }
}

#[test]
fn a_damaged_file_is_named_and_nothing_is_touched() {
    let mut disk = OnDisk::make().unsealed();
    fill(disk.store());
    disk.store().close();
    for name in ["STORE", "CURRENT"] {
        let path = disk.dir().join(name);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            disk.forget();
            let unsealed = Store::open(&disk.dir()).map(|store| store.unseal(Unlock::FileSlots));
            assert!(!matches!(unsealed, Ok(Ok(_))), "{name} byte {at}");
        }
        fs::write(&path, good).unwrap();
    }
    disk.reopen();
    check(disk.store());
    disk.store().close();
    fs::write(disk.dir().join("gen-00000001/keys"), "").unwrap();
    disk.drop_and_open();
    let damaged = disk
        .store()
        .unseal(Unlock::FileSlots)
        .unwrap_err()
        .to_string();
    assert!(damaged.contains("gen-00000001/keys"), "{damaged}");
    assert!(disk.store().status().slots.is_empty());
}

#[test]
fn what_an_interrupted_rotation_left_is_removed_once_the_store_has_opened() {
    let mut disk = OnDisk::make().unsealed();
    fill(disk.store());
    disk.store().close();
    let left = disk.dir().join("gen-00000002");
    copy(&disk.dir().join("gen-00000001"), &left);
    fs::create_dir(disk.dir().join("lost+found")).unwrap();
    disk.drop_and_open();
    fs::rename(disk.dir().join("file-slot.key"), disk.dir().join("away")).unwrap();
    assert!(disk.store().unseal(Unlock::FileSlots).is_err());
    assert!(left.exists(), "it may be the last whole generation");
    fs::rename(disk.dir().join("away"), disk.dir().join("file-slot.key")).unwrap();
    let report = disk.store().unseal(Unlock::FileSlots).unwrap();
    assert_eq!(report.leftovers, ["gen-00000002"]);
    assert!(!left.exists());
    assert!(disk.dir().join("lost+found").exists());
    check(disk.store());
}

#[test]
fn a_rotation_that_cannot_be_ended_leaves_the_old_generation_at_work() {
    let mut disk = OnDisk::make().unsealed();
    fill(disk.store());
    let op = operator();
    // In the way of the file that would become CURRENT, at the very last step.
    let obstacle = disk.dir().join("CURRENT.tmp");
    fs::create_dir(&obstacle).unwrap();
    let rotated = disk.store().rotate_root(&op, &|_, _| {});
    assert!(matches!(rotated, Err(WriteError::File(_))));
    assert_eq!(disk.store().state(), State::Unsealed { generation: 1 });
    assert!(!disk.dir().join("gen-00000002").exists());
    check(disk.store());
    disk.store()
        .rotate(&op, &secret("db"), single("three"))
        .unwrap();
    disk.reopen();
    assert_eq!(newest(disk.store(), "db"), "three");
    fs::remove_dir(&obstacle).unwrap();
    disk.store().rotate_root(&op, &|_, _| {}).unwrap();
    assert_eq!(newest(disk.store(), "db"), "three");
}
