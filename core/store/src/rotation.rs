//! Root key rotation.
//!
//! The next generation is built beside the one in use, while that goes on reading and writing. What
//! is written meanwhile is noted by its place and sealed again, round after round; only for the last
//! few are writers held. One rename of CURRENT is the switch: before it the old generation is the
//! whole one and the new one a leftover, after it the other way round.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use records::{BuildError, Change, NameHash, Records};
use sys::lock::{lock, read, write};

use crate::error::{EnvelopeError, RecordError, SlotError, WriteError};
use crate::hierarchy::Keys;
use crate::keys_file::SlotTable;
use crate::live::{Generation, Live, Sealer};
use crate::operator::Operator;
use crate::place::Place;
use crate::store::{Home, Store, Twin};
use crate::unseal::keyring_description;

/// Rounds without holding writers, at most: they may write faster than we seal.
const ROUNDS: usize = 16;
/// So few places are left to the last round.
const FEW: usize = 32;
/// Bytes of one commit while catching up.
const BATCH: usize = 1 << 20;
/// Progress is told after so many records.
const STEP: u64 = 64;

impl Store {
    /// Makes a new root key, seals everything under it, and destroys the old generation; reads and
    /// writes go on meanwhile. `progress` hears records done and to do, and must not call the store.
    /// Gives the new generation's number.
    ///
    /// # Errors
    /// Another rotation is running ([`WriteError::Busy`]), the store was sealed meanwhile, or
    /// something failed: then the old generation goes on.
    pub fn rotate_root(
        &self,
        _: &Operator,
        progress: &dyn Fn(u64, u64),
    ) -> Result<u32, WriteError> {
        self.rotate_with(|_| Ok(()), progress)
    }

    pub(crate) fn rotate_with(
        &self,
        change: impl FnOnce(&mut SlotTable) -> Result<(), SlotError>,
        progress: &dyn Fn(u64, u64),
    ) -> Result<u32, WriteError> {
        let _keys = self.change_keys()?;
        let live = self.writable()?;
        // Else the generation that CURRENT names by now would be the one to build anew.
        live.writes()?;
        let old = live.generation();
        let number = old.number().checked_add(1).ok_or_else(|| {
            WriteError::Conflict("the root key cannot be rotated any more".into())
        })?;
        let table = match &self.inner.home {
            Home::Disk(layout) => {
                let mut table = self.slot_table(layout, &old.sealer)?;
                change(&mut table)?;
                Some(table)
            }
            Home::Memory(_) => None,
        };
        let keys = Keys::generate(self.inner.id).map_err(WriteError::System)?;
        let sealer = Sealer {
            number,
            cipher: self.inner.cipher,
            keys,
        };
        *lock(&live.meanwhile) = Some(BTreeSet::new());
        let rotation = Rotation {
            store: self,
            live: &live,
            old: &old,
            progress,
        };
        let done = rotation.run(sealer, table.as_ref());
        *lock(&live.meanwhile) = None;
        *lock(&live.rotation) = None;
        done.map(|()| number)
    }
}

struct Rotation<'a> {
    store: &'a Store,
    live: &'a Live,
    old: &'a Arc<Generation>,
    progress: &'a dyn Fn(u64, u64),
}

impl Rotation<'_> {
    fn run(&self, sealer: Sealer, table: Option<&SlotTable>) -> Result<(), WriteError> {
        let number = sealer.number;
        let mut switched = Switch::NotYet;
        let done = self.build_and_switch(sealer, table, &mut switched);
        let Home::Disk(layout) = &self.store.inner.home else {
            return done;
        };
        let (gone, records) = match switched {
            Switch::Done => (self.old.number(), Some(&self.old.records)),
            Switch::NotYet => (number, None),
            // Either may be the one that is found after a power cut: both stay.
            Switch::Unclear => return done,
        };
        records.map(Records::close);
        // The keyring first: a folder that is left over tells the next unseal to look there.
        self.store.forget_in_keyring(gone);
        if let Err(error) = layout.destroy(gone) {
            log::warn!("generation {gone} is left over until the next unseal: {error}");
        }
        done
    }

    fn build_and_switch(
        &self,
        sealer: Sealer,
        table: Option<&SlotTable>,
        switched: &mut Switch,
    ) -> Result<(), WriteError> {
        let places = read(&self.live.catalog).places();
        let mut absent = Vec::new();
        let records = self.build(&sealer, table, &places, &mut absent)?;
        let next = Generation { sealer, records };
        let closes_unless_switched = |error| {
            next.records.close();
            error
        };
        for _ in 0..ROUNDS {
            let written = self.take_written();
            let few = written.len() <= FEW;
            self.catch_up(&next, &written)
                .map_err(closes_unless_switched)?;
            if few {
                break;
            }
        }
        let _gate = write(&self.live.gate);
        self.catch_up(&next, &self.take_written())
            .map_err(closes_unless_switched)?;
        self.nothing_lost(&absent).map_err(closes_unless_switched)?;
        self.switch(next, switched)
    }

    /// The new generation's folder, with its `keys` file and the records as they are now.
    fn build(
        &self,
        sealer: &Sealer,
        table: Option<&SlotTable>,
        places: &[Place],
        absent: &mut Vec<Place>,
    ) -> Result<Records, WriteError> {
        let total = places.len() as u64;
        self.tell(0, total);
        let mut sealed = places.iter().zip(1..).filter_map(|(place, done)| {
            let record = self.reseal(sealer, place).transpose();
            if record.is_none() {
                absent.push(place.clone());
            }
            if done % STEP == 0 || done == total {
                self.tell(done, total);
            }
            record
        });
        let (Home::Disk(layout), Some(table)) = (&self.store.inner.home, table) else {
            let records = Records::in_memory();
            sealed.try_for_each(|record| {
                let (name, record) = record?;
                records.commit(vec![Change::Put { name, record }])?;
                Ok::<_, WriteError>(())
            })?;
            return Ok(records);
        };
        // What a rotation that could not clean up behind itself has left.
        layout.destroy(sealer.number)?;
        layout.make_folder(sealer.number)?;
        table.write(
            &layout.keys_path(sealer.number),
            &sealer.keys,
            sealer.number,
            sealer.cipher,
        )?;
        let key = sealer.keys.journal_key().map_err(|why| RecordError {
            what: "the records' MAC key".into(),
            why,
        })?;
        let folder = layout.folder(sealer.number);
        Records::build(&folder, self.store.inner.id.0, &key, sealed).map_err(|error| match error {
            BuildError::Records(error) => error.into(),
            BuildError::Source(error) => error,
        })
    }

    /// A place's record under the next root key; `None`: there is none any more.
    fn reseal(
        &self,
        sealer: &Sealer,
        place: &Place,
    ) -> Result<Option<(NameHash, Vec<u8>)>, WriteError> {
        if self.live.is_closing() {
            return Err(WriteError::Sealed);
        }
        let Some(record) = self.old.get(place)? else {
            return Ok(None);
        };
        let text = self.old.sealer.open(place, &record)?;
        Ok(Some(sealer.seal(place, &text)?))
    }

    fn take_written(&self) -> BTreeSet<Place> {
        lock(&self.live.meanwhile)
            .as_mut()
            .map(mem::take)
            .unwrap_or_default()
    }

    /// Brings places to what they are in the old generation now.
    fn catch_up(&self, next: &Generation, places: &BTreeSet<Place>) -> Result<(), WriteError> {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for place in places {
            match self.reseal(&next.sealer, place)? {
                Some((name, record)) => {
                    bytes += record.len();
                    changes.push(Change::Put { name, record });
                }
                None if next.get(place)?.is_some() => {
                    changes.push(Change::Remove {
                        name: place.hash(&next.sealer.keys),
                    });
                }
                None => {}
            }
            if bytes >= BATCH {
                next.records.commit(mem::take(&mut changes))?;
                bytes = 0;
            }
        }
        if !changes.is_empty() {
            next.records.commit(changes)?;
        }
        Ok(())
    }

    /// What was absent when it was to be copied must have been removed by somebody; no writer is
    /// under way.
    fn nothing_lost(&self, absent: &[Place]) -> Result<(), WriteError> {
        let catalog = read(&self.live.catalog);
        for place in absent {
            if catalog.lists(place) && self.old.get(place)?.is_none() {
                let why = EnvelopeError::Missing;
                return Err(RecordError {
                    what: place.describe(),
                    why,
                }
                .into());
            }
        }
        Ok(())
    }

    /// The caller holds the gate: nobody writes.
    fn switch(&self, next: Generation, switched: &mut Switch) -> Result<(), WriteError> {
        let Sealer { number, keys, .. } = &next.sealer;
        match &self.store.inner.home {
            Home::Memory(twin) => {
                let mut twin = lock(twin);
                let Twin {
                    generation,
                    root,
                    records,
                } = &mut *twin;
                *generation = *number;
                root.copy_from_slice(keys.root());
                *records = next.records.clone();
            }
            Home::Disk(layout) => {
                // Before the rename: a crash right after it finds the key it needs.
                let description = keyring_description(self.store.inner.id, *number);
                if let Err(error) = sys::keyring::put(&description, keys.root()) {
                    log::warn!("the keyring does not take the root key: {error}");
                }
                if let Err(error) = layout.set_current(*number) {
                    if !layout
                        .current()
                        .is_ok_and(|current| current == self.old.number())
                    {
                        // Renamed, and not synced: a write to either could be one to the wrong one.
                        self.live.stop_writing();
                        *switched = Switch::Unclear;
                    }
                    next.records.close();
                    return Err(error.into());
                }
            }
        }
        *switched = Switch::Done;
        self.live.switch_to(Arc::new(next));
        Ok(())
    }

    fn tell(&self, done: u64, total: u64) {
        *lock(&self.live.rotation) = Some((done, total));
        (self.progress)(done, total);
    }
}

/// How far a rotation came.
enum Switch {
    NotYet,
    Done,
    Unclear,
}
