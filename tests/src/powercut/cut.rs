//! What is left of what was not synced when the power goes.

use super::tree::{Change, Unsynced};
use crate::soak::Random;

/// What a disk writes whole or not at all.
pub const SECTOR: u64 = 512;

/// The forms that disks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// Everything that was not synced is lost.
    Everything,
    /// Some of it, each sector of a file and each name by itself.
    Random,
    /// What was done first is there, what was done later is not.
    Prefix,
    /// As `Prefix`, and the last write is torn in the middle of the file, between two sectors.
    Torn,
    /// Renames and new names reached the disk before the bytes that they stand for.
    NamesOnly,
    /// All bytes are there; a rename whose folder was not synced is not.
    BytesOnly,
}

impl Cut {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Everything,
        Self::Random,
        Self::Prefix,
        Self::Torn,
        Self::NamesOnly,
        Self::BytesOnly,
    ];

    /// What survives of what was not synced, in the order in which it was done.
    pub(super) fn survivors(self, all: Vec<Unsynced>, random: &mut Random) -> Vec<Unsynced> {
        let is_name = |one: &Unsynced| matches!(one, Unsynced::Names(_));
        match self {
            Self::Everything => Vec::new(),
            Self::NamesOnly => all.into_iter().filter(is_name).collect(),
            Self::BytesOnly => all.into_iter().filter(|one| !is_name(one)).collect(),
            Self::Prefix => prefix(all, random),
            Self::Torn => tear(all, random),
            Self::Random => {
                let percent = *random.one_of(&[10, 50, 90]);
                all.into_iter()
                    .flat_map(|one| some(one, percent, random))
                    .collect()
            }
        }
    }
}

fn prefix(mut all: Vec<Unsynced>, random: &mut Random) -> Vec<Unsynced> {
    let count = all.len() as u64;
    let keep = if random.percent(50) {
        count - random.below(count.min(8) + 1)
    } else {
        random.below(count + 1)
    };
    all.truncate(keep as usize);
    all
}

/// All up to a write, of which the sectors up to one reached the disk, or those from one on.
fn tear(mut all: Vec<Unsynced>, random: &mut Random) -> Vec<Unsynced> {
    let is_write = |one: &Unsynced| {
        let Unsynced::Bytes { change, .. } = one else {
            return false;
        };
        matches!(change, Change::Data { bytes, .. } if bytes.len() as u64 > SECTOR)
    };
    // The last one more often than not: there lies what was just being written.
    let last = all
        .iter()
        .rposition(is_write)
        .filter(|_| random.percent(60));
    let at = last.unwrap_or_else(|| random.below(all.len() as u64 + 1) as usize);
    let Some(torn) = all.split_off(at).into_iter().next() else {
        return all;
    };
    let mut sectors = sectors(torn);
    let at = random.below(sectors.len() as u64 + 1) as usize;
    let later = sectors.split_off(at);
    all.extend(if random.percent(70) { sectors } else { later });
    all
}

fn some(one: Unsynced, percent: u64, random: &mut Random) -> Vec<Unsynced> {
    sectors(one)
        .into_iter()
        .filter(|_| random.percent(percent))
        .collect()
}

/// A write as the sectors of the file that it touches.
fn sectors(one: Unsynced) -> Vec<Unsynced> {
    let Unsynced::Bytes {
        file,
        change: Change::Data { at, bytes },
    } = one
    else {
        return vec![one];
    };
    let (mut at, mut rest, mut parts) = (at, &bytes[..], Vec::new());
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min((SECTOR - at % SECTOR) as usize));
        let bytes = now.to_vec();
        parts.push(Unsynced::Bytes {
            file,
            change: Change::Data { at, bytes },
        });
        at += now.len() as u64;
        rest = later;
    }
    parts
}
