//! A backup becomes a store: in a folder of its own, and checked there in full.

use std::fs;
use std::io::Read;
use std::path::{Component, Path};

use records::Records;

use super::read::Reader;
use super::{BackupError, BackupKey, Contents, Difference, Found, compare};
use crate::catalog::Catalog;
use crate::error::{FileError, RecordError, SlotError, UnsealError};
use crate::keys_file::KeysFile;
use crate::layout::{Layout, write_file};
use crate::live::{Generation, Sealer};
use crate::slots::{Holder, NewSlot, Slot, SlotInfo, file};
use crate::unseal::keyring_description;

/// What was restored, and what it would change.
#[derive(Debug)]
pub struct Restored {
    /// What the backup holds.
    pub contents: Contents,
    /// How the store was found that it is to replace.
    pub found: Found,
    /// What is not as it is there.
    pub differences: Vec<Difference>,
    /// A key slot in place of those whose key files were in the lost state folder.
    pub added_slot: Option<SlotInfo>,
}

impl Restored {
    /// Makes a store of a backup in the empty folder `into`, reads it all again from there, and
    /// compares it with the store in `current`, which it is to replace and where nothing changes.
    /// Whoever calls this sees to it that nobody uses `current`.
    ///
    /// # Errors
    /// The key does not open the backup, it is damaged, or a file cannot be written: then `into` is
    /// empty again.
    pub fn make(
        source: impl Read,
        key: &BackupKey,
        into: &Path,
        current: &Path,
    ) -> Result<Self, BackupError> {
        let reader = Reader::open(source, key)?;
        let layout = Layout::begin(into, reader.moment.store, reader.moment.cipher)?;
        let made = fill(&layout, reader, current);
        if made.is_err() {
            clear(into);
        }
        made
    }
}

impl Restored {
    /// Takes the root key of the store that is replaced out of the keyring, if it is another one: no
    /// seal would do so any more.
    pub fn forget_replaced(&self) {
        let moment = &self.contents.moment;
        if let Found::Store { generation, .. } = self.found
            && generation != moment.generation
            && let Err(error) = sys::keyring::remove(&keyring_description(moment.store, generation))
        {
            log::error!("the keyring still holds a root key: {error}");
        }
    }
}

fn fill(
    layout: &Layout,
    mut reader: Reader<impl Read>,
    current: &Path,
) -> Result<Restored, BackupError> {
    let number = reader.moment.generation;
    layout.make_folder(number)?;
    write_file(&layout.keys_path(number), &reader.keys_bytes)?;
    let key = journal_key(&reader.sealer)?;
    let folder = layout.folder(number);
    let records = Records::build(&folder, layout.id.0, &key, &mut reader)?;
    records.close();
    let contents = reader.contents()?;
    let added_slot = key_files(layout, &reader, current)?;
    layout.set_current(number)?;
    // From the disk, as the next secretsd will: then it is known that it can.
    let catalog = check(layout, &reader.sealer)?;
    let (found, differences) = compare::with(current, &reader, &catalog);
    layout.finish()?;
    Ok(Restored {
        contents,
        found,
        differences,
        added_slot,
    })
}

/// Opens every record of the folder.
fn check(layout: &Layout, sealer: &Sealer) -> Result<Catalog, BackupError> {
    let path = layout.keys_path(sealer.number);
    KeysFile::read(&path, layout.id, sealer.number)?.verify(&sealer.keys)?;
    let folder = layout.folder(sealer.number);
    let generation = Generation {
        sealer: sealer.copied().map_err(BackupError::System)?,
        records: Records::open_read_only(&folder, layout.id.0, &*journal_key(sealer)?)?,
    };
    let (catalog, _) = Catalog::load(&generation)?;
    for place in catalog.places() {
        let record = generation.get(&place)?.unwrap_or_default();
        let opened = sealer.open(&place, &record);
        opened.map_err(UnsealError::Record)?;
    }
    Ok(catalog)
}

/// A backup has no private half of a slot. Those in the state folder are taken over from `current`, if
/// they are still there; in place of those that are lost, one new key file is made.
fn key_files(
    layout: &Layout,
    reader: &Reader<impl Read>,
    current: &Path,
) -> Result<Option<SlotInfo>, BackupError> {
    let mut lost = false;
    for slot in reader.keys_file.slots() {
        let Holder::File { path } = &slot.holder else {
            continue;
        };
        // Elsewhere it is still where it was, or on a stick that is put in again.
        if !is_in_the_folder(path) {
            continue;
        }
        match file::read(&current.join(path)) {
            Ok(private) if private.recipient() == slot.recipient => {
                file::create(&layout.dir().join(path), &private)?;
            }
            _ => lost = true,
        }
    }
    if !lost {
        return Ok(None);
    }
    let sealer = &reader.sealer;
    let mut table = reader.keys_file.table(&sealer.keys)?;
    let id = match table.next_id() {
        Ok(id) => id,
        // Then it is unsealed by another one of them.
        Err(SlotError::TooMany(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let new = NewSlot::File {
        path: Some(format!("restored-{id}.key").into()),
        label: "made by restore".into(),
    };
    let (slot, private) = Slot::make(layout.dir(), layout.id, id, new)?;
    let info = slot.info();
    table.add(layout.id, slot, &private)?;
    let path = layout.keys_path(sealer.number);
    table.write(&path, &sealer.keys, sealer.number, sealer.cipher)?;
    Ok(Some(info))
}

fn is_in_the_folder(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn journal_key(sealer: &Sealer) -> Result<zeroize::Zeroizing<[u8; 32]>, BackupError> {
    let what = || "the records' MAC key".into();
    let key = sealer.keys.journal_key();
    key.map_err(|why| BackupError::Record(RecordError { what: what(), why }))
}

/// Takes away what was made in a folder that was empty.
fn clear(into: &Path) {
    let remove = || {
        for entry in fs::read_dir(into)? {
            let path = entry?.path();
            if path.symlink_metadata()?.is_dir() {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    };
    if let Err(error) = remove().map_err(FileError::at("could not empty", into)) {
        log::warn!("{error}");
    }
}
