//! The index: what reads are served from. It may lose, keep or bring back what it likes: each read is
//! checked against the table, and what the index lacks comes from snapshot or journal.

mod keeper;
mod memory;
mod sled;

pub(crate) use self::keeper::{Answer, Keeper, Source};
pub(crate) use self::memory::MemoryIndex;
pub(crate) use self::sled::{OpenIndexError, SledIndex};

use thiserror::Error;

use crate::mac::{Chain, Keys, same};
use crate::name::NameHash;

/// An index of records by name.
pub(crate) trait Index: Send + Sync {
    /// Transaction and bytes of the record that it has under a name.
    fn get(&self, name: &NameHash) -> Result<Option<(u64, Vec<u8>)>, IndexError>;
    /// Puts a record in place of what it has.
    fn put(&self, name: &NameHash, seq: u64, record: &[u8]) -> Result<(), IndexError>;
    /// Takes a record away.
    fn remove(&self, name: &NameHash) -> Result<(), IndexError>;
    /// What [`Index::set_mark`] has left.
    fn mark(&self) -> Result<Option<Vec<u8>>, IndexError>;
    /// Notes how far it is: whoever finds the mark finds all that was put before it.
    fn set_mark(&self, mark: &[u8]) -> Result<(), IndexError>;
    /// Shows every record.
    fn each(&self, show: &mut dyn FnMut(NameHash, u64, &[u8])) -> Result<(), IndexError>;
    /// Hands what was put to the kernel: it outlives a kill.
    fn flush(&self) -> Result<(), IndexError>;
    /// Makes what was put durable: it outlives a power cut.
    fn sync(&self) -> Result<(), IndexError>;
}

/// The index failed. The records are still in snapshot and journal.
#[derive(Debug, Clone, Error)]
#[error("{0}")]
pub(crate) struct IndexError(pub(crate) String);

/// How far an index is: a transaction, and the MAC of the frame that ended with it, so that an index
/// of another history is told from one that is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) seq: u64,
    pub(crate) chain: Chain,
}

impl Mark {
    pub(crate) fn bytes(&self, keys: &Keys) -> [u8; 72] {
        let mut bytes = [0; 72];
        bytes[..8].copy_from_slice(&self.seq.to_le_bytes());
        bytes[8..40].copy_from_slice(&self.chain);
        let mut mac = keys.mark();
        mac.add(&bytes[..40]);
        bytes[40..].copy_from_slice(&mac.finish());
        bytes
    }

    /// `None`: nobody who had the key wrote this.
    pub(crate) fn of(bytes: &[u8], keys: &Keys) -> Option<Self> {
        let bytes: &[u8; 72] = bytes.try_into().ok()?;
        let (mut seq, mut chain) = ([0; 8], [0; 32]);
        seq.copy_from_slice(&bytes[..8]);
        chain.copy_from_slice(&bytes[8..40]);
        let mark = Self {
            seq: u64::from_le_bytes(seq),
            chain,
        };
        same(&mark.bytes(keys), bytes).then_some(mark)
    }
}
