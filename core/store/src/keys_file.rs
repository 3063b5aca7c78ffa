//! The `keys` file of a generation: the slot table, the root key sealed to all slots, and MACs.
//!
//! Public halves are public: whoever can write the disk could seal a root key of his own to them and
//! build a whole store below it. So the file also carries a tag for each slot, under a key that comes
//! out of the slot's private half. The store keeps those tag keys sealed under the root key, which is
//! how a rotation, which has no private half at hand, writes the tags of the next generation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::cipher::Cipher;
use crate::envelope::{self, Bound};
use crate::error::{FileError, SlotError, UnsealError};
use crate::hex;
use crate::hierarchy::{self, Keys};
use crate::layout::{read_limited, write_file};
use crate::meta::StoreId;
use crate::place::{self, Kind};
use crate::slots::{self, MAX_SLOTS, PrivateHalf, Slot, SlotId};

/// Thirty-two slots are some 30 KiB.
pub(crate) const MAX: u64 = 256 * 1024;

/// The tag key of each slot.
pub(crate) type SlotKeys = BTreeMap<SlotId, Zeroizing<[u8; 32]>>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    format: u32,
    store: String,
    generation: u32,
    next_slot: u32,
    slots: Vec<Slot>,
    root: String,
    slot_keys: String,
}

/// A `keys` file as read; not authenticated until [`KeysFile::verify`] says so.
pub(crate) struct KeysFile {
    path: PathBuf,
    body: Body,
    /// The body's line with its end: what the slots' tags cover.
    line: String,
    tags: BTreeMap<SlotId, [u8; 32]>,
    /// All before the last line: what the MAC covers.
    covered: String,
    mac: [u8; 32],
}

impl KeysFile {
    /// Reads and parses the file of one generation of one store.
    pub(crate) fn read(path: &Path, store: StoreId, generation: u32) -> Result<Self, UnsealError> {
        let wrong = |what: &str| UnsealError::Keys {
            path: path.into(),
            what: what.into(),
        };
        let bytes = read_limited(path, MAX).map_err(|error| wrong(&error.source.to_string()))?;
        Self::of_bytes(path, &bytes, store, generation)
    }

    /// The same from the file's bytes; errors name `path`.
    pub(crate) fn of_bytes(
        path: &Path,
        bytes: &[u8],
        store: StoreId,
        generation: u32,
    ) -> Result<Self, UnsealError> {
        let wrong = |what: &str| UnsealError::Keys {
            path: path.into(),
            what: what.into(),
        };
        let file = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| Self::parse(path, text))
            .ok_or_else(|| wrong("it is damaged"))?;
        if file.body.format != 1 {
            return Err(wrong("its format is not known to this version"));
        }
        if file.body.store != store.to_string() || file.body.generation != generation {
            return Err(wrong(
                "it belongs to another store or generation than STORE and CURRENT name",
            ));
        }
        Ok(file)
    }

    fn parse(path: &Path, text: &str) -> Option<Self> {
        let covered_length = text.strip_suffix('\n')?.rfind('\n')? + 1;
        let (covered, last) = text.split_at(covered_length);
        let mac = hex::decode(last.strip_prefix("mac ")?.strip_suffix('\n')?)?;
        let mut lines = covered.split_inclusive('\n');
        let line = lines.next()?;
        let body: Body = serde_json::from_str(line).ok()?;
        let mut tags = BTreeMap::new();
        for line in lines {
            let (id, tag) = line
                .strip_prefix("slot ")?
                .strip_suffix('\n')?
                .split_once(' ')?;
            tags.insert(SlotId(id.parse().ok()?), hex::decode(tag)?);
        }
        Some(Self {
            path: path.to_path_buf(),
            line: line.to_string(),
            tags,
            covered: covered.to_string(),
            mac,
            body,
        })
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.body.slots
    }

    /// What is wrong with this file, as an error.
    pub(crate) fn wrong(&self, what: &str) -> UnsealError {
        UnsealError::Keys {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    /// The keys, by the private half of a slot: the slot's tag first, then the root key, then the
    /// MAC over all.
    pub(crate) fn unlock(
        &self,
        store: StoreId,
        slot: SlotId,
        private: &PrivateHalf,
    ) -> Result<Keys, UnsealError> {
        let forged = || self.wrong("it was changed, or written without the root key");
        let key =
            hierarchy::slot_mac_key(store, private.text().as_bytes()).map_err(|_| forged())?;
        let tag = self.tags.get(&slot).ok_or_else(forged)?;
        if !bool::from(hierarchy::hmac(&*key, self.line.as_bytes()).ct_eq(tag)) {
            return Err(forged());
        }
        let sealed = STANDARD.decode(&self.body.root).map_err(|_| forged())?;
        let root = private.open(&sealed).ok_or_else(forged)?;
        if root.len() != hierarchy::KEY {
            return Err(forged());
        }
        let keys = Keys::from_root(store, &root).map_err(UnsealError::Memory)?;
        self.verify(&keys)?;
        Ok(keys)
    }

    /// Whether somebody who held the root key wrote this file.
    pub(crate) fn verify(&self, keys: &Keys) -> Result<(), UnsealError> {
        if bool::from(keys.keys_file_mac(self.covered.as_bytes()).ct_eq(&self.mac)) {
            return Ok(());
        }
        Err(self.wrong("it was changed, or written without the root key"))
    }

    /// Slot table and tag keys, to write the file anew; after [`KeysFile::verify`].
    pub(crate) fn table(&self, keys: &Keys) -> Result<SlotTable, UnsealError> {
        let damaged = || self.wrong("its slot keys are damaged");
        let sealed = STANDARD
            .decode(&self.body.slot_keys)
            .map_err(|_| damaged())?;
        let place = binding();
        let bound = bound(keys.store(), self.body.generation, &place);
        let bytes = envelope::open(keys.root(), bound, &sealed).map_err(|_| damaged())?;
        let mut slot_keys = SlotKeys::new();
        let mut rest = bytes.as_slice();
        while let Some((id, after)) = rest.split_first_chunk::<4>() {
            let (key, after) = after.split_first_chunk::<32>().ok_or_else(damaged)?;
            slot_keys.insert(SlotId(u32::from_le_bytes(*id)), Zeroizing::new(*key));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(damaged());
        }
        let (slots, next) = (self.body.slots.clone(), self.body.next_slot);
        Ok(SlotTable {
            slots,
            next,
            keys: slot_keys,
        })
    }
}

/// The slots of a store that is unsealed, and what writing them takes.
pub(crate) struct SlotTable {
    pub(crate) slots: Vec<Slot>,
    next: u32,
    keys: SlotKeys,
}

impl SlotTable {
    pub(crate) fn empty() -> Self {
        Self {
            slots: Vec::new(),
            next: 1,
            keys: SlotKeys::new(),
        }
    }

    /// The number that the next slot gets; numbers are not given twice.
    pub(crate) fn next_id(&self) -> Result<SlotId, SlotError> {
        if self.slots.len() >= MAX_SLOTS {
            return Err(SlotError::TooMany(MAX_SLOTS));
        }
        Ok(SlotId(self.next))
    }

    pub(crate) fn add(
        &mut self,
        store: StoreId,
        slot: Slot,
        private: &PrivateHalf,
    ) -> Result<(), SlotError> {
        let key = hierarchy::slot_mac_key(store, private.text().as_bytes())
            .map_err(|_| SlotError::Crypto("a slot's key could not be derived"))?;
        self.next = slot.id.0 + 1;
        self.keys.insert(slot.id, key);
        self.slots.push(slot);
        Ok(())
    }

    pub(crate) fn remove(&mut self, id: SlotId) -> Result<Slot, SlotError> {
        let at = self
            .slots
            .iter()
            .position(|slot| slot.id == id)
            .ok_or(SlotError::Unknown(id.0))?;
        if self.slots.len() == 1 {
            return Err(SlotError::Last);
        }
        self.keys.remove(&id);
        Ok(self.slots.remove(at))
    }

    /// Writes the file: the root key of `keys` sealed to all slots, tags, MAC.
    pub(crate) fn write(
        &self,
        path: &Path,
        keys: &Keys,
        generation: u32,
        cipher: Cipher,
    ) -> Result<(), SlotError> {
        let text = self.compose(keys, generation, cipher)?;
        write_file(path, text.as_bytes()).map_err(|error: FileError| error.into())
    }

    fn compose(&self, keys: &Keys, generation: u32, cipher: Cipher) -> Result<String, SlotError> {
        let failed = || SlotError::Crypto("the slot keys could not be sealed");
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.keys.len() * 36));
        for (id, key) in &self.keys {
            bytes.extend_from_slice(&id.0.to_le_bytes());
            bytes.extend_from_slice(&**key);
        }
        let place = binding();
        let bound = bound(keys.store(), generation, &place);
        let sealed = envelope::seal(cipher, keys.root(), bound, &bytes).map_err(|_| failed())?;
        let body = Body {
            format: 1,
            store: keys.store().to_string(),
            generation,
            next_slot: self.next,
            slots: self.slots.clone(),
            root: STANDARD.encode(slots::seal_root(keys.root(), &self.slots)?),
            slot_keys: STANDARD.encode(sealed),
        };
        let line = serde_json::to_string(&body).map_err(|_| failed())? + "\n";
        let mut text = line.clone();
        for (id, key) in &self.keys {
            let tag = hierarchy::hmac(&**key, line.as_bytes());
            text.push_str(&format!("slot {id} {}\n", hex::encode(&tag)));
        }
        let mac = keys.keys_file_mac(text.as_bytes());
        text.push_str(&format!("mac {}\n", hex::encode(&mac)));
        Ok(text)
    }
}

fn bound(store: StoreId, generation: u32, place: &[u8]) -> Bound<'_> {
    Bound {
        store,
        kind: Kind::SlotKeys,
        generation,
        place,
    }
}

fn binding() -> Vec<u8> {
    let mut bytes = Vec::new();
    place::append(&mut bytes, b"slots", 0, b"");
    bytes
}

#[cfg(test)]
mod tests;
