//! What a store shares while it is unsealed, and how anything is written.
//!
//! Locks, from the outside in: names ([`Writers`]), `gate`, `catalog`, `holds`. The gate is what a
//! writer holds for reading over its commit, and what a rotation or a seal takes for writing when no
//! commit may be under way. Readers take `catalog` and `generation` alone, and nobody holds those
//! over a commit: a read never waits for a disk's sync.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};

use records::{Change, NameHash, Records, RecordsError};
use sys::lock::{lock, read};
use zeroize::Zeroizing;

use crate::catalog::Catalog;
use crate::cipher::Cipher;
use crate::envelope::{self, Bound, Checked};
use crate::error::{EnvelopeError, RecordError, WriteError};
use crate::hierarchy::Keys;
use crate::place::{self, Kind, Place};
use crate::writers::{Name, NamesGuard, Writers};

/// Seals and opens under the root key of one generation.
pub(crate) struct Sealer {
    pub(crate) number: u32,
    pub(crate) cipher: Cipher,
    pub(crate) keys: Keys,
}

impl Sealer {
    /// The same key once more, in locked memory of its own: it outlives a rotation.
    pub(crate) fn copied(&self) -> io::Result<Self> {
        Ok(Self {
            number: self.number,
            cipher: self.cipher,
            keys: Keys::from_root(self.keys.store(), self.keys.root())?,
        })
    }

    /// A record and its name on disk.
    pub(crate) fn seal(
        &self,
        place: &Place,
        text: &[u8],
    ) -> Result<(NameHash, Vec<u8>), RecordError> {
        let hash = place.hash(&self.keys);
        let binding = place.binding(&hash);
        let bound = self.bound(place.kind(), &binding);
        let record = envelope::seal(self.cipher, self.keys.root(), bound, text).map_err(|why| {
            RecordError {
                what: place.describe(),
                why,
            }
        })?;
        Ok((hash, record))
    }

    /// Layout and key of a record, to be opened into the caller's memory.
    pub(crate) fn check<'a>(
        &self,
        place: &Place,
        record: &'a [u8],
    ) -> Result<Checked<'a>, EnvelopeError> {
        let binding = place.binding(&place.hash(&self.keys));
        Checked::parse(self.keys.root(), self.bound(place.kind(), &binding), record)
    }

    pub(crate) fn open(
        &self,
        place: &Place,
        record: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, RecordError> {
        self.check(place, record)
            .and_then(Checked::open)
            .map_err(|why| RecordError {
                what: place.describe(),
                why,
            })
    }

    /// Opens a record that was found by listing, and of which only the name on disk is known.
    pub(crate) fn open_listed(
        &self,
        kind: Kind,
        hash: &NameHash,
        record: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let binding = place::listed_binding(hash);
        envelope::open(self.keys.root(), self.bound(kind, &binding), record)
    }

    fn bound<'a>(&self, kind: Kind, place: &'a [u8]) -> Bound<'a> {
        Bound {
            store: self.keys.store(),
            kind,
            generation: self.number,
            place,
        }
    }
}

/// One generation of the root key, and the records that are sealed under it.
pub(crate) struct Generation {
    pub(crate) sealer: Sealer,
    pub(crate) records: Records,
}

impl Generation {
    pub(crate) fn number(&self) -> u32 {
        self.sealer.number
    }

    /// The sealed record of a place.
    pub(crate) fn get(&self, place: &Place) -> Result<Option<Vec<u8>>, RecordsError> {
        self.records.get(&place.hash(&self.sealer.keys))
    }
}

/// A span between an unseal and the next seal.
pub(crate) struct Live {
    pub(crate) catalog: RwLock<Catalog>,
    generation: RwLock<Arc<Generation>>,
    writers: Writers,
    pub(crate) gate: RwLock<()>,
    /// Set when the span ends; whoever comes through the gate later turns back.
    closing: AtomicBool,
    /// Set when it is not known which generation a restart will find; reading goes on.
    stopped: AtomicBool,
    /// Places written since a rotation began to copy; `None`: no rotation.
    pub(crate) meanwhile: Mutex<Option<BTreeSet<Place>>>,
    /// Records done and to do of a rotation.
    pub(crate) rotation: Mutex<Option<(u64, u64)>>,
}

/// A sealed record, and the generation that opens it.
pub(crate) struct Found {
    pub(crate) generation: Arc<Generation>,
    pub(crate) record: Vec<u8>,
}

impl Live {
    pub(crate) fn new(catalog: Catalog, generation: Generation) -> Self {
        Self {
            catalog: RwLock::new(catalog),
            generation: RwLock::new(Arc::new(generation)),
            writers: Writers::default(),
            gate: RwLock::new(()),
            closing: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            meanwhile: Mutex::new(None),
            rotation: Mutex::new(None),
        }
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        read(&self.generation).clone()
    }

    /// The next generation takes over; the caller holds the gate.
    pub(crate) fn switch_to(&self, next: Arc<Generation>) -> Arc<Generation> {
        std::mem::replace(&mut *sys::lock::write(&self.generation), next)
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(crate) fn stop_writing(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Why nothing is written any more.
    pub(crate) fn stopped(&self) -> Option<String> {
        let stopped = self.stopped.load(Ordering::SeqCst);
        stopped.then(|| "the switch to another key generation could not be synced".into())
    }

    /// Whether anything may be written, keys too.
    pub(crate) fn writes(&self) -> Result<(), WriteError> {
        if self.is_closing() {
            return Err(WriteError::Sealed);
        }
        match self.stopped() {
            Some(why) => Err(RecordsError::Stopped(why).into()),
            None => Ok(()),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// The sealed record of a place. A rotation may take a generation's folder away under a reader:
    /// what fails is asked of the next one.
    pub(crate) fn find(&self, place: &Place) -> Result<Option<Found>, RecordsError> {
        loop {
            let generation = self.generation();
            match generation.get(place) {
                Ok(Some(record)) => return Ok(Some(Found { generation, record })),
                other => {
                    if generation.number() == self.generation().number() {
                        return other.map(|_| None);
                    }
                }
            }
        }
    }

    /// Begins to write what belongs to `names`; waits for other writers of the same.
    pub(crate) fn write(&self, names: Vec<Name>) -> Result<Writing<'_>, WriteError> {
        self.write_more(vec![self.writers.lock(names)])
    }

    /// Locks names without beginning to write.
    pub(crate) fn lock_names(&self, names: Vec<Name>) -> NamesGuard<'_> {
        self.writers.lock(names)
    }

    /// Begins to write what belongs to names that are locked.
    pub(crate) fn write_more<'a>(
        &'a self,
        names: Vec<NamesGuard<'a>>,
    ) -> Result<Writing<'a>, WriteError> {
        let gate = read(&self.gate);
        self.writes()?;
        Ok(Writing {
            live: self,
            generation: self.generation(),
            changes: Vec::new(),
            places: Vec::new(),
            _gate: gate,
            _names: names,
        })
    }
}

/// A writer: has its names to itself, and no rotation switches generations under it.
pub(crate) struct Writing<'a> {
    live: &'a Live,
    generation: Arc<Generation>,
    changes: Vec<Change>,
    places: Vec<Place>,
    _gate: RwLockReadGuard<'a, ()>,
    _names: Vec<NamesGuard<'a>>,
}

impl<'a> Writing<'a> {
    pub(crate) fn live(&self) -> &'a Live {
        self.live
    }

    /// Seals `text` for the next commit.
    pub(crate) fn put(&mut self, place: Place, text: &[u8]) -> Result<(), WriteError> {
        let (name, record) = self.generation.sealer.seal(&place, text)?;
        self.changes.push(Change::Put { name, record });
        self.places.push(place);
        Ok(())
    }

    pub(crate) fn remove(&mut self, place: Place) {
        let name = place.hash(&self.generation.sealer.keys);
        self.changes.push(Change::Remove { name });
        self.places.push(place);
    }

    /// One transaction; durable when this returns.
    pub(crate) fn commit(&mut self) -> Result<(), WriteError> {
        let changes = std::mem::take(&mut self.changes);
        self.generation.records.commit(changes)?;
        Ok(())
    }

    /// Opens a record that belongs to the names of this writer.
    pub(crate) fn read(&self, place: &Place) -> Result<Option<Zeroizing<Vec<u8>>>, WriteError> {
        let record = self.generation.get(place)?;
        Ok(record
            .map(|record| self.generation.sealer.open(place, &record))
            .transpose()?)
    }
}

impl Drop for Writing<'_> {
    /// Tells a rotation what to copy again: after the catalog knows it, and before the gate opens. A
    /// rotation that began to listen later than this looks finds it in the catalog.
    fn drop(&mut self) {
        if let Some(meanwhile) = &mut *lock(&self.live.meanwhile) {
            meanwhile.extend(self.places.drain(..));
        }
    }
}
