//! Promises of the whole crate, each test named for one.
#![allow(clippy::unwrap_used)]

mod basics;
mod child;
mod damage;
mod frozen;
mod replay;
mod space;
mod twin;
mod writing;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Change, NameHash, Opened, Records, RecordsError};

pub(crate) const STORE: [u8; 16] = *b"a store, 16 byte";
pub(crate) const KEY: [u8; 32] = [7; 32];

/// A folder of records, taken away with the value.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// In memory, where it can be: syncs cost nothing there, and most tests do not need them.
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Self(dir.unwrap())
    }

    pub(crate) fn on_disk() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Made and open.
    pub(crate) fn with_records() -> (Self, Records) {
        let folder = Self::new();
        let records = Records::create(folder.path(), STORE, &KEY).unwrap();
        (folder, records)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn open(&self) -> Result<(Records, Opened), RecordsError> {
        Records::open(self.path(), STORE, &KEY)
    }

    /// What is on the disk now, elsewhere: as a kill would leave it, or a thief's copy.
    pub(crate) fn copied(&self) -> Self {
        let copy = Self::new();
        copy_dir(self.path(), copy.path());
        copy
    }

    /// The files, relative to the folder.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        crate::files::walk(self.path(), &mut |path, meta| {
            if meta.is_file() {
                found.push(path.strip_prefix(self.path()).unwrap().to_path_buf());
            }
            Ok(())
        })
        .unwrap();
        found.sort();
        found
    }

    /// The only file or folder of records whose name begins so.
    pub(crate) fn named(&self, start: &str) -> PathBuf {
        let entries = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut found: Vec<_> = entries
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with(start)
            })
            .collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub(crate) fn name(number: u32) -> NameHash {
    let mut name = [0; 32];
    name[..4].copy_from_slice(&number.to_be_bytes());
    NameHash(name)
}

pub(crate) fn put(number: u32, record: &[u8]) -> Change {
    Change::Put {
        name: name(number),
        record: record.to_vec(),
    }
}

pub(crate) fn remove(number: u32) -> Change {
    Change::Remove { name: name(number) }
}

pub(crate) fn get(records: &Records, number: u32) -> Option<Vec<u8>> {
    records.get(&name(number)).unwrap()
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::yield_now();
    }
}

/// Waits until the index has everything.
pub(crate) fn settled(records: &Records) {
    until("the index has everything", || {
        records.health().index_behind == 0
    });
}
