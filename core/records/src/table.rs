//! What must be there, known without the index: the sequence number and tag of each record, and
//! where snapshot or journal has it. 64 bytes a record, beside the tree's own.

use std::collections::BTreeMap;
use std::ops::Bound;

use sha2::{Digest as _, Sha256};

use crate::mac::Tag;
use crate::name::NameHash;

/// What a record must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The transaction that wrote it.
    pub(crate) seq: u64,
    pub(crate) tag: Tag,
    pub(crate) place: Place,
}

/// Which file has a record, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Place {
    const SNAPSHOT: u64 = 1 << 63;
    const OFFSET: u64 = (1 << 40) - 1;
    const NUMBER: u64 = (1 << 23) - 1;

    /// An offset in the payload of journal `number`.
    pub(crate) fn journal(number: u64, offset: u64) -> Self {
        Self((number & Self::NUMBER) << 40 | offset & Self::OFFSET)
    }

    /// An offset in the file of snapshot `number`.
    pub(crate) fn snapshot(number: u64, offset: u64) -> Self {
        Self(Self::SNAPSHOT | Self::journal(number, offset).0)
    }

    pub(crate) fn is_snapshot(self) -> bool {
        self.0 & Self::SNAPSHOT != 0
    }

    /// Whether it is in the files of this number. Numbers wrap at 2^23; two pairs are open at most.
    pub(crate) fn is_of(self, number: u64) -> bool {
        self.0 >> 40 & Self::NUMBER == number & Self::NUMBER
    }

    pub(crate) fn offset(self) -> u64 {
        self.0 & Self::OFFSET
    }
}

/// All records, and the last transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    entries: BTreeMap<NameHash, Entry>,
    pub(crate) last_seq: u64,
}

impl Table {
    pub(crate) fn get(&self, name: &NameHash) -> Option<Entry> {
        self.entries.get(name).copied()
    }

    pub(crate) fn put(&mut self, name: NameHash, entry: Entry) -> Option<Entry> {
        self.entries.insert(name, entry)
    }

    pub(crate) fn remove(&mut self, name: &NameHash) -> Option<Entry> {
        self.entries.remove(name)
    }

    /// A record has come to lie elsewhere, unless it was written anew since.
    pub(crate) fn moved(&mut self, name: &NameHash, seq: u64, place: Place) {
        if let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.seq == seq) {
            entry.place = place;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NameHash, &Entry)> {
        self.entries.iter()
    }

    /// All names in order, each with the transaction that wrote its record.
    pub(crate) fn entries(&self) -> Vec<(NameHash, u64)> {
        let seq = |(name, entry): (&NameHash, &Entry)| (*name, entry.seq);
        self.entries.iter().map(seq).collect()
    }

    /// The next few names after one, so that nobody holds the table for long.
    pub(crate) fn names_after(&self, after: Option<NameHash>, few: usize) -> Vec<NameHash> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries
            .range((from, Bound::Unbounded))
            .take(few)
            .map(|(name, _)| *name)
            .collect()
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        digest(
            self.entries
                .iter()
                .map(|(name, entry)| (name, entry.seq, &entry.tag)),
        )
    }
}

/// SHA-256 over name, sequence number and tag of each record, in the order of names.
pub(crate) fn digest<'a>(entries: impl Iterator<Item = (&'a NameHash, u64, &'a Tag)>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (name, seq, tag) in entries {
        hash.update(name.0);
        hash.update(seq.to_le_bytes());
        hash.update(tag);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_what_it_was_made_of() {
        for (number, offset) in [(1, 0), (77, 1 << 39), (u64::MAX, Place::OFFSET)] {
            let (journal, snapshot) = (
                Place::journal(number, offset),
                Place::snapshot(number, offset),
            );
            assert!(!journal.is_snapshot() && snapshot.is_snapshot());
            assert!(journal.is_of(number) && snapshot.is_of(number));
            assert!(!journal.is_of(number ^ 1));
            assert_eq!((journal.offset(), snapshot.offset()), (offset, offset));
        }
    }
}
