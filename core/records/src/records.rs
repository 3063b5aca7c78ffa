//! The public face: records in a folder, or in memory.

use std::convert::Infallible;
use std::fmt;
use std::iter;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sys::lock::{lock, read};

use crate::build;
use crate::disk::Disk;
use crate::error::{BuildError, RecordsError};
use crate::frozen::Frozen;
use crate::health::Health;
use crate::housekeeper;
use crate::mac::Keys;
use crate::memory::Memory;
use crate::name::NameHash;
use crate::open;
use crate::opened::Opened;
use crate::tuning::Tuning;

/// The largest record.
pub const MAX_RECORD: usize = 16 << 20;
/// The largest transaction, over all its records.
pub const MAX_TRANSACTION: usize = 64 << 20;

/// One change of a transaction.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts a record in place of what is there, if there is anything.
    Put {
        /// Its name.
        name: NameHash,
        /// Its bytes, at most [`MAX_RECORD`].
        record: Vec<u8>,
    },
    /// Takes a record away, if there is one.
    Remove {
        /// Its name.
        name: NameHash,
    },
}

impl Change {
    pub(crate) fn name(&self) -> &NameHash {
        let (Self::Put { name, .. } | Self::Remove { name }) = self;
        name
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { name, record } => write!(f, "Put({name:?}, {} bytes)", record.len()),
            Self::Remove { name } => write!(f, "Remove({name:?})"),
        }
    }
}

/// Records by name. Clones are the same records; the last one to go closes them.
#[derive(Clone)]
pub struct Records(Arc<Handle>);

enum Handle {
    Memory(Box<Memory>),
    Disk {
        disk: Arc<Disk>,
        housekeeper: Mutex<Option<JoinHandle<()>>>,
    },
    /// Of one moment; takes no change.
    Frozen(Box<Frozen>),
}

impl Records {
    /// Makes records, none yet, in a folder that has none; the folder is there, 0700. They are of one
    /// store: nothing of another verifies here.
    ///
    /// # Errors
    /// There are records already, or a file cannot be written: then what was made is taken away
    /// again.
    pub fn create(folder: &Path, store: [u8; 16], key: &[u8; 32]) -> Result<Self, RecordsError> {
        Self::build(folder, store, key, iter::empty::<Result<_, Infallible>>()).map_err(|error| {
            match error {
                BuildError::Records(error) => error,
                BuildError::Source(never) => match never {},
            }
        })
    }

    /// As [`Records::create`], with all these records as transaction 1. The index takes them after
    /// this has returned; until then snapshot reads serve.
    ///
    /// # Errors
    /// As [`Records::create`]; or the source fails, or has a name twice.
    pub fn build<E>(
        folder: &Path,
        store: [u8; 16],
        key: &[u8; 32],
        records: impl IntoIterator<Item = Result<(NameHash, Vec<u8>), E>>,
    ) -> Result<Self, BuildError<E>> {
        let keys = Keys::derive(key, store);
        Ok(Self::on(build::build(
            folder,
            keys,
            records,
            Tuning::default(),
        )?))
    }

    /// Opens records, verifies them, and mends what can be mended. Whoever calls this sees to it that
    /// no other process has the folder.
    ///
    /// # Errors
    /// Something is damaged, and what it was is not known for certain; it is named, and nothing was
    /// changed. A disk that takes no writes is no error: [`Health::stopped`] says so.
    pub fn open(
        folder: &Path,
        store: [u8; 16],
        key: &[u8; 32],
    ) -> Result<(Self, Opened), RecordsError> {
        Self::open_tuned(folder, store, key, Tuning::default())
    }

    /// Verifies records, and opens them to be read alone: nothing is mended, and nothing changes.
    ///
    /// # Errors
    /// As [`Records::open`], also where that would mend it.
    pub fn open_read_only(
        folder: &Path,
        store: [u8; 16],
        key: &[u8; 32],
    ) -> Result<Self, RecordsError> {
        let frozen = Frozen::open(folder, Keys::derive(key, store))?;
        Ok(Self(Arc::new(Handle::Frozen(Box::new(frozen)))))
    }

    /// All records as they are now, to be read alone. They stay so whatever is written, and outlive
    /// the files: waits for no writer, and holds up none.
    ///
    /// # Errors
    /// The records are closed.
    pub fn frozen(&self) -> Result<Self, RecordsError> {
        match &*self.0 {
            Handle::Memory(memory) => {
                Ok(Self(Arc::new(Handle::Memory(Box::new(memory.copied()?)))))
            }
            Handle::Disk { disk, .. } => {
                Ok(Self(Arc::new(Handle::Frozen(Box::new(Frozen::of(disk)?)))))
            }
            Handle::Frozen(_) => Ok(self.clone()),
        }
    }

    pub(crate) fn open_tuned(
        folder: &Path,
        store: [u8; 16],
        key: &[u8; 32],
        tuning: Tuning,
    ) -> Result<(Self, Opened), RecordsError> {
        let (disk, opened) = open::open(folder, Keys::derive(key, store), tuning)?;
        Ok((Self::on(disk), opened))
    }

    pub(crate) fn on(disk: Arc<Disk>) -> Self {
        let housekeeper = housekeeper::start(&disk)
            .inspect_err(|error| log::warn!("no snapshot will be made by itself: {error}"))
            .ok();
        Self(Arc::new(Handle::Disk {
            disk,
            housekeeper: Mutex::new(housekeeper),
        }))
    }

    #[cfg(test)]
    pub(crate) fn disk(&self) -> &Arc<Disk> {
        match &*self.0 {
            Handle::Disk { disk, .. } => disk,
            Handle::Memory(_) | Handle::Frozen(_) => panic!("these cannot be written on a disk"),
        }
    }

    /// Records that are gone when the last clone is.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Arc::new(Handle::Memory(Box::new(Memory::new()))))
    }

    /// Commits one transaction: all of it or nothing, durable and visible when this returns. Of two
    /// changes of one name the later counts. Writers that wait together share one sync. Gives the
    /// transaction's number; without a change, that of the last one.
    ///
    /// # Errors
    /// Nothing of it is visible. After [`RecordsError::Full`] it may be tried again; after a sync that
    /// failed, only opening the records anew shows whether it is durable, and until then nothing can
    /// be written.
    pub fn commit(&self, changes: Vec<Change>) -> Result<u64, RecordsError> {
        match &*self.0 {
            Handle::Memory(memory) => memory.commit(changes),
            Handle::Disk { disk, .. } => disk.commit(changes),
            Handle::Frozen(_) => Err(RecordsError::Closed),
        }
    }

    /// The record of a name, as the last transaction left it. Waits for no writer.
    ///
    /// # Errors
    /// It is neither in the index nor in snapshot and journal as it was written.
    pub fn get(&self, name: &NameHash) -> Result<Option<Vec<u8>>, RecordsError> {
        match &*self.0 {
            Handle::Memory(memory) => memory.get(name),
            Handle::Disk { disk, .. } => disk.get(name),
            Handle::Frozen(frozen) => frozen.get(name),
        }
    }

    /// All names, in order, each with the transaction that wrote its record.
    #[must_use]
    pub fn entries(&self) -> Vec<(NameHash, u64)> {
        match &*self.0 {
            Handle::Memory(memory) => memory.entries(),
            Handle::Disk { disk, .. } => read(&disk.table).entries(),
            Handle::Frozen(frozen) => frozen.table().entries(),
        }
    }

    /// The last transaction's number; 0: there was none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        match &*self.0 {
            Handle::Memory(memory) => memory.last_seq(),
            Handle::Disk { disk, .. } => read(&disk.table).last_seq,
            Handle::Frozen(frozen) => frozen.table().last_seq,
        }
    }

    /// How the records are. Waits for no writer.
    #[must_use]
    pub fn health(&self) -> Health {
        match &*self.0 {
            Handle::Memory(memory) => memory.health(),
            Handle::Disk { disk, .. } => disk.health(),
            Handle::Frozen(frozen) => frozen.health(),
        }
    }

    /// Begins fresh files: a snapshot of all records, an empty journal, and an index that is filled
    /// after this has returned. What was removed or overwritten before is in none of them. This also
    /// happens by itself, when the journal is long, and some minutes after a record was removed.
    ///
    /// # Errors
    /// The old files go on.
    pub fn snapshot(&self) -> Result<(), RecordsError> {
        match &*self.0 {
            Handle::Memory(_) | Handle::Frozen(_) => Ok(()),
            Handle::Disk { disk, .. } => disk.snapshot(),
        }
    }

    /// Closes the files cleanly; every later call fails. Dropping the last clone does the same.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Handle {
    fn close(&self) {
        match self {
            Self::Memory(memory) => memory.close(),
            Self::Frozen(_) => {}
            Self::Disk { disk, housekeeper } => {
                disk.begin_closing();
                let housekeeper = lock(housekeeper).take();
                if housekeeper.is_some_and(|thread| thread.join().is_err()) {
                    log::error!("the housekeeper of the records panicked");
                }
                disk.close();
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("last_seq", &self.last_seq())
            .finish_non_exhaustive()
    }
}
