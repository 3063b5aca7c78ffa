//! The index of records that have no folder: for tests of whoever uses this crate, and the twin that
//! sled is compared with.

use std::collections::BTreeMap;
use std::sync::RwLock;

use sys::lock::{read, write};

use super::{Index, IndexError};
use crate::name::NameHash;

#[derive(Default)]
pub(crate) struct MemoryIndex {
    records: RwLock<BTreeMap<NameHash, (u64, Vec<u8>)>>,
    mark: RwLock<Option<Vec<u8>>>,
}

impl Index for MemoryIndex {
    fn get(&self, name: &NameHash) -> Result<Option<(u64, Vec<u8>)>, IndexError> {
        Ok(read(&self.records).get(name).cloned())
    }

    fn put(&self, name: &NameHash, seq: u64, record: &[u8]) -> Result<(), IndexError> {
        write(&self.records).insert(*name, (seq, record.to_vec()));
        Ok(())
    }

    fn remove(&self, name: &NameHash) -> Result<(), IndexError> {
        write(&self.records).remove(name);
        Ok(())
    }

    fn mark(&self) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(read(&self.mark).clone())
    }

    fn set_mark(&self, mark: &[u8]) -> Result<(), IndexError> {
        *write(&self.mark) = Some(mark.to_vec());
        Ok(())
    }

    fn each(&self, show: &mut dyn FnMut(NameHash, u64, &[u8])) -> Result<(), IndexError> {
        for (name, (seq, record)) in &*read(&self.records) {
            show(*name, *seq, record);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }

    fn sync(&self) -> Result<(), IndexError> {
        Ok(())
    }
}
