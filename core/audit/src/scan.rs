//! Reading a segment against its chain.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use crate::anchor::Anchor;
use crate::entry::{Entry, Record};
use crate::frame::{self, MAX_FRAME};
use crate::segment::{self, HEADER, Header};

/// What a segment turned out to hold.
#[derive(Debug, Clone)]
pub(crate) struct Scanned {
    pub(crate) header: Header,
    /// Behind the last entry that fits.
    pub(crate) end: usize,
    /// That entry; the one before the segment if it has none.
    pub(crate) last: Anchor,
    pub(crate) tail: Tail,
}

/// What is behind the last entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Zeros to the end.
    Clean,
    /// No more than the part of one entry that was never finished: what a kill in the midst of an
    /// append leaves, and what a reader may see while somebody writes.
    Torn {
        /// Behind the last byte that is not zero.
        used: usize,
    },
    /// Something that does not fit.
    Broken {
        why: String,
        /// As above.
        used: usize,
    },
    /// `each` wanted no more.
    Unread,
}

/// Why a segment cannot be scanned at all.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It was never begun.
    Spare {
        /// And is all zeros.
        clean: bool,
    },
    /// Its header is none.
    Broken(String),
}

/// The whole file.
pub(crate) fn load(folder: &Path, number: u64, into: &mut Vec<u8>) -> io::Result<()> {
    let mut file = File::open(segment::path(folder, number))?;
    into.clear();
    file.read_to_end(into)?;
    Ok(())
}

/// Reads all entries of a segment, and gives each that fits to `each`.
pub(crate) fn scan(
    bytes: &[u8],
    number: u64,
    mut each: impl FnMut(&Entry<'_>) -> ControlFlow<()>,
) -> Result<Scanned, Unread> {
    let header = match Header::decode(bytes) {
        Ok(Some(header)) => header,
        Ok(None) => {
            let used = used(bytes);
            // A header that is torn: nothing follows it yet.
            return Err(if used <= HEADER {
                Unread::Spare { clean: used == 0 }
            } else {
                Unread::Broken("its header is gone".into())
            });
        }
        Err(bad) => return Err(Unread::Broken(bad.to_string())),
    };
    if header.number != number {
        return Err(Unread::Broken(format!("it is segment {}", header.number)));
    }
    let mut scanned = Scanned {
        header,
        end: HEADER,
        last: header.before(),
        tail: Tail::Clean,
    };
    scanned.tail = walk(bytes, &mut scanned, &mut each);
    if scanned.end == HEADER {
        scanned.last = header.previous;
    }
    if bytes.len() != header.size {
        scanned.tail = Tail::Broken {
            why: format!("it is {} bytes long, not {}", bytes.len(), header.size),
            used: bytes.len(),
        };
    }
    Ok(scanned)
}

fn walk(
    bytes: &[u8],
    scanned: &mut Scanned,
    each: &mut impl FnMut(&Entry<'_>) -> ControlFlow<()>,
) -> Tail {
    let number = scanned.header.number;
    loop {
        let rest = bytes.get(scanned.end..).unwrap_or_default();
        let length = match frame::length(rest) {
            Ok(Some(length)) => length,
            Ok(None) => return tail(bytes, scanned.end, None),
            Err(bad) => return tail(bytes, scanned.end, Some(bad.to_string())),
        };
        let entry = match frame::decode(&rest[..length], &scanned.last.hash) {
            Ok(entry) => entry,
            Err(bad) => return tail(bytes, scanned.end, Some(bad.to_string())),
        };
        if entry.seq != scanned.last.seq + 1 {
            let why = format!("entry {} follows {}", entry.seq, scanned.last.seq);
            return broken(bytes, why);
        }
        let is_first = scanned.end == HEADER;
        let begins = matches!(&entry.record, Record::Segment(one) if one.number == number);
        if is_first != begins {
            return broken(bytes, "an entry does not belong where it is".into());
        }
        scanned.end += length;
        scanned.last = Anchor {
            seq: entry.seq,
            hash: entry.hash,
        };
        if each(&entry).is_break() {
            return Tail::Unread;
        }
    }
}

fn broken(bytes: &[u8], why: String) -> Tail {
    let used = used(bytes);
    Tail::Broken { why, used }
}

fn tail(bytes: &[u8], end: usize, why: Option<String>) -> Tail {
    let used = used(bytes);
    if used <= end {
        Tail::Clean
    } else if used <= end + MAX_FRAME {
        Tail::Torn { used }
    } else {
        let why = why.unwrap_or_else(|| "there is something behind the last entry".into());
        Tail::Broken { why, used }
    }
}

/// Behind the last byte that is not zero. Segments are mostly full, or mostly zeros.
fn used(bytes: &[u8]) -> usize {
    const ZEROS: [u8; MAX_FRAME] = [0; MAX_FRAME];
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(ZEROS.len());
        let part = &bytes[start..end];
        if part != &ZEROS[..part.len()] {
            let last = part.iter().rposition(|byte| *byte != 0);
            return start + last.map_or(0, |at| at + 1);
        }
        end = start;
    }
    0
}
