//! The first state folder of format 1, kept for ever: every later version must open it.
//!
//! It lies in `fixtures/format-1` without the zeros at the ends of files, which are most of a
//! preallocated journal; `files.txt` says how long each file is. Made by
//! `cargo test -p store --test fixture -- --ignored`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::*;
use model::{Pins, Timestamp};
use store::{
    Cipher, Denied, InitOptions, NewSlot, ReadError, SecretBytes, SetOptions, Shape, SlotKind,
    State, Store, Unlock, Value,
};
use zeroize::Zeroizing;

const PASSPHRASE: &str = "correct horse battery staple";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1")
}

/// Puts the folder together again; modes are what git does not keep.
fn unpack(to: &Path) {
    for line in fs::read_to_string(fixture().join("files.txt"))
        .unwrap()
        .lines()
    {
        let (length, name) = line.split_once(' ').unwrap();
        let path = to.join(name);
        let folder = path.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, PermissionsExt::from_mode(0o700)).unwrap();
        fs::copy(fixture().join("files").join(name), &path).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length.parse().unwrap())
            .unwrap();
    }
}

fn pack(from: &Path, below: &Path, list: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(from).unwrap().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            pack(&path, below, list);
            continue;
        }
        let name = path.strip_prefix(below).unwrap();
        let bytes = fs::read(&path).unwrap();
        let length = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        let target = fixture().join("files").join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, &bytes[..length]).unwrap();
        list.push(format!("{} {}\n", bytes.len(), name.display()));
    }
}

#[test]
#[ignore = "makes the fixture, which stays as it is"]
fn make() {
    assert!(
        !fixture().exists(),
        "the first folder of this format is kept"
    );
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("state");
    let slot = NewSlot::File {
        path: None,
        label: "the first".into(),
    };
    Store::init(
        &dir,
        InitOptions {
            cipher: Cipher::Aes256Gcm,
            slot,
        },
    )
    .unwrap();
    let store = Store::open(&dir).unwrap();
    store.unseal(Unlock::FileSlots).unwrap();
    let op = operator();
    store
        .create(
            &op,
            &secret("db_password"),
            single("one"),
            Some(2),
            &[service("web")],
        )
        .unwrap();
    for text in ["two", "three"] {
        store
            .rotate(&op, &secret("db_password"), single(text))
            .unwrap();
    }
    let tls = fields(&[("cert.pem", "a certificate"), ("key.pem", "")]);
    store.create(&op, &secret("tls"), tls, None, &[]).unwrap();
    let bytes = Value::Single(SecretBytes::new((0..=255).collect()));
    store
        .create(&op, &secret("bytes"), bytes, Some(0), &[])
        .unwrap();
    store
        .create(&op, &secret("gone"), single("x"), None, &[service("web")])
        .unwrap();
    store
        .delete(&op, &secret("gone"))
        .unwrap()
        .commit()
        .unwrap();
    let until = Some(Timestamp(1_764_000_000));
    store
        .grant(
            &op,
            &service("api"),
            &[secret("tls")],
            until,
            Pins::default(),
        )
        .unwrap();
    let pins = Pins {
        user: Some("www-data".into()),
        unit: None,
        image: None,
    };
    store
        .grant(&op, &service("api"), &[secret("bytes")], None, pins)
        .unwrap();
    let app = "app.settings".parse().unwrap();
    store
        .config_create(&op, &app, pairs(&[("log_level", "info")]), false)
        .unwrap();
    store
        .config_update(&op, &app, pairs(&[("log_level", "debug"), ("n", "")]))
        .unwrap();
    store
        .config_create(&op, &"fixed".parse().unwrap(), pairs(&[("k", "v")]), true)
        .unwrap();
    store
        .config_create(&op, &"old".parse().unwrap(), pairs(&[]), false)
        .unwrap();
    store.config_delete(&op, &"old".parse().unwrap()).unwrap();
    let typed = NewSlot::Passphrase {
        passphrase: Zeroizing::new(PASSPHRASE.into()),
        params: store::Argon2Params {
            memory_kib: 19 * 1024,
            passes: 2,
            lanes: 1,
        },
        label: "typed".into(),
    };
    store.slot_add(&op, typed).unwrap();
    store.rotate_root(&op, &|_, _| {}).unwrap();
    // Into the journal of the new generation, on top of its snapshot.
    store
        .rotate(&op, &secret("db_password"), single("four"))
        .unwrap();
    store.seal();
    let mut list = Vec::new();
    pack(&dir, &dir, &mut list);
    fs::write(fixture().join("files.txt"), list.concat()).unwrap();
    fs::write(fixture().join("id.txt"), format!("{}\n", store.id())).unwrap();
}

fn check(store: &Store) {
    let op = operator();
    assert_eq!(
        store.id().to_string(),
        fs::read_to_string(fixture().join("id.txt")).unwrap().trim()
    );
    assert_eq!(store.state(), State::Unsealed { generation: 2 });
    let names: Vec<_> = store
        .list(&op, "")
        .unwrap()
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(
        names,
        [secret("bytes"), secret("db_password"), secret("tls")]
    );
    let db = all_of(store, "db_password");
    assert_eq!(reach(store, "db_password"), [3, 4]);
    assert_eq!(read(store, &db, 3, None).unwrap(), "three");
    assert_eq!(read(store, &db, 4, None).unwrap(), "four");
    assert!(matches!(
        read(store, &db, 1, None),
        Err(ReadError::NoVersion(..))
    ));
    let tls = all_of(store, "tls");
    assert_eq!(store.secret(&tls).unwrap().shape, Shape::Fields);
    assert_eq!(
        read(store, &tls, 1, Some("cert.pem")).unwrap(),
        "a certificate"
    );
    assert_eq!(read(store, &tls, 1, Some("key.pem")).unwrap(), "");
    let bytes = store.open_value(&all_of(store, "bytes"), 1, None).unwrap();
    assert!(bytes.iter().copied().eq(0..=255));
    assert_eq!(store.secret(&all_of(store, "bytes")).unwrap().keep, 0);
    assert!(ask(store, "web", "db_password").is_ok());
    assert_eq!(ask(store, "web", "tls").unwrap_err(), Denied::NotGranted);
    assert_eq!(
        ask(store, "web", "gone").unwrap_err(),
        Denied::UnknownSecret
    );
    assert_eq!(ask(store, "api", "tls").unwrap_err(), Denied::Expired);
    assert!(matches!(
        ask(store, "api", "bytes").unwrap_err(),
        Denied::Pinned { .. }
    ));
    let app = store
        .config_get(&op, &"app.settings".parse().unwrap())
        .unwrap();
    assert_eq!(app.data, pairs(&[("log_level", "debug"), ("n", "")]));
    assert_eq!((app.meta.version, app.meta.immutable), (2, false));
    assert!(
        store
            .config_get(&op, &"fixed".parse().unwrap())
            .unwrap()
            .meta
            .immutable
    );
    assert_eq!(store.config_list(&op, "").unwrap().len(), 2);
    let slots = store.slot_list(&op).unwrap();
    assert_eq!((slots[0].id.0, slots[0].label.as_str()), (1, "the first"));
    assert!(matches!(slots[1].kind, SlotKind::Passphrase { .. }));
}

#[test]
fn the_first_folder_of_this_format_opens_reads_and_takes_changes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("packed");
    unpack(&dir);
    let mut disk = OnDisk::copy_of(&dir);
    for passphrase in [None, Some(PASSPHRASE)] {
        let unlock = passphrase.map_or(Unlock::FileSlots, by);
        let report = disk.store().unseal(unlock).unwrap();
        assert_eq!(
            (report.leftovers.len(), report.warnings.len()),
            (0, 0),
            "{report:?}"
        );
        check(disk.store());
        disk.store().seal();
    }
    disk.reopen();
    let op = operator();
    let again = disk
        .store()
        .set(&op, &secret("gone"), single("y"), SetOptions::default())
        .unwrap();
    assert_eq!(again.newest().number, 2);
    let old = disk
        .store()
        .config_create(&op, &"old".parse().unwrap(), pairs(&[]), false)
        .unwrap();
    assert_eq!(old.version, 2);
    disk.store().rotate_root(&op, &|_, _| {}).unwrap();
    disk.reopen();
    assert_eq!(newest(disk.store(), "gone"), "y");
    assert_eq!(newest(disk.store(), "db_password"), "four");
}
