//! Key slots: what opens a store, and what does no more.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::time::Duration;

use common::*;
use rustix::time::{ClockId, clock_gettime};
use store::{Cipher, SlotError, State, Unlock, UnlockedBy, UnsealError, WriteError};

#[test]
fn a_passphrase_opens_and_a_wrong_one_does_not() {
    let disk = OnDisk::make_with(Cipher::ChaCha20Poly1305, typed("correct"));
    let store = disk.store();
    assert!(matches!(
        store.unseal(by("wrong")),
        Err(UnsealError::WrongPassphrase)
    ));
    assert!(matches!(
        store.unseal(by("")),
        Err(UnsealError::WrongPassphrase)
    ));
    assert!(matches!(
        store.unseal(Unlock::FileSlots),
        Err(UnsealError::NoSuchSlot("file"))
    ));
    assert_eq!(store.state(), State::Sealed);
    let report = store.unseal(by("correct")).unwrap();
    assert_eq!(report.generation, 1);
    assert!(matches!(report.by, UnlockedBy::Slot(slot) if slot.label == "typed"));
    fill(store);
    check(store);
    assert!(matches!(
        store.unseal(by("wrong")),
        Err(UnsealError::WrongPassphrase)
    ));
    check(store);
}

#[test]
fn a_wrong_passphrase_takes_as_long_as_a_right_one() {
    let disk = OnDisk::make().unsealed();
    let store = disk.store();
    for passphrase in ["first", "second", "third"] {
        store.slot_add(&operator(), typed(passphrase)).unwrap();
    }
    // The processor's time of this thread: what else runs on the machine is not in it.
    let time = |passphrase: &str| {
        let begun = clock_gettime(ClockId::ThreadCPUTime);
        let right = store.unseal(by(passphrase)).is_ok();
        let ended = clock_gettime(ClockId::ThreadCPUTime);
        assert_eq!(right, passphrase != "wrong");
        Duration::try_from(ended).unwrap() - Duration::try_from(begun).unwrap()
    };
    // Were the search to end at the first slot of three, the right one would take a third.
    let (mut right, mut wrong) = (Duration::MAX, Duration::MAX);
    for _ in 0..8 {
        right = right.min(time("first"));
        wrong = wrong.min(time("wrong"));
    }
    assert!(
        right * 2 > wrong && wrong * 2 > right,
        "{right:?} {wrong:?}"
    );
    assert!(wrong > Duration::from_millis(1));
}

#[test]
fn slots_are_added_and_open_every_later_generation() {
    let mut disk = OnDisk::make().unsealed();
    fill(disk.store());
    let op = operator();
    let added = disk.store().slot_add(&op, typed("more")).unwrap();
    let again = disk.store().slot_add(&op, file(None));
    assert!(matches!(
        again,
        Err(WriteError::Slot(SlotError::FileExists(_)))
    ));
    assert_eq!(disk.store().slot_list(&op).unwrap().len(), 2);
    assert_eq!(disk.store().status().slots.len(), 2);
    for generation in 1..=3 {
        disk.store().seal();
        let report = disk.store().unseal(by("more")).unwrap();
        assert_eq!(
            (report.generation, report.by),
            (generation, UnlockedBy::Slot(added.clone()))
        );
        assert_eq!(
            disk.store().rotate_root(&op, &|_, _| {}).unwrap(),
            generation + 1
        );
    }
    disk.reopen();
    check(disk.store());
}

#[test]
fn a_removed_slot_opens_nothing_that_comes_later() {
    let disk = OnDisk::make_with(Cipher::default(), typed("stays")).unsealed_by("stays");
    let (store, op) = (disk.store(), operator());
    fill(store);
    let removed = store.slot_add(&op, file(Some("other.key"))).unwrap();
    let old_keys = fs::read(disk.dir().join("gen-00000001/keys")).unwrap();
    store.slot_remove(&op, removed.id).unwrap();
    check(store);
    assert_eq!(store.state(), State::Unsealed { generation: 2 });
    assert_eq!(store.slot_list(&op).unwrap().len(), 1);
    assert!(
        disk.dir().join("other.key").exists(),
        "copies of older generations may need it"
    );
    assert!(!disk.dir().join("gen-00000001").exists());
    store.seal();
    assert!(matches!(
        store.unseal(Unlock::FileSlots),
        Err(UnsealError::NoSuchSlot("file"))
    ));
    // Nor with a `keys` file from before the removal, which its private half opens.
    let keys = disk.dir().join("gen-00000002/keys");
    let good = fs::read(&keys).unwrap();
    fs::write(&keys, old_keys).unwrap();
    assert!(matches!(
        store.unseal(Unlock::FileSlots),
        Err(UnsealError::Keys { .. })
    ));
    fs::write(&keys, good).unwrap();
    store.unseal(by("stays")).unwrap();
    let last = store.slot_list(&op).unwrap()[0].id;
    let kept = store.slot_remove(&op, last);
    assert!(matches!(kept, Err(WriteError::Slot(SlotError::Last))));
    let unknown = store.slot_remove(&op, removed.id);
    assert!(matches!(
        unknown,
        Err(WriteError::Slot(SlotError::Unknown(_)))
    ));
    assert_eq!(store.state(), State::Unsealed { generation: 2 });
}
