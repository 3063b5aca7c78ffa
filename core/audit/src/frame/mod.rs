//! An entry as bytes; docs/format.md, "Audit log", has the layout.
//!
//! Whatever is not as described there is no entry: a kind or flag that is not known, a byte too many,
//! padding that is not zero. So a byte that differs is found even before the hash is looked at.

mod read;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub(crate) use read::Reader;
pub(crate) use write::Writer;

use crate::anchor::Hash;
use crate::entry::{Entry, Record};
use crate::time::{Now, Time};

/// The fields that each entry begins with.
pub(crate) const HEAD: usize = 32;
/// What it ends with.
pub(crate) const HASH: usize = 32;
/// An entry without a body.
pub(crate) const MIN_FRAME: usize = HEAD + HASH;
/// No entry is longer: a reader in a page's worth of buffer, and a bound for what a kill can tear.
pub(crate) const MAX_FRAME: usize = 4096;

const CUT: u8 = 1;

/// Longer texts are cut, and the entry says so. The largest body is far from filling a frame; a test
/// tries it.
pub(crate) mod limit {
    /// Of any name, and of a reason.
    pub(crate) const NAME: usize = 255;
    pub(crate) const COMM: usize = 64;
    pub(crate) const ACT: usize = 64;
    pub(crate) const WHAT: usize = 512;
    pub(crate) const LONG: usize = 1024;
}

/// Writes an entry into `frame`, but for its hash; gives its whole length.
pub(crate) fn encode(
    frame: &mut [u8; MAX_FRAME],
    seq: u64,
    now: Now,
    record: &Record<'_>,
) -> usize {
    let mut body = Writer::new(&mut frame[HEAD..MAX_FRAME - HASH]);
    body.record(record);
    let (length, cut) = (body.at, body.cut);
    let padded = length.next_multiple_of(8);
    frame[HEAD + length..HEAD + padded].fill(0);
    let total = MIN_FRAME + padded;
    let mut head = Writer::new(&mut frame[..HEAD]);
    head.u32(total as u32);
    head.u8(record.kind() as u8);
    head.u8(if cut { CUT } else { 0 });
    head.u16(0);
    head.u64(seq);
    head.u64(now.wall.0);
    head.u64(now.uptime);
    total
}

/// Completes an entry: its last bytes are the hash over the rest and all before.
pub(crate) fn seal(frame: &mut [u8], before: &Hash) -> Hash {
    let at = frame.len() - HASH;
    let hash = Hash::chain(before, &frame[..at]);
    frame[at..].copy_from_slice(&hash.0);
    hash
}

/// How long the entry at the begin of `bytes` is; `None`: there is none.
pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, Bad> {
    let Some(word) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    match u32::from_le_bytes(*word) as usize {
        0 => Ok(None),
        length
            if (MIN_FRAME..=MAX_FRAME).contains(&length)
                && length.is_multiple_of(8)
                && length <= bytes.len() =>
        {
            Ok(Some(length))
        }
        _ => Err(Bad("the length of the entry cannot be")),
    }
}

/// Reads the entry that `frame` is, whole, and that follows the hash `before`.
pub(crate) fn decode<'a>(frame: &'a [u8], before: &Hash) -> Result<Entry<'a>, Bad> {
    let at = frame.len().checked_sub(HASH).ok_or(Bad("too short"))?;
    let (signed, hash) = frame.split_at(at);
    if Hash::chain(before, signed).0 != hash {
        return Err(Bad("the hash does not fit"));
    }
    fields(frame)
}

fn fields(frame: &[u8]) -> Result<Entry<'_>, Bad> {
    let at = frame.len().checked_sub(HASH).ok_or(Bad("too short"))?;
    let (signed, hash) = frame.split_at(at);
    let mut reader = Reader(signed);
    reader.u32()?;
    let kind = reader.u8()?;
    let flags = reader.u8()?;
    let zero = reader.u16()?;
    let entry = Entry {
        seq: reader.u64()?,
        time: Time(reader.u64()?),
        uptime: reader.u64()?,
        cut: flags == CUT,
        hash: Hash(*hash.first_chunk().ok_or(Bad("too short"))?),
        record: reader.record(kind)?,
    };
    if flags & !CUT != 0 || zero != 0 || reader.0.len() >= 8 || reader.0.iter().any(|b| *b != 0) {
        return Err(Bad("the entry has what it cannot have"));
    }
    Ok(entry)
}

/// Why bytes are no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Bad(pub(crate) &'static str);
