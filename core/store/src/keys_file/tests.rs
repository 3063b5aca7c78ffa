//! The `keys` file: as `make.py` makes it, and refused however it is changed.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::slots::{Argon2Params, NewSlot};
use crate::vectors::{self, number};

fn read(text: &str, vectors: &serde_json::Value) -> Result<KeysFile, UnsealError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    std::fs::write(&path, text).unwrap();
    KeysFile::read(
        &path,
        vectors::store(vectors),
        number(&vectors["generation"]),
    )
}

fn half(vectors: &serde_json::Value) -> PrivateHalf {
    PrivateHalf::parse(vectors["identity"].as_str().unwrap()).unwrap()
}

#[test]
fn a_file_that_another_program_wrote_opens_by_each_of_its_slots() {
    let vectors = vectors::keys();
    let store = vectors::store(&vectors);
    let file = read(vectors["keys"].as_str().unwrap(), &vectors).unwrap();
    let expected = vectors::bytes(&vectors["root"]);
    let by_file = file.unlock(store, SlotId(1), &half(&vectors)).unwrap();
    assert_eq!(by_file.root(), expected);
    let typed = &file.slots()[1];
    let passphrase = vectors["passphrase"].as_str().unwrap();
    let typed_half = typed.unwrap(store, passphrase).unwrap().unwrap().unwrap();
    assert_eq!(
        file.unlock(store, typed.id, &typed_half).unwrap().root(),
        expected
    );
    assert!(typed.unwrap(store, "incorrect").unwrap().unwrap().is_none());
    let table = file.table(&by_file).unwrap();
    assert_eq!(table.next_id().unwrap(), SlotId(4));
    assert_eq!(table.keys.len(), 2);
}

#[test]
fn a_file_that_was_written_anew_opens_by_a_slot_whose_half_nobody_showed() {
    let vectors = vectors::keys();
    let store = vectors::store(&vectors);
    let file = read(vectors["keys"].as_str().unwrap(), &vectors).unwrap();
    let table = file
        .table(&file.unlock(store, SlotId(1), &half(&vectors)).unwrap())
        .unwrap();
    let next = Keys::generate(store).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    table
        .write(&path, &next, 8, Cipher::ChaCha20Poly1305)
        .unwrap();
    let file = KeysFile::read(&path, store, 8).unwrap();
    assert_eq!(
        file.unlock(store, SlotId(1), &half(&vectors))
            .unwrap()
            .root(),
        next.root()
    );
}

#[test]
fn every_changed_byte_is_refused() {
    let vectors = vectors::keys();
    let store = vectors::store(&vectors);
    let (text, private) = (vectors["keys"].as_str().unwrap(), half(&vectors));
    for at in 0..text.len() {
        let mut changed = text.as_bytes().to_vec();
        changed[at] ^= 1;
        let Ok(changed) = String::from_utf8(changed) else {
            continue;
        };
        let opened = read(&changed, &vectors)
            .and_then(|file| file.unlock(store, SlotId(1), &private).map(drop));
        assert!(matches!(opened, Err(UnsealError::Keys { .. })), "byte {at}");
    }
}

#[test]
fn every_shorter_file_is_refused() {
    let vectors = vectors::keys();
    let text = vectors["keys"].as_str().unwrap();
    for length in 0..text.len() {
        let opened = read(&text[..length], &vectors).and_then(|file| {
            file.unlock(vectors::store(&vectors), SlotId(1), &half(&vectors))
                .map(drop)
        });
        assert!(opened.is_err(), "{length}");
    }
}

#[test]
fn a_root_key_that_somebody_sealed_to_our_slots_is_not_believed() {
    let vectors = vectors::keys();
    let store = vectors::store(&vectors);
    let file = read(vectors["keys"].as_str().unwrap(), &vectors).unwrap();
    let true_keys = file.unlock(store, SlotId(1), &half(&vectors)).unwrap();
    // Whoever writes the disk has the slots' public halves, and neither private half nor root key.
    let mut forged = file.table(&true_keys).unwrap();
    for key in forged.keys.values_mut() {
        *key = Zeroizing::new([0; 32]);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    forged
        .write(&path, &Keys::generate(store).unwrap(), 7, Cipher::Aes256Gcm)
        .unwrap();
    let file = KeysFile::read(&path, store, 7).unwrap();
    let opened = file.unlock(store, SlotId(1), &half(&vectors));
    assert!(matches!(opened, Err(UnsealError::Keys { .. })));
    assert!(matches!(
        file.verify(&true_keys),
        Err(UnsealError::Keys { .. })
    ));
}

#[test]
fn a_file_of_another_store_or_generation_is_refused() {
    let vectors = vectors::keys();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    std::fs::write(&path, vectors["keys"].as_str().unwrap()).unwrap();
    let store = vectors::store(&vectors);
    assert!(KeysFile::read(&path, store, 7).is_ok());
    assert!(KeysFile::read(&path, store, 8).is_err());
    assert!(KeysFile::read(&path, StoreId([0; 16]), 7).is_err());
}

#[test]
fn slots_are_numbered_once_limited_and_never_all_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreId([1; 16]);
    let mut table = SlotTable::empty();
    for number in 1..=MAX_SLOTS {
        let id = table.next_id().unwrap();
        let path = Some(format!("{number}.key").into());
        let new = NewSlot::File {
            path,
            label: String::new(),
        };
        let (slot, private) = Slot::make(dir.path(), store, id, new).unwrap();
        table.add(store, slot, &private).unwrap();
    }
    assert!(matches!(
        table.next_id(),
        Err(SlotError::TooMany(MAX_SLOTS))
    ));
    table.remove(SlotId(32)).unwrap();
    assert_eq!(table.next_id().unwrap(), SlotId(33));
    assert!(matches!(
        table.remove(SlotId(32)),
        Err(SlotError::Unknown(32))
    ));
    for number in 1..31 {
        table.remove(SlotId(number)).unwrap();
    }
    assert!(matches!(table.remove(SlotId(31)), Err(SlotError::Last)));
}

#[test]
fn weak_parameters_in_a_file_are_refused_before_they_are_used() {
    let vectors = vectors::keys();
    let store = vectors::store(&vectors);
    let text = vectors["keys"]
        .as_str()
        .unwrap()
        .replace("\"passes\":2", "\"passes\":1");
    let file = read(&text, &vectors).unwrap();
    let opened = file.slots()[1].unwrap(store, "anything").unwrap();
    assert!(matches!(
        opened,
        Err(SlotError::Parameters { passes: 1, .. })
    ));
    assert!(
        Argon2Params {
            memory_kib: 2 << 20,
            ..Argon2Params::default()
        }
        .check()
        .is_err()
    );
}
