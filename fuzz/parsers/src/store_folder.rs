//! The small files of a store's folder.

use std::fs;
use std::sync::OnceLock;

use store::{Store, Unlock, UnsealError};

use crate::backups::{contents_of, vectors};
use crate::check_refusal;
use crate::folder::Folder;

const CURRENT: &[u8] = b"gen-00000007\n";

/// The store of the vectors: `STORE`, `keys`, and the identity of its key file.
pub(crate) struct Vectors {
    pub(crate) store: String,
    pub(crate) keys: String,
    identity: String,
}

pub(crate) fn known() -> &'static Vectors {
    static VECTORS: OnceLock<Vectors> = OnceLock::new();
    VECTORS.get_or_init(|| {
        let text = include_str!("../../../core/store/tests/vectors/keys.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let said = |name: &str| vectors[name].as_str().unwrap().to_owned();
        let id = said("store");
        Vectors {
            store: format!("deploy-secrets store\nformat 1\nid {id}\ncipher aes-256-gcm\n"),
            keys: said("keys"),
            identity: said("identity"),
        }
    })
}

pub(crate) fn good_slot_file() -> String {
    format!("# a key slot\n\n{}\n", known().identity)
}

/// A folder with these three files; of records it has none.
fn folder_of(store: &[u8], keys: &[u8], slot: &[u8]) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("gen-00000007")).unwrap();
    folder.write("STORE", store);
    folder.write("CURRENT", CURRENT);
    folder.write("gen-00000007/keys", keys);
    folder.write("file-slot.key", slot);
    folder
}

/// Whether the store opens so far that its records are looked for.
fn unlocks(folder: &Folder) -> bool {
    let store = Store::open(folder.path()).unwrap();
    // As `deploy status` reads them while sealed.
    assert!(store.status().slots.len() <= 64 * 1024);
    match store.unseal(Unlock::FileSlots) {
        Err(UnsealError::Records(_)) => true,
        Err(error) => {
            check_refusal(&error);
            false
        }
        Ok(_) => panic!("a store without records was unsealed"),
    }
}

/// The `keys` file: by a slot, and in a backup by the root key.
pub fn keys_file(bytes: &[u8]) -> bool {
    let known = known();
    let slot = good_slot_file();
    let by_slot = unlocks(&folder_of(known.store.as_bytes(), bytes, slot.as_bytes()));
    assert!(!by_slot || bytes == known.keys.as_bytes(), "keys changed");
    let by_root = contents_of(&vectors().with(bytes, None)).is_some();
    assert!(!by_root || bytes == vectors().keys, "keys changed");
    by_slot || by_root
}

/// A slot's key file: comments, and the one identity.
pub fn slot_file(bytes: &[u8]) -> bool {
    let known = known();
    let folder = folder_of(known.store.as_bytes(), known.keys.as_bytes(), bytes);
    let taken = unlocks(&folder);
    if taken {
        let text = std::str::from_utf8(bytes).unwrap();
        let mut lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let only = lines.next().unwrap();
        assert!(only.eq_ignore_ascii_case(&known.identity), "another key");
        assert_eq!(lines.next(), None);
    }
    taken
}

/// `STORE` and `CURRENT`: each has one spelling.
pub fn store_files(bytes: &[u8]) -> bool {
    let known = known();
    let folder = folder_of(bytes, known.keys.as_bytes(), b"");
    let as_store = match Store::open(folder.path()) {
        Ok(store) => {
            let status = store.status();
            let printed = format!(
                "deploy-secrets store\nformat 1\nid {}\ncipher {}\n",
                status.id, status.cipher
            );
            assert_eq!(bytes, printed.as_bytes());
            true
        }
        Err(error) => {
            check_refusal(&error);
            false
        }
    };
    folder.write("STORE", known.store.as_bytes());
    folder.write("CURRENT", bytes);
    let as_current = match Store::open(folder.path()) {
        Ok(_) => {
            assert_eq!(bytes, CURRENT);
            true
        }
        Err(error) => {
            check_refusal(&error);
            false
        }
    };
    as_store || as_current
}
