//! Backups: one moment, opened by their own recipients, and compared with what they would replace.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use model::Pins;
use store::{
    BackupError, BackupKey, BackupTo, Cipher, Contents, DifferenceKind, Found, Restored, SlotId,
    SlotKind, Store, Unlock,
};
use zeroize::Zeroizing;

/// Of `core/store/tests/vectors/backup.json`.
const RECIPIENT: &str = "recipient";
const IDENTITY: &str = "identity";

fn vector(what: &str) -> String {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("vectors/backup.json")).unwrap();
    vectors[what].as_str().unwrap().to_owned()
}

fn to() -> BackupTo {
    BackupTo::Recipients(vec![vector(RECIPIENT)])
}

fn key() -> BackupKey {
    BackupKey::Identities(Zeroizing::new(vector(IDENTITY)))
}

fn made(store: &Store) -> (Vec<u8>, Contents) {
    let mut file = Vec::new();
    let contents = store.backup(&operator(), &to(), None, &mut file, &mut |_, _| {});
    (file, contents.unwrap())
}

/// A folder beside another, and what was restored into it.
fn restored(file: &[u8], current: &Path) -> (tempfile::TempDir, Restored) {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("state");
    let restored = Restored::make(file, &key(), &into, current).unwrap();
    (folder, restored)
}

fn said(restored: &Restored, kind: DifferenceKind) -> Vec<String> {
    let of_kind = restored.differences.iter().filter(|one| one.kind == kind);
    of_kind.map(ToString::to_string).collect()
}

#[test]
fn what_is_restored_is_what_was_with_its_slots_and_without_any_of_its_machine() {
    let disk = OnDisk::make_with(Cipher::ChaCha20Poly1305, typed("open sesame"));
    disk.store().unseal(by("open sesame")).unwrap();
    let store = disk.store();
    fill(store);
    store.rotate_root(&operator(), &|_, _| {}).unwrap();
    let told = AtomicBool::new(false);
    let mut file = Vec::new();
    let anchor = Some("7:ab".to_owned());
    let contents = store
        .backup(
            &operator(),
            &to(),
            anchor.clone(),
            &mut file,
            &mut |done, total| {
                told.fetch_or(done == total, Ordering::SeqCst);
            },
        )
        .unwrap();
    assert!(told.into_inner());
    let moment = &contents.moment;
    assert_eq!((moment.generation, &moment.anchor), (2, &anchor));
    assert_eq!(moment.cipher, Cipher::ChaCha20Poly1305);
    assert_eq!(
        (contents.secrets, contents.versions, contents.grants),
        (2, 3, 1)
    );
    assert_eq!(Contents::verify(file.as_slice(), &key()).unwrap(), contents);

    let (folder, restored) = restored(&file, Path::new("/nonexistent"));
    assert_eq!(restored.found, Found::Nothing);
    assert_eq!(restored.differences, []);
    assert_eq!(restored.added_slot, None, "a passphrase is never lost");
    assert_eq!(restored.contents, contents);
    let again = Store::open(&folder.path().join("state")).unwrap();
    again.unseal(by("open sesame")).unwrap();
    check(&again);
    assert_eq!(again.id(), store.id());
    assert_eq!(
        again.slot_list(&operator()).unwrap(),
        store.slot_list(&operator()).unwrap()
    );
    // A number is given once also over a delete and a restore, and all goes on.
    again
        .create(&operator(), &secret("gone"), single("y"), None, &[])
        .unwrap();
    assert_eq!(reach(&again, "gone"), [2]);
    again.rotate_root(&operator(), &|_, _| {}).unwrap();
    check_but_for_gone(&again);
    again.seal();
}

fn check_but_for_gone(store: &Store) {
    let deleted = store.delete(&operator(), &secret("gone")).unwrap();
    deleted.commit().unwrap();
    check(store);
}

/// Tells others to stop when it goes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_backup_is_of_one_moment_while_others_write_and_rotate() {
    let disk = OnDisk::make().unsealed();
    let store = disk.store();
    let op = operator();
    for name in ["first", "second"] {
        store
            .create(&op, &secret(name), single("0"), None, &[])
            .unwrap();
    }
    // Enough for a writer to come between its first and its last record.
    for number in 0..60 {
        let name = secret(&format!("filler-{number}"));
        store
            .create(&op, &name, single(&"x".repeat(10_000)), None, &[])
            .unwrap();
    }
    let stop = AtomicBool::new(false);
    let mut files = Vec::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            // `second` is never ahead of `first`, and never more than one behind.
            let mut number = 1;
            while !stop.load(Ordering::SeqCst) {
                let value = number.to_string();
                store
                    .set(&op, &secret("first"), single(&value), Default::default())
                    .unwrap();
                store
                    .set(&op, &secret("second"), single(&value), Default::default())
                    .unwrap();
                number += 1;
            }
        });
        threads.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                store.rotate_root(&op, &|_, _| {}).unwrap();
            }
        });
        // Also when one of them fails: or the others would go on for ever.
        let _stopped = Stop(&stop);
        for _ in 0..20 {
            files.push(made(store).0);
        }
    });
    let mut moments = Vec::new();
    for file in &files {
        let (folder, _) = restored(file, Path::new("/nonexistent"));
        let again = Store::open(&folder.path().join("state")).unwrap();
        again.unseal(Unlock::FileSlots).unwrap();
        let first: u64 = newest(&again, "first").parse().unwrap();
        let second: u64 = newest(&again, "second").parse().unwrap();
        assert!(second == first || second + 1 == first, "{first} {second}");
        moments.push(first);
        again.seal();
    }
    assert!(moments.is_sorted(), "{moments:?}");
    assert!(moments[0] < moments[moments.len() - 1], "nobody wrote");
}

#[test]
fn an_older_backup_names_what_it_would_bring_back_and_what_would_be_lost() {
    let mut disk = OnDisk::make().unsealed();
    let store = disk.store().clone();
    let op = operator();
    fill(&store);
    store
        .grant(
            &op,
            &service("web"),
            &[secret("tls")],
            None,
            Pins::default(),
        )
        .unwrap();
    store.slot_add(&op, typed("leaves")).unwrap();
    let (file, _) = made(&store);
    let same = |disk: &OnDisk| restored(&file, &disk.dir()).1;
    let none = same(&disk);
    assert_eq!(none.differences, []);
    assert!(matches!(none.found, Found::Store { generation: 1, .. }));

    // Since then:
    store
        .revoke(&op, &service("web"), &[secret("db")])
        .unwrap()
        .commit()
        .unwrap();
    let pins = Pins {
        user: Some("www-data".into()),
        ..Pins::default()
    };
    store
        .grant(&op, &service("web"), &[secret("tls")], None, pins)
        .unwrap();
    store
        .grant(&op, &service("api"), &[secret("db")], None, Pins::default())
        .unwrap();
    store.rotate(&op, &secret("db"), single("three")).unwrap();
    store
        .create(&op, &secret("new"), single("x"), None, &[])
        .unwrap();
    store.delete(&op, &secret("tls")).unwrap().commit().unwrap();
    store.config_delete(&op, &"app".parse().unwrap()).unwrap();
    store.slot_remove(&op, SlotId(2)).unwrap();
    drop(store);

    // By the key file; the root key of the backup is another one.
    disk.forget();
    let restored_over = same(&disk);
    assert!(matches!(
        restored_over.found,
        Found::Store { generation: 2, .. }
    ));
    use DifferenceKind::{DeletedBack, GrantBack, Lost, Older, OlderGeneration, SlotBack};
    let names = |kind, words: &[&str]| {
        let said = said(&restored_over, kind);
        assert_eq!(said.len(), words.len(), "{kind:?}: {said:?}");
        for word in words {
            assert!(
                said.iter().any(|one| one.contains(word)),
                "{word}: {said:?}"
            );
        }
    };
    names(OlderGeneration, &["from generation 2 to 1"]);
    names(SlotBack, &["2 (typed)"]);
    names(GrantBack, &["web may read db", "web may read tls"]);
    names(DeletedBack, &["secret tls", "config app"]);
    names(Older, &["secret db goes back from version 3 to 2"]);
    names(Lost, &["api may not read db", "secret new"]);

    // Nothing of it has changed, whoever looked; and only a restore that is meant forgets its key.
    disk.drop_and_open();
    let by_keyring = |disk: &OnDisk| disk.store().unseal(Unlock::Keyring).is_ok();
    assert!(by_keyring(&disk));
    restored_over.forget_replaced();
    disk.drop_and_open();
    assert!(!by_keyring(&disk));
    disk.store().unseal(Unlock::FileSlots).unwrap();
    assert_eq!(newest(disk.store(), "db"), "three");
}

#[test]
fn a_store_that_cannot_be_read_is_said_to_be_and_another_one_too() {
    let mut disk = OnDisk::make().unsealed();
    fill(disk.store());
    let (file, _) = made(disk.store());
    let other = OnDisk::make();
    let (_folder, over) = restored(&file, &other.dir());
    assert_eq!(said(&over, DifferenceKind::OtherStore).len(), 1);
    disk.forget();
    for (name, bytes) in [
        ("CURRENT", &b"gen-00000009\n"[..]),
        ("gen-00000001/keys", b"x"),
        ("gen-00000001/journal", b"x"),
        ("STORE", b""),
    ] {
        let broken = tempfile::tempdir().unwrap();
        copy(&disk.dir(), broken.path());
        fs::write(broken.path().join(name), bytes).unwrap();
        let (_folder, over) = restored(&file, broken.path());
        let Found::Unreadable(why) = &over.found else {
            panic!("{name}: {:?}", over.found);
        };
        assert!(!why.is_empty());
    }
}

#[test]
fn a_lost_key_file_is_replaced_by_a_new_slot_and_one_that_is_there_is_taken_over() {
    let mut disk = OnDisk::make().unsealed();
    fill(disk.store());
    let stick = tempfile::tempdir().unwrap();
    let elsewhere = stick.path().join("deploy.key");
    let slot = file(Some(elsewhere.to_str().unwrap()));
    disk.store().slot_add(&operator(), slot).unwrap();
    let (file, contents) = made(disk.store());
    disk.forget();

    let (folder, over) = restored(&file, &disk.dir());
    assert_eq!(over.added_slot, None);
    let into = folder.path().join("state");
    let of = |dir: &Path| fs::read(dir.join("file-slot.key")).unwrap();
    assert_eq!(of(&into), of(&disk.dir()));

    let (folder, alone) = restored(&file, Path::new("/nonexistent"));
    let added = alone.added_slot.unwrap();
    let path = "restored-3.key".into();
    assert_eq!(
        (added.id, &added.kind),
        (SlotId(3), &SlotKind::File { path })
    );
    fs::remove_file(&elsewhere).unwrap();
    let again = Store::open(&folder.path().join("state")).unwrap();
    let report = again.unseal(Unlock::FileSlots).unwrap();
    assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
    check(&again);
    let slots = again.slot_list(&operator()).unwrap();
    assert_eq!(slots[..2], contents.slots[..]);
    assert_eq!(slots[2], added);
    again.seal();
}

#[test]
fn a_passphrase_makes_and_opens_a_backup_and_a_wrong_one_does_not() {
    let disk = OnDisk::make().unsealed();
    fill(disk.store());
    let mut file = Vec::new();
    let to = BackupTo::Passphrase(Zeroizing::new("open sesame".into()));
    disk.store()
        .backup(&operator(), &to, None, &mut file, &mut |_, _| {})
        .unwrap();
    let open = |text: &str| {
        let key = BackupKey::Passphrase(Zeroizing::new(text.to_owned()));
        Contents::verify(file.as_slice(), &key)
    };
    assert_eq!(open("open sesame").unwrap().secrets, 2);
    let error = open("open barley").unwrap_err();
    assert!(matches!(error, BackupError::WrongPassphrase), "{error}");
    assert!(matches!(
        Contents::verify(file.as_slice(), &key()),
        Err(BackupError::OtherKey("a passphrase"))
    ));
}

/// Takes so many bytes, and then no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_backup_that_nobody_takes_or_of_a_store_that_is_sealed_is_none() {
    let disk = OnDisk::make().unsealed();
    fill(disk.store());
    let store = disk.store();
    let whole = made(store).0.len();
    // The last half comes at the very end, in one piece.
    for room in [0, 100, whole / 2] {
        let mut full = Full(room);
        let done = store.backup(&operator(), &to(), None, &mut full, &mut |_, _| {});
        assert!(matches!(done, Err(BackupError::Io(_))), "{room}: {done:?}");
    }
    let mut file = Vec::new();
    let done = store.backup(&operator(), &to(), None, &mut file, &mut |done, _| {
        if done == 0 {
            store.seal();
        }
    });
    assert!(matches!(done, Err(BackupError::Sealed)), "{done:?}");
    assert!(Contents::verify(file.as_slice(), &key()).is_err());
    let done = store.backup(&operator(), &to(), None, &mut file, &mut |_, _| {});
    assert!(matches!(done, Err(BackupError::Sealed)), "{done:?}");
}

#[test]
fn a_restore_that_fails_leaves_its_folder_empty() {
    let disk = OnDisk::make().unsealed();
    fill(disk.store());
    let (file, _) = made(disk.store());
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("state");
    let make = |file: &[u8]| Restored::make(file, &key(), &into, &disk.dir());
    for length in [0, file.len() / 2, file.len() - 1] {
        assert!(make(&file[..length]).is_err());
        let left = fs::read_dir(&into).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{length} bytes");
    }
    fs::create_dir_all(&into).unwrap();
    fs::write(into.join("a file"), "of somebody's").unwrap();
    assert!(make(&file).is_err());
    assert!(into.join("a file").exists());
    fs::remove_file(into.join("a file")).unwrap();
    assert!(make(&file).is_ok());
}
