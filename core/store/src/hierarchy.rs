//! The keys below a root key: one HKDF-SHA256 (RFC 5869) for each purpose, one for each record.
//!
//! Purposes take the store's id as salt, records a random salt of their own, so that no key is used
//! twice and a root key carried into another store derives nothing that fits.

use std::fmt;
use std::io;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sys::memory::LockedBytes;
use zeroize::Zeroizing;

use crate::error::EnvelopeError;
use crate::meta::StoreId;

/// Bytes of a root key, and of each key below it.
pub(crate) const KEY: usize = 32;

const NAMES: &[u8] = b"deploy-secrets/1 names";
const JOURNAL: &[u8] = b"deploy-secrets/1 journal";
const KEYS_FILE: &[u8] = b"deploy-secrets/1 keys";
const SLOT: &[u8] = b"deploy-secrets/1 slot";
const RECORD: &[u8] = b"deploy-secrets/1 record";

/// The keys of one generation, in one locked block: root, names, `keys` file.
pub(crate) struct Keys {
    store: StoreId,
    block: LockedBytes,
}

impl Keys {
    /// A new random root key.
    pub(crate) fn generate(store: StoreId) -> io::Result<Self> {
        let mut block = LockedBytes::new_zeroed(3 * KEY)?;
        getrandom::fill(&mut block.as_mut_slice()[..KEY]).map_err(io::Error::other)?;
        Self::derive(store, block)
    }

    /// Takes a root key from outside, which must be 32 bytes.
    pub(crate) fn from_root(store: StoreId, root: &[u8]) -> io::Result<Self> {
        if root.len() != KEY {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a root key has 32 bytes",
            ));
        }
        let mut block = LockedBytes::new_zeroed(3 * KEY)?;
        block.as_mut_slice()[..KEY].copy_from_slice(root);
        Self::derive(store, block)
    }

    fn derive(store: StoreId, mut block: LockedBytes) -> io::Result<Self> {
        let (root, rest) = block.as_mut_slice().split_at_mut(KEY);
        let (names, keys_file) = rest.split_at_mut(KEY);
        expand(root, &store.0, NAMES, names).map_err(io::Error::other)?;
        expand(root, &store.0, KEYS_FILE, keys_file).map_err(io::Error::other)?;
        Ok(Self { store, block })
    }

    /// The store they belong to.
    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    /// The root key itself: for the keyring, the `keys` file, and record keys.
    pub(crate) fn root(&self) -> &[u8] {
        &self.block.as_slice()[..KEY]
    }

    /// HMAC-SHA256 under the key that hides names.
    pub(crate) fn name_mac(&self, message: &[u8]) -> [u8; 32] {
        hmac(&self.block.as_slice()[KEY..2 * KEY], message)
    }

    /// HMAC-SHA256 over the `keys` file.
    pub(crate) fn keys_file_mac(&self, message: &[u8]) -> [u8; 32] {
        hmac(&self.block.as_slice()[2 * KEY..], message)
    }

    /// The MAC key of journal and snapshot.
    pub(crate) fn journal_key(&self) -> Result<Zeroizing<[u8; KEY]>, EnvelopeError> {
        let mut key = Zeroizing::new([0; KEY]);
        expand(self.root(), &self.store.0, JOURNAL, &mut *key)?;
        Ok(key)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys([redacted] of store {})", self.store)
    }
}

/// A record's key and its commitment, which shows that the key is the right one before it is used:
/// an AEAD tag alone can be made to fit two keys.
pub(crate) struct RecordKey {
    block: Zeroizing<[u8; 2 * KEY]>,
}

impl RecordKey {
    /// From 32 bytes of key material and the record's salt.
    pub(crate) fn derive(material: &[u8], salt: &[u8; 32]) -> Result<Self, EnvelopeError> {
        let mut block = Zeroizing::new([0; 2 * KEY]);
        expand(material, salt, RECORD, &mut *block)?;
        Ok(Self { block })
    }

    pub(crate) fn key(&self) -> &[u8; KEY] {
        self.block.first_chunk().unwrap_or(&[0; KEY])
    }

    pub(crate) fn commitment(&self) -> &[u8; KEY] {
        self.block.last_chunk().unwrap_or(&[0; KEY])
    }
}

/// The key with which a slot's holder knows that a `keys` file was written by somebody who held the
/// root key, and not made up around the slot's public half.
pub(crate) fn slot_mac_key(
    store: StoreId,
    identity: &[u8],
) -> Result<Zeroizing<[u8; KEY]>, EnvelopeError> {
    let mut key = Zeroizing::new([0; KEY]);
    expand(identity, &store.0, SLOT, &mut *key)?;
    Ok(key)
}

/// HMAC-SHA256 (RFC 2104).
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length, so that the error has no way to happen; an all-zero key in its
    // place could only make a check fail.
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| <Hmac<Sha256> as KeyInit>::new(&Default::default()));
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn expand(material: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) -> Result<(), EnvelopeError> {
    Hkdf::<Sha256>::new(Some(salt), material)
        .expand(info, out)
        .map_err(|_| EnvelopeError::Key)
}

#[cfg(test)]
mod tests;
