//! What the worker holds: a store, records alone, or sled alone.

use std::path::Path;

use records::{Change, NameHash, Records};
use store::Store;
use tests::trial::{Lines, Op, Target, describe};

use crate::in_store;

const STORE: [u8; 16] = [7; 16];
const KEY: [u8; 32] = [9; 32];

pub enum Held {
    Store(Store),
    Records(Records),
    Sled(sled::Db),
}

impl Held {
    pub fn init(folder: &Path, target: Target) -> Result<(), String> {
        match target {
            Target::Store => in_store::init(folder),
            Target::Records => {
                make_folder(folder)?;
                Records::create(folder, STORE, &KEY)
                    .map(drop)
                    .map_err(|error| error.to_string())
            }
            Target::Sled => {
                make_folder(folder)?;
                sled::open(folder)
                    .and_then(|db| db.flush())
                    .map(drop)
                    .map_err(|error| error.to_string())
            }
        }
    }

    /// What it is, how it was found, and the store's id.
    pub fn open(folder: &Path, target: Target) -> Result<(Self, String, String), String> {
        match target {
            Target::Store => {
                let (store, found) = in_store::open(folder)?;
                let id = store.id().to_string();
                Ok((Self::Store(store), found, id))
            }
            Target::Records => {
                let (records, found) =
                    Records::open(folder, STORE, &KEY).map_err(|error| error.to_string())?;
                Ok((Self::Records(records), found.to_string(), String::new()))
            }
            Target::Sled => {
                let db = sled::open(folder).map_err(|error| error.to_string())?;
                Ok((Self::Sled(db), String::new(), String::new()))
            }
        }
    }

    pub fn change(&self, op: &Op) -> Result<(), String> {
        match (self, op) {
            (Self::Store(store), op) => in_store::change(store, op),
            (Self::Records(records), Op::Commit(changes)) => {
                let changes = changes.iter().map(|(name, bytes)| match bytes {
                    Some(bytes) => Change::Put {
                        name: hash(name),
                        record: bytes.make(),
                    },
                    None => Change::Remove { name: hash(name) },
                });
                records
                    .commit(changes.collect())
                    .map(drop)
                    .map_err(|error| error.to_string())
            }
            (Self::Records(records), Op::Snapshot) => {
                records.snapshot().map_err(|error| error.to_string())
            }
            (Self::Sled(db), Op::Commit(changes)) => {
                let mut batch = sled::Batch::default();
                for (name, bytes) in changes {
                    match bytes {
                        Some(bytes) => batch.insert(name.as_str(), bytes.make()),
                        None => batch.remove(name.as_str()),
                    }
                }
                db.apply_batch(batch)
                    .and_then(|()| db.flush())
                    .map(drop)
                    .map_err(|error| error.to_string())
            }
            (Self::Sled(_), Op::Snapshot) => Ok(()),
            (_, op) => panic!("{op:?} is of a store"),
        }
    }

    pub fn lines(&self) -> Lines {
        match self {
            Self::Store(store) => in_store::lines(store),
            Self::Records(records) => {
                let each = records.entries().into_iter().map(|(hash, _)| {
                    let how = match records.get(&hash) {
                        Ok(Some(record)) => describe(&record),
                        other => format!("error: {:?}", other.map(drop)),
                    };
                    (format!("{}/record", name(&hash)), how)
                });
                each.collect()
            }
            Self::Sled(db) => {
                let each = db.iter().filter_map(Result::ok).map(|(name, record)| {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    (format!("{name}/record"), describe(&record))
                });
                each.collect()
            }
        }
    }

    pub fn troubles(&self) -> Vec<String> {
        match self {
            Self::Store(store) => store.status().records.map(|health| health.troubles()),
            Self::Records(records) => Some(records.health().troubles()),
            Self::Sled(_) => None,
        }
        .unwrap_or_default()
    }

    pub fn close(&self) {
        match self {
            Self::Store(store) => store.close(),
            Self::Records(records) => records.close(),
            Self::Sled(db) => drop(db.flush()),
        }
    }

    pub fn forget_keys(&self) {
        if let Self::Store(store) = self {
            in_store::forget_keys(store);
        }
    }
}

fn make_folder(folder: &Path) -> Result<(), String> {
    std::fs::create_dir(folder)
        .and_then(|()| std::fs::File::open(folder.parent().unwrap())?.sync_all())
        .map_err(|error| error.to_string())
}

/// A name of at most 32 bytes, as it is: the records do not care what it is a hash of.
fn hash(name: &str) -> NameHash {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    NameHash(bytes)
}

fn name(hash: &NameHash) -> String {
    let text = String::from_utf8_lossy(&hash.0);
    text.trim_end_matches('\0').to_owned()
}
