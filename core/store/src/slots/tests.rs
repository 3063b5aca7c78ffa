//! Slots: what holds a private half, and what is refused.
#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt;

use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};

use super::*;
use crate::hex;
use crate::vectors::{self, array};

const STORE: StoreId = StoreId([1; 16]);
const LEAST: Argon2Params = Argon2Params {
    memory_kib: 19 * 1024,
    passes: 2,
    lanes: 1,
};

fn typed(passphrase: &str, params: Argon2Params) -> NewSlot {
    NewSlot::Passphrase {
        passphrase: Zeroizing::new(passphrase.into()),
        params,
        label: String::new(),
    }
}

#[test]
fn argon2id_is_what_rfc_9106_says() {
    // Section 5.3.
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .data(AssociatedData::new(&[4; 12]).unwrap())
        .build()
        .unwrap();
    let argon2 =
        Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
    let mut tag = [0; 32];
    argon2
        .hash_password_into(&[1; 32], &[2; 16], &mut tag)
        .unwrap();
    assert_eq!(
        hex::encode(&tag),
        "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
    );
}

#[test]
fn a_passphrase_is_stretched_as_in_the_vectors() {
    let vectors = vectors::keys();
    let salt: [u8; 16] = array(&vectors["argon2_salt"]);
    let key = stretch(vectors["passphrase"].as_str().unwrap(), &salt, LEAST).unwrap();
    assert_eq!(*key, array(&vectors["argon2_key"]));
}

#[test]
fn a_passphrase_slot_opens_by_its_passphrase_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (slot, half) = Slot::make(dir.path(), STORE, SlotId(1), typed("good", LEAST)).unwrap();
    let opened = slot.unwrap(STORE, "good").unwrap().unwrap().unwrap();
    assert_eq!(opened.text(), half.text());
    assert!(slot.unwrap(STORE, "bad").unwrap().unwrap().is_none());
    assert!(slot.unwrap(STORE, "").unwrap().unwrap().is_none());
    assert!(slot.read_file(dir.path()).is_none());
    // Bound to its store and its public half.
    assert!(slot.unwrap(StoreId([2; 16]), "good").unwrap().is_err());
    let other = Slot {
        recipient: "age1other".into(),
        ..slot
    };
    assert!(other.unwrap(STORE, "good").unwrap().is_err());
}

#[test]
fn parameters_out_of_range_and_empty_passphrases_make_no_slot() {
    let dir = tempfile::tempdir().unwrap();
    for params in [
        Argon2Params {
            memory_kib: 19 * 1024 - 1,
            ..LEAST
        },
        Argon2Params {
            memory_kib: 1024 * 1024 + 1,
            ..LEAST
        },
        Argon2Params { passes: 1, ..LEAST },
        Argon2Params {
            passes: 17,
            ..LEAST
        },
        Argon2Params { lanes: 0, ..LEAST },
        Argon2Params { lanes: 17, ..LEAST },
    ] {
        let made = Slot::make(dir.path(), STORE, SlotId(1), typed("good", params));
        assert!(
            matches!(made, Err(SlotError::Parameters { .. })),
            "{params:?}"
        );
    }
    let made = Slot::make(dir.path(), STORE, SlotId(1), typed("", LEAST));
    assert!(matches!(made, Err(SlotError::EmptyPassphrase)));
    assert!(Argon2Params::default().check().is_ok());
}

#[test]
fn a_key_file_is_for_its_owner_alone_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let new = || NewSlot::File {
        path: None,
        label: "disk".into(),
    };
    let (slot, half) = Slot::make(dir.path(), STORE, SlotId(1), new()).unwrap();
    let path = dir.path().join("file-slot.key");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        slot.read_file(dir.path()).unwrap().unwrap().text(),
        half.text()
    );
    let again = Slot::make(dir.path(), STORE, SlotId(2), new());
    assert!(matches!(again, Err(SlotError::FileExists(_))));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let read = slot.read_file(dir.path()).unwrap();
    assert!(matches!(read, Err(SlotError::KeyFile { .. })));
}

#[test]
fn a_key_file_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let new = NewSlot::File {
        path: Some("key".into()),
        label: String::new(),
    };
    let (slot, half) = Slot::make(dir.path(), STORE, SlotId(1), new).unwrap();
    for text in [
        "",
        "# nothing\n",
        "AGE-SECRET-KEY-1",
        &format!("{0}\n{0}\n", half.text()),
    ] {
        std::fs::write(&path, text).unwrap();
        let read = slot.read_file(dir.path()).unwrap();
        let error = read.unwrap_err().to_string();
        assert!(error.contains("exactly one age identity"), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        slot.read_file(dir.path()).unwrap(),
        Err(SlotError::File(_))
    ));
    // A FIFO without a writer would hold up the start for ever.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(matches!(
        slot.read_file(dir.path()).unwrap(),
        Err(SlotError::KeyFile { .. })
    ));
}

#[test]
fn labels_are_short_and_printable() {
    let dir = tempfile::tempdir().unwrap();
    for label in ["x".repeat(65), "a\nb".into(), "\u{1b}[31m".into()] {
        let made = Slot::make(
            dir.path(),
            STORE,
            SlotId(1),
            NewSlot::File { path: None, label },
        );
        assert!(matches!(made, Err(SlotError::Label)));
    }
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

#[test]
fn neither_passphrase_nor_private_half_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let printed = format!("{:?}", typed("canary", LEAST));
    assert!(!printed.contains("canary"), "{printed}");
    let (slot, half) = Slot::make(dir.path(), STORE, SlotId(1), typed("canary", LEAST)).unwrap();
    let printed = format!("{half:?} {slot:?} {:?}", slot.info());
    assert!(
        !printed.contains("canary") && !printed.contains("SECRET-KEY"),
        "{printed}"
    );
}

#[test]
fn a_root_key_is_sealed_to_all_slots_and_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let new = NewSlot::File {
            path: Some(name.into()),
            label: String::new(),
        };
        Slot::make(dir.path(), STORE, SlotId(1), new).unwrap()
    };
    let ((one, one_half), (other, other_half), (_, third_half)) = (make("1"), make("2"), make("3"));
    let sealed = seal_root(&[7; 32], &[one, other]).unwrap();
    assert_eq!(one_half.open(&sealed).unwrap().as_slice(), [7; 32]);
    assert_eq!(other_half.open(&sealed).unwrap().as_slice(), [7; 32]);
    assert!(third_half.open(&sealed).is_none());
}
