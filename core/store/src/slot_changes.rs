//! Adding, listing and removing key slots.

use std::sync::{MutexGuard, TryLockError};

use crate::error::WriteError;
use crate::keys_file::{KeysFile, SlotTable};
use crate::layout::Layout;
use crate::live::Sealer;
use crate::operator::Operator;
use crate::slots::{NewSlot, Slot, SlotId, SlotInfo};
use crate::store::{Home, Store};
use crate::unseal::as_slot_error;

impl Store {
    /// Adds a key slot, to which this generation of the root key and all later ones are sealed.
    ///
    /// # Errors
    /// The slot cannot be made, or a rotation is running.
    pub fn slot_add(&self, _: &Operator, slot: NewSlot) -> Result<SlotInfo, WriteError> {
        let _keys = self.change_keys()?;
        let live = self.writable()?;
        // Else the slot would be one of a generation that a restart may not find in use.
        live.writes()?;
        let layout = self.layout()?;
        let generation = live.generation();
        let mut table = self.slot_table(layout, &generation.sealer)?;
        let id = table.next_id()?;
        let (slot, private) = Slot::make(layout.dir(), self.inner.id, id, slot)?;
        let info = slot.info();
        table.add(self.inner.id, slot, &private)?;
        let Sealer {
            number,
            cipher,
            keys,
        } = &generation.sealer;
        table.write(&layout.keys_path(*number), keys, *number, *cipher)?;
        Ok(info)
    }

    /// The key slots.
    ///
    /// # Errors
    /// The store is sealed, or its `keys` file is damaged.
    pub fn slot_list(&self, _: &Operator) -> Result<Vec<SlotInfo>, WriteError> {
        let live = self.writable()?;
        let Home::Disk(layout) = &self.inner.home else {
            return Ok(Vec::new());
        };
        let table = self.slot_table(layout, &live.generation().sealer)?;
        Ok(table.slots.iter().map(Slot::info).collect())
    }

    /// Removes a key slot. Taking it out of the `keys` file alone would leave the root key to
    /// whoever has its private half and an older copy of that file; so this rotates the root key,
    /// to a generation that is not sealed to this slot, and takes as long. What it opens still are
    /// copies of older generations. A file slot's file stays: such copies may need it.
    ///
    /// # Errors
    /// There is no such slot, it is the last, or as [`Store::rotate_root`]: then the slot stays.
    pub fn slot_remove(&self, _: &Operator, id: SlotId) -> Result<(), WriteError> {
        self.layout()?;
        self.rotate_with(|table| table.remove(id).map(drop), &|_, _| {})
            .map(drop)
    }

    fn layout(&self) -> Result<&Layout, WriteError> {
        match &self.inner.home {
            Home::Disk(layout) => Ok(layout),
            Home::Memory(_) => Err(WriteError::Invalid(
                "a store in memory has no key slots".into(),
            )),
        }
    }

    pub(crate) fn change_keys(&self) -> Result<MutexGuard<'_, ()>, WriteError> {
        match self.inner.keys_change.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(dead)) => Ok(dead.into_inner()),
            Err(TryLockError::WouldBlock) => Err(WriteError::Busy(
                "keys are being changed already; `deploy status` shows a rotation's progress"
                    .into(),
            )),
        }
    }

    pub(crate) fn slot_table(
        &self,
        layout: &Layout,
        sealer: &Sealer,
    ) -> Result<SlotTable, WriteError> {
        let path = layout.keys_path(sealer.number);
        let table = KeysFile::read(&path, self.inner.id, sealer.number).and_then(|file| {
            file.verify(&sealer.keys)?;
            file.table(&sealer.keys)
        });
        Ok(table.map_err(|error| as_slot_error(error, &path))?)
    }
}
