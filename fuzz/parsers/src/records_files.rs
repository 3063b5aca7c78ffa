//! Journal and snapshot, under a key that is known here: what is taken must be what was committed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use records::{Change, NameHash, Records};

use crate::check_refusal;
use crate::folder::{Folder, without_zeros};

const STORE: [u8; 16] = *b"a store, 16 byte";
const KEY: [u8; 32] = [7; 32];
/// Transactions before the snapshot, and in all.
const FOLDED: u64 = 5;
const ALL: u64 = 12;
const SECTOR: usize = 512;
/// The journal's first length.
const LENGTH: u64 = 1 << 20;

/// What a transaction does. The last one takes away, as a revoke does.
fn transaction(seq: u64) -> Vec<Change> {
    let put = |number: u64| Change::Put {
        name: name(number),
        record: record(number, seq),
    };
    let remove = |number: u64| Change::Remove { name: name(number) };
    match seq {
        3 => vec![put(1), remove(0)],
        ALL => vec![remove(2)],
        _ => vec![put(seq % 4), put(seq % 3 + 4)],
    }
}

fn name(number: u64) -> NameHash {
    NameHash([number as u8 + 1; 32])
}

/// Some of several sectors, some empty.
fn record(number: u64, seq: u64) -> Vec<u8> {
    let length = (number * 397 + seq * 211) % 1300;
    vec![(number * 16 + seq) as u8; if seq == 4 { 0 } else { length as usize }]
}

/// Each record, and the transaction that wrote it, after so many transactions.
fn truth(last: u64) -> BTreeMap<NameHash, (u64, Vec<u8>)> {
    let mut records = BTreeMap::new();
    for seq in 1..=last {
        for change in transaction(seq) {
            match change {
                Change::Put { name, record } => records.insert(name, (seq, record)),
                Change::Remove { name } => records.remove(&name),
            };
        }
    }
    records
}

/// Files that the code of today writes.
pub(crate) struct Written {
    /// Journals, without the zeros at their ends: one from the first transaction on, one that goes on
    /// from a snapshot, and the second one closed.
    pub(crate) journals: [Vec<u8>; 3],
    /// The snapshots before each, with their names.
    pub(crate) snapshots: [(String, Vec<u8>); 2],
}

/// Made once: all of it is the same each time.
pub(crate) fn written() -> &'static Written {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let folder = Folder::new();
        let files = || {
            let snapshot = folder.named("snapshot-");
            let bytes = folder.read(&snapshot);
            (
                without_zeros(&folder.read("journal")).to_vec(),
                (snapshot, bytes),
            )
        };
        let records = Records::create(folder.path(), STORE, &KEY).unwrap();
        let commit = |seq| assert_eq!(records.commit(transaction(seq)).unwrap(), seq);
        (1..=FOLDED).for_each(commit);
        let (first, empty) = files();
        records.snapshot().unwrap();
        (FOLDED + 1..=ALL).for_each(commit);
        let (second, folded) = files();
        records.close();
        Written {
            journals: [first, second, files().0],
            snapshots: [empty, folded],
        }
    })
}

/// A journal with the snapshots that there are: whole, cut where a frame ends, or refused.
pub fn journal(bytes: &[u8]) -> bool {
    let mut taken = false;
    for length in [0, LENGTH] {
        let folder = Folder::new();
        for (name, snapshot) in &written().snapshots {
            folder.write(name, snapshot);
        }
        folder.write_long("journal", bytes, length);
        taken |= holds_the_truth(&folder);
    }
    let journals = &written().journals;
    assert!(
        !taken || journals.iter().any(|whole| is_cut_of(bytes, whole)),
        "a journal with a wrong byte"
    );
    taken
}

/// Whether these are frames of a journal and nothing more, but for one that was cut short: some of its
/// sectors are zero, and what the others hold is not looked at.
fn is_cut_of(bytes: &[u8], whole: &[u8]) -> bool {
    let is_zero = |sector: &[u8]| sector.iter().all(|byte| *byte == 0);
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    let mut rest = bytes.as_slice();
    while !is_zero(rest) {
        // Behind the stamp: format, kind, two bytes, and how many sectors it has.
        let sectors = u32::from_le_bytes(rest[12..16].try_into().unwrap()) as usize;
        let frame = rest
            .chunks(SECTOR)
            .chain(std::iter::repeat(&[0; SECTOR][..]));
        if frame.take(sectors).any(is_zero) {
            return true;
        }
        let length = sectors * SECTOR;
        let at = bytes.len() - rest.len();
        let same = |byte: usize| whole.get(at + byte).copied().unwrap_or(0) == rest[byte];
        if length == 0 || !(0..length).all(same) {
            return false;
        }
        rest = &rest[length..];
    }
    true
}

/// A snapshot, with the journal that goes on from it: whole, or refused.
pub fn snapshot(bytes: &[u8]) -> bool {
    let folder = Folder::new();
    let (name, whole) = &written().snapshots[1];
    folder.write(name, bytes);
    folder.write_long("journal", &written().journals[2], LENGTH);
    let taken = holds_the_truth(&folder);
    assert!(!taken || bytes == whole, "a snapshot with a wrong byte");
    taken
}

fn holds_the_truth(folder: &Folder) -> bool {
    let records = match Records::open_read_only(folder.path(), STORE, &KEY) {
        Ok(records) => records,
        Err(error) => {
            check_refusal(&error);
            return false;
        }
    };
    let truth = truth(records.last_seq());
    let names: Vec<_> = truth.iter().map(|(name, (seq, _))| (*name, *seq)).collect();
    assert_eq!(records.entries(), names, "other records than were written");
    for (name, (_, record)) in truth {
        assert!(records.get(&name).unwrap() == Some(record), "{name:?}");
    }
    true
}
