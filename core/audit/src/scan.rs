//! Reading a segment against its chain.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use crate::anchor::Anchor;
use crate::entry::{Entry, Record};
use crate::frame::{self, MAX_FRAME};
use crate::segment::{self, HEADER, Header, LONGEST};

/// An entry that somebody is just writing is whole after a moment; one that is damaged stays so.
const LOOKS: u32 = 10;
const LOOK: Duration = Duration::from_millis(5);
/// What a disk writes whole.
const SECTOR: usize = 512;

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
    /// The begin of an entry up to the end of a sector, and zeros: what a kill in the midst of an
    /// append leaves, which ends between two pages, or a power cut.
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
    /// It is all zeros: it was never begun.
    Spare,
    /// Its header is none.
    Broken(String),
}

/// The whole file.
pub(crate) fn load(folder: &Path, number: u64, into: &mut Vec<u8>) -> io::Result<()> {
    let file = File::open(segment::path(folder, number))?;
    into.clear();
    // One more byte than there may be: a file that somebody made huge does not fit, and is not read.
    file.take(LONGEST as u64 + 1).read_to_end(into)?;
    Ok(())
}

/// The segments that were begun, ascending: all but the last of them are complete from now on.
pub(crate) fn begun(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = segment::list(folder)?;
    let mut bytes = Vec::new();
    while let Some(number) = numbers.last() {
        let first = |_: &Entry<'_>| ControlFlow::Break(());
        match read(folder, *number, true, &mut bytes, first)? {
            Some(Err(Unread::Spare)) => numbers.pop(),
            _ => break,
        };
    }
    Ok(numbers)
}

/// Reads a segment, of which `each` has each entry once; `None`: it is not there. The last one may be
/// written by somebody: what does not fit in it is looked at again for a moment.
pub(crate) fn read(
    folder: &Path,
    number: u64,
    is_last: bool,
    bytes: &mut Vec<u8>,
    mut each: impl FnMut(&Entry<'_>) -> ControlFlow<()>,
) -> io::Result<Option<Result<Scanned, Unread>>> {
    let mut given = 0;
    let mut looks = if is_last { LOOKS } else { 0 };
    loop {
        match load(folder, number, bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let before = given;
        let scanned = scan(bytes, number, |entry| {
            if entry.seq <= before {
                return ControlFlow::Continue(());
            }
            given = entry.seq;
            each(entry)
        });
        // What has another entry behind it was whole before that was written.
        let wanted = match &scanned {
            Ok(scanned) => match scanned.tail {
                Tail::Broken { used, .. } if used > scanned.end + MAX_FRAME => 1,
                Tail::Broken { .. } => LOOKS,
                _ => 0,
            },
            Err(Unread::Broken(_)) => LOOKS,
            Err(Unread::Spare) => 0,
        };
        // As long as there is more each time, it is written.
        looks = match looks.min(wanted) {
            0 => return Ok(Some(scanned)),
            _ if given > before => LOOKS,
            looks => looks - 1,
        };
        std::thread::sleep(LOOK);
    }
}

/// Reads all entries of a segment, and gives each that fits to `each`.
pub(crate) fn scan(
    bytes: &[u8],
    number: u64,
    mut each: impl FnMut(&Entry<'_>) -> ControlFlow<()>,
) -> Result<Scanned, Unread> {
    let header = match Header::decode(bytes) {
        Ok(Some(header)) => header,
        // A power cut may have left it without its length.
        _ if used(bytes) == 0 => return Err(Unread::Spare),
        Ok(None) => return Err(Unread::Broken("its header is gone".into())),
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
            Ok(None) if used(bytes) <= scanned.end => return Tail::Clean,
            Ok(None) => {
                return broken(bytes, "there is something behind the last entry".into());
            }
            Err(bad) => return broken(bytes, bad.to_string()),
        };
        let entry = match frame::decode(&rest[..length], &scanned.last.hash) {
            Ok(entry) => entry,
            Err(bad) => {
                let used = used(bytes);
                if used.next_multiple_of(SECTOR) < scanned.end + length {
                    return Tail::Torn { used };
                }
                return broken(bytes, bad.to_string());
            }
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

/// Behind the last byte that is not zero. Segments are mostly full, or mostly zeros.
fn used(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::log::Log;
    use crate::open::Options;

    /// A segment with entries of each kind that a log writes by itself.
    fn segment() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            segment_size: 16 << 10,
            ..Options::default()
        };
        let (log, _) = Log::open(folder.path(), options, "test").unwrap();
        for record in crate::frame::tests::records() {
            if let Record::Event(event) = record {
                log.append(&event, false).unwrap();
            }
        }
        log.close();
        fs::read(segment::path(folder.path(), 1)).unwrap()
    }

    #[test]
    fn a_segment_of_any_length_is_read_without_a_panic_and_never_as_whole() {
        let bytes = segment();
        let end = used(&bytes);
        for length in 0..=end {
            let scanned = scan(&bytes[..length], 1, |_| ControlFlow::Continue(()));
            let is_whole = scanned.is_ok_and(|scanned| scanned.tail == Tail::Clean);
            assert!(!is_whole, "{length}");
        }
        let whole = scan(&bytes, 1, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((whole.end, whole.tail), (end, Tail::Clean));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_segment_or_are_refused(
            noise in proptest::collection::vec(any::<u8>(), 0..2000),
            at in 0..2000_usize,
        ) {
            let _ = scan(&noise, 1, |_| ControlFlow::Continue(()));
            let mut bytes = segment();
            let before = bytes.clone();
            let end = (at + noise.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&noise[..end - at]);
            if let Ok(scanned) = scan(&bytes, 1, |_| ControlFlow::Continue(())) {
                prop_assert!(scanned.tail != Tail::Clean || bytes == before);
            }
        }
    }
}
