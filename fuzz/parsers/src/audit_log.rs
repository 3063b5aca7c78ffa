//! The files of the audit log. Their hashes have no key: whoever writes the disk can make them fit, and
//! so does this, for what is behind them to be met too.

use std::ops::ControlFlow;

use audit::{Anchor, Anchored, Filter, Hash, Log, Options, Quota, query, verify};
use sha2::{Digest as _, Sha256};

use crate::folder::{Folder, without_zeros};

const HEADER: usize = 128;
const LEAST: usize = 64;
const MOST: usize = 4096;
/// As a segment of these tests is long.
pub(crate) const SIZE: usize = 16 << 10;
/// Of the counts: so many places of so many bytes, each entry so far from its place's begin.
const PLACES: usize = 256;
const PLACE: usize = 2048;
const COUNT: usize = 128;

pub(crate) fn options() -> Options {
    Options {
        segment_size: SIZE,
        segments: 4,
        opens: Quota {
            per_second: 1,
            burst: 2,
        },
    }
}

fn chain(before: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(before).chain_update(bytes);
    hash.finalize().into()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |eight| {
        u64::from_le_bytes(eight.try_into().unwrap_or_default())
    })
}

/// How long the entry at `at` says it is, if there can be one.
fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at + 4)?;
    let length = u32::from_le_bytes(word.try_into().ok()?) as usize;
    let can_be = (LEAST..=MOST).contains(&length) && length.is_multiple_of(8);
    (can_be && at + length <= bytes.len()).then_some(length)
}

/// Gives the entry at `at` a hash that fits; and this hash.
fn seal(bytes: &mut [u8], at: usize, length: usize, before: &[u8; 32]) -> [u8; 32] {
    let end = at + length - 32;
    let hash = chain(before, &bytes[at..end]);
    bytes[end..end + 32].copy_from_slice(&hash);
    hash
}

/// A segment as somebody makes it who knows this page: numbers and hashes fit, all the way. Gives the
/// last entry, and where it ends.
fn fitted(bytes: &mut [u8]) -> Option<(Anchor, usize)> {
    let header: [u8; HEADER] = *bytes.first_chunk()?;
    let mut last = Anchor {
        seq: u64_at(&header, 64).checked_sub(1)?,
        hash: Hash(chain(&[0; 32], &header)),
    };
    let mut at = HEADER;
    while let Some(length) = length_at(bytes, at) {
        last.seq = last.seq.checked_add(1)?;
        bytes[at + 8..at + 16].copy_from_slice(&last.seq.to_le_bytes());
        last.hash = Hash(seal(bytes, at, length, &last.hash.0));
        at += length;
    }
    Some((last, at))
}

/// A second segment that follows, so that the first one is not the one that is written.
fn following(last: Anchor) -> Vec<u8> {
    let mut bytes = Vec::from(*b"dsaudit1");
    let numbers = [SIZE as u64, 2, last.seq];
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(last.hash.0);
    bytes.extend(last.seq.saturating_add(1).to_le_bytes());
    bytes.resize(HEADER, 0);
    // Boot id, its number, the oldest that is kept, no note: 34 bytes, and padding.
    let mut entry = vec![0; 32 + 40 + 32];
    entry[..4].copy_from_slice(&104_u32.to_le_bytes());
    entry[4] = 8;
    entry[32 + 16..32 + 24].copy_from_slice(&2_u64.to_le_bytes());
    entry[32 + 24..32 + 32].copy_from_slice(&1_u64.to_le_bytes());
    bytes.extend(entry);
    bytes.resize(SIZE, 0);
    fitted(&mut bytes);
    bytes
}

/// A segment as it is, and made to fit: what is whole shows every bit that is flipped later, and its
/// last entry as an anchor.
pub fn audit_segment(bytes: &[u8]) -> bool {
    let mut segment = bytes.to_vec();
    // The zeros that a corpus does not keep.
    let size = u64_at(bytes, 8);
    if size <= 4 * SIZE as u64 {
        segment.resize((size as usize).max(segment.len()), 0);
    }
    let taken = check_segment(&mut segment.clone(), bytes.len());
    fitted(&mut segment);
    taken | check_segment(&mut segment, bytes.len())
}

fn check_segment(segment: &mut [u8], any: usize) -> bool {
    let folder = Folder::new();
    let last = fitted(&mut segment.to_vec()).map_or(Anchor::default(), |(last, _)| last);
    folder.write("segment-0000000001", segment);
    folder.write("segment-0000000002", &following(last));
    let found = verify(folder.path(), None).unwrap();
    assert!(found.entries as usize <= segment.len() / LEAST + 1);
    let mut given = 0;
    let mut anchor = Anchor::default();
    query(folder.path(), &Filter::default(), |entry| {
        given += 1;
        let line = entry.json();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
        anchor = Anchor {
            seq: entry.seq,
            hash: entry.hash,
        };
        ControlFlow::Continue(())
    })
    .unwrap();
    if !found.is_whole() {
        return false;
    }
    assert_eq!((found.entries, found.last), (given, anchor));
    let stands = |anchor| verify(folder.path(), Some(anchor)).unwrap().anchored;
    assert_eq!(stands(anchor), Some(Anchored::Fits));
    let seq = anchor.seq.saturating_add(1);
    assert_eq!(stands(Anchor { seq, ..anchor }), Some(Anchored::Cut));
    let at = any * 7919 % segment.len();
    segment[at] ^= 1 << (any % 8);
    folder.write("segment-0000000001", segment);
    let found = verify(folder.path(), Some(anchor)).unwrap();
    assert!(!found.is_whole(), "byte {at} was changed, and it is whole");
    true
}

/// The counts that are no entries yet: whatever they are, the log opens, and is whole when it ends.
pub fn audit_merged(bytes: &[u8]) -> bool {
    let mut counts = bytes.to_vec();
    for place in 0..counts.len().min(PLACES * PLACE) / PLACE {
        let at = place * PLACE + COUNT;
        if let Some(length) = length_at(&counts[..(place + 1) * PLACE], at) {
            seal(&mut counts, at, length, &[0; 32]);
        }
    }
    become_entries(bytes) | become_entries(&counts)
}

fn become_entries(counts: &[u8]) -> bool {
    let folder = Folder::new();
    folder.write_long("merged", counts, (PLACES * PLACE) as u64);
    let (log, _) = Log::open(folder.path(), options(), "parsers").unwrap();
    log.close();
    drop(log);
    let found = verify(folder.path(), None).unwrap();
    assert!(found.is_whole(), "{found:?}");
    let merged = Filter {
        kind: Some(audit::Kind::Merged),
        ..Filter::default()
    };
    let mut given = 0;
    query(folder.path(), &merged, |_| {
        given += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(given <= PLACES);
    given > 0
}

/// A segment or the counts of a log that the code of today writes, without the zeros.
pub(crate) fn written(name: &str, act: impl FnOnce(&Log)) -> Vec<u8> {
    let folder = Folder::new();
    let (log, _) = Log::open(folder.path(), options(), "secretsd").unwrap();
    act(&log);
    let bytes = folder.read(name);
    log.close();
    without_zeros(&bytes).to_vec()
}
