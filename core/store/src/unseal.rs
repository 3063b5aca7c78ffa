//! Unsealing and sealing: how the root key comes into memory, and how it goes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use records::Records;
use sys::lock::{lock, read, write};
use zeroize::Zeroizing;

use crate::catalog::Catalog;
use crate::error::{EnvelopeError, RecordError, SlotError, UnsealError};
use crate::hierarchy::{KEY, Keys};
use crate::keys_file::KeysFile;
use crate::layout::{Layout, folder_name};
use crate::live::{Generation, Live, Sealer};
use crate::meta::StoreId;
use crate::slots::{Slot, SlotId, SlotInfo, SlotKind};
use crate::store::{Home, Store};

/// How a store is unsealed.
pub enum Unlock {
    /// By each file slot in turn, until one opens.
    FileSlots,
    /// By a passphrase; all passphrase slots are tried, so that a wrong one takes as long.
    Passphrase(Zeroizing<String>),
    /// By the root key that the keyring of our own uid still holds after a crash.
    Keyring,
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FileSlots => "FileSlots",
            Self::Passphrase(_) => "Passphrase([redacted])",
            Self::Keyring => "Keyring",
        })
    }
}

/// Which way the root key came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnlockedBy {
    /// By a key slot.
    Slot(SlotInfo),
    /// Out of the keyring.
    Keyring,
}

/// What [`Store::unseal`] has found.
#[derive(Debug)]
pub struct UnsealReport {
    /// The generation of the root key.
    pub generation: u32,
    /// Which way the root key came.
    pub by: UnlockedBy,
    /// How the records were found; `None` for a store in memory, or one that was unsealed already.
    pub opened: Option<records::Opened>,
    /// Folders of other generations that were removed: what an interrupted key rotation left.
    pub leftovers: Vec<String>,
    /// What an operator should know: slots that cannot be used, grants that are not understood, a
    /// keyring that does not take the key.
    pub warnings: Vec<String>,
}

/// Where the keyring has the root key of one generation.
pub(crate) fn keyring_description(store: StoreId, generation: u32) -> String {
    format!("deploy-secrets:{store}:{generation}")
}

pub(crate) struct Unlocked {
    pub(crate) keys: Keys,
    by: UnlockedBy,
    warnings: Vec<String>,
}

impl Store {
    /// Unlocks the root key, verifies the records, and serves. Of a store that is unsealed already
    /// only the way to the key is checked.
    ///
    /// # Errors
    /// The key cannot be had this way, or what is on the disk is damaged; the store stays sealed,
    /// and nothing is removed.
    pub fn unseal(&self, unlock: Unlock) -> Result<UnsealReport, UnsealError> {
        let _keys = lock(&self.inner.keys_change);
        match &self.inner.home {
            Home::Disk(layout) => self.unseal_disk(layout, unlock),
            Home::Memory(_) => self.unseal_memory(unlock),
        }
    }

    fn unseal_disk(&self, layout: &Layout, unlock: Unlock) -> Result<UnsealReport, UnsealError> {
        let number = layout.current()?;
        let Unlocked {
            keys,
            by,
            mut warnings,
        } = self.unlock(layout, number, unlock)?;
        let mut report = UnsealReport {
            generation: number,
            by,
            opened: None,
            leftovers: Vec::new(),
            warnings: Vec::new(),
        };
        if read(&self.inner.live).is_some() {
            report.warnings = warnings;
            return Ok(report);
        }
        let key = keys.journal_key().map_err(derivation)?;
        let (records, opened) = Records::open(&layout.folder(number), self.inner.id.0, &key)?;
        let sealer = Sealer {
            number,
            cipher: self.inner.cipher,
            keys,
        };
        let generation = Generation { sealer, records };
        let (catalog, more) =
            Catalog::load(&generation).inspect_err(|_| generation.records.close())?;
        warnings.extend(more);
        // Only now: what an interrupted rotation left may be the last whole generation.
        let others = layout
            .others(number)
            .map_err(crate::error::OpenError::from)?;
        for other in others {
            self.forget_in_keyring(other);
            match layout.sync().and_then(|()| layout.destroy(other)) {
                Ok(()) => report.leftovers.push(folder_name(other)),
                Err(error) => warnings.push(error.to_string()),
            }
        }
        let description = keyring_description(self.inner.id, number);
        if let Err(error) = sys::keyring::put(&description, generation.sealer.keys.root()) {
            warnings.push(format!(
                "the keyring does not take the root key ({error}): a crash will seal the store"
            ));
        }
        *write(&self.inner.live) = Some(Arc::new(Live::new(catalog, generation)));
        report.opened = Some(opened);
        report.warnings = warnings;
        Ok(report)
    }

    fn unlock(
        &self,
        layout: &Layout,
        number: u32,
        unlock: Unlock,
    ) -> Result<Unlocked, UnsealError> {
        let id = self.inner.id;
        let file = KeysFile::read(&layout.keys_path(number), id, number)?;
        match unlock {
            Unlock::FileSlots => by_files(&file, id, layout.dir()),
            Unlock::Passphrase(passphrase) => by_passphrase(&file, id, &passphrase),
            Unlock::Keyring => {
                let root = sys::keyring::get(&keyring_description(id, number))
                    .inspect_err(|error| log::warn!("the keyring cannot be read: {error}"))
                    .ok()
                    .flatten()
                    .ok_or(UnsealError::NotInKeyring)?;
                if root.len() != KEY {
                    return Err(file.wrong("the keyring holds something else than its root key"));
                }
                let keys = Keys::from_root(id, root.as_slice()).map_err(UnsealError::Memory)?;
                file.verify(&keys)?;
                Ok(Unlocked {
                    keys,
                    by: UnlockedBy::Keyring,
                    warnings: Vec::new(),
                })
            }
        }
    }

    fn unseal_memory(&self, unlock: Unlock) -> Result<UnsealReport, UnsealError> {
        let Home::Memory(twin) = &self.inner.home else {
            return Err(UnsealError::NotInKeyring);
        };
        match unlock {
            Unlock::FileSlots => {}
            Unlock::Passphrase(_) => return Err(UnsealError::NoSuchSlot("passphrase")),
            Unlock::Keyring => return Err(UnsealError::NotInKeyring),
        }
        let twin = lock(twin);
        let by = UnlockedBy::Slot(SlotInfo {
            id: SlotId(0),
            kind: SlotKind::File {
                path: "memory".into(),
            },
            label: "this process".into(),
            recipient: String::new(),
        });
        let mut report = UnsealReport {
            generation: twin.generation,
            by,
            opened: None,
            leftovers: Vec::new(),
            warnings: Vec::new(),
        };
        if read(&self.inner.live).is_none() {
            let keys = Keys::from_root(self.inner.id, &*twin.root).map_err(UnsealError::Memory)?;
            let sealer = Sealer {
                number: twin.generation,
                cipher: self.inner.cipher,
                keys,
            };
            let generation = Generation {
                sealer,
                records: twin.records.clone(),
            };
            let (catalog, warnings) = Catalog::load(&generation)?;
            report.warnings = warnings;
            *write(&self.inner.live) = Some(Arc::new(Live::new(catalog, generation)));
        }
        Ok(report)
    }

    /// Forgets all keys and everything that was decrypted; the keyring's copy too. From the first
    /// moment on nothing is given; when this returns, no writer is under way and the folder is at
    /// rest.
    pub fn seal(&self) {
        self.end();
        if let Home::Disk(layout) = &self.inner.home {
            match layout.current() {
                Ok(number) => self.forget_in_keyring(number),
                Err(error) => log::error!("what the keyring holds is not known: {error}"),
            }
        }
    }

    /// A clean stop: like [`Store::seal`], but the keyring keeps the root key for the next start.
    pub fn close(&self) {
        self.end();
    }

    fn end(&self) {
        // Denied at once, before anything is waited for; a rotation that is running gives up.
        if let Some(live) = &*read(&self.inner.live) {
            deny(live);
        }
        let _keys = lock(&self.inner.keys_change);
        if let Some(live) = write(&self.inner.live).take() {
            deny(&live);
            self.finish(&live);
        }
    }

    /// Waits for writers to end, and forgets.
    fn finish(&self, live: &Live) {
        let _gate = write(&live.gate);
        let mut catalog = write(&live.catalog);
        // Again: a grant may have come between.
        catalog.seal();
        *catalog = Catalog::default();
        if matches!(self.inner.home, Home::Disk(_)) {
            live.generation().records.close();
        }
    }

    pub(crate) fn forget_in_keyring(&self, generation: u32) {
        let description = keyring_description(self.inner.id, generation);
        if let Err(error) = sys::keyring::remove(&description) {
            log::error!("the keyring still holds a root key: {error}");
        }
    }
}

fn deny(live: &Live) {
    live.close();
    read(&live.catalog).seal();
}

pub(crate) fn by_files(file: &KeysFile, id: StoreId, dir: &Path) -> Result<Unlocked, UnsealError> {
    let mut failed = Vec::new();
    for slot in file.slots() {
        let Some(private) = slot.read_file(dir) else {
            continue;
        };
        let opened = private.map_err(|error| error.to_string()).and_then(|half| {
            file.unlock(id, slot.id, &half)
                .map_err(|error| error.to_string())
        });
        match opened {
            Ok(keys) => {
                let by = UnlockedBy::Slot(slot.info());
                return Ok(Unlocked {
                    keys,
                    by,
                    warnings: failed,
                });
            }
            Err(why) => failed.push(format!("slot {}: {why}", slot.id)),
        }
    }
    if failed.is_empty() {
        return Err(UnsealError::NoSuchSlot("file"));
    }
    Err(UnsealError::FileSlots(failed))
}

fn by_passphrase(file: &KeysFile, id: StoreId, passphrase: &str) -> Result<Unlocked, UnsealError> {
    let mut opened: Option<(&Slot, _)> = None;
    let mut warnings = Vec::new();
    let mut tried = false;
    // All of them, also after one has opened: the time must not tell which, or whether one has.
    for slot in file.slots() {
        match slot.unwrap(id, passphrase) {
            None => continue,
            Some(Ok(Some(half))) => opened = Some((slot, half)),
            Some(Ok(None)) => {}
            Some(Err(error)) => warnings.push(format!("slot {}: {error}", slot.id)),
        }
        tried = true;
    }
    match opened {
        Some((slot, half)) => {
            let keys = file.unlock(id, slot.id, &half)?;
            Ok(Unlocked {
                keys,
                by: UnlockedBy::Slot(slot.info()),
                warnings,
            })
        }
        None if !tried => Err(UnsealError::NoSuchSlot("passphrase")),
        None if !warnings.is_empty() => Err(file.wrong(&warnings.join("; "))),
        None => Err(UnsealError::WrongPassphrase),
    }
}

fn derivation(why: EnvelopeError) -> UnsealError {
    RecordError {
        what: "the records' MAC key".into(),
        why,
    }
    .into()
}

/// A damaged `keys` file, as an error of a change of slots.
pub(crate) fn as_slot_error(error: UnsealError, path: &Path) -> SlotError {
    match error {
        UnsealError::Keys { path, what } => SlotError::KeyFile { path, what },
        other => SlotError::KeyFile {
            path: path.to_path_buf(),
            what: other.to_string(),
        },
    }
}
