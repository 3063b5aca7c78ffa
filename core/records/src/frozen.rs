//! Records as they were at one moment, to be read alone.
//!
//! Snapshot and journal are only ever appended to, and a file that is replaced stays as long as it is
//! open: so a copy of the table and the descriptors of both files are all records of one moment, for
//! as long as anybody wants them, while writers go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sys::lock::read;

use crate::disk::{Disk, Files, Pair, read_place};
use crate::error::RecordsError;
use crate::health::Health;
use crate::index::{Answer, Keeper};
use crate::mac::{Keys, same};
use crate::name::NameHash;
use crate::table::Table;
use crate::verify::verify;

pub(crate) struct Frozen {
    folder: PathBuf,
    keys: Keys,
    table: Table,
    files: Files,
    /// What snapshot and journal have lost since they were opened, it may have.
    keeper: Option<Arc<Keeper>>,
}

impl Frozen {
    /// The records of an open folder as they are now.
    pub(crate) fn of(disk: &Disk) -> Result<Self, RecordsError> {
        if disk.closed.load(Ordering::Acquire) {
            return Err(RecordsError::Closed);
        }
        // Both at once: while the table is held, no file goes that a place of it leads to.
        let table = read(&disk.table);
        let files = read(&disk.files).clone();
        Ok(Self {
            folder: disk.folder.clone(),
            keys: disk.keys.clone(),
            table: table.clone(),
            files,
            keeper: disk.keeper(),
        })
    }

    /// Verifies the records of a folder, and changes nothing there.
    pub(crate) fn open(folder: &Path, keys: Keys) -> Result<Self, RecordsError> {
        let verified = verify(folder, &keys)?.map_err(|bad| bad.why)?;
        let current = Pair {
            number: verified.scan.begin.number,
            snapshot: Arc::new(verified.snapshot),
            journal: Arc::new(verified.journal),
        };
        Ok(Self {
            folder: folder.to_path_buf(),
            keys,
            table: verified.table,
            files: Files { current, old: None },
            keeper: None,
        })
    }

    pub(crate) fn get(&self, name: &NameHash) -> Result<Option<Vec<u8>>, RecordsError> {
        let Some(entry) = self.table.get(name) else {
            return Ok(None);
        };
        let lost = match read_place(&self.folder, &self.keys, &self.files, name, &entry) {
            Ok(record) => return Ok(Some(record)),
            Err(lost) => lost,
        };
        match self
            .keeper
            .as_ref()
            .map(|keeper| keeper.get(name, entry.seq))
        {
            Some(Answer::Has((seq, record)))
                if seq == entry.seq && same(&self.keys.tag(name, seq, &record), &entry.tag) =>
            {
                Ok(Some(record))
            }
            _ => Err(lost),
        }
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn health(&self) -> Health {
        Health {
            records: self.table.len() as u64,
            last_seq: self.table.last_seq,
            ..Health::default()
        }
    }
}
