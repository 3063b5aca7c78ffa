#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use std::os::unix::fs::FileExt;

use super::*;
use crate::index::Mark;
use crate::tests::Folder;

const SECTOR: usize = super::SECTOR as usize;
const BEGIN: Begin = Begin {
    number: 3,
    seq: 40,
    count: 2,
    digest: [9; 32],
};

fn keys() -> Keys {
    Keys::derive(&[1; 32], [2; 16])
}

fn small() -> Tuning {
    Tuning {
        step: 8192,
        ..Tuning::default()
    }
}

/// A journal in a folder, and the bytes of its file.
struct Written {
    folder: Folder,
    bytes: Vec<u8>,
    /// Where the last frame lies.
    last: std::ops::Range<usize>,
}

impl Written {
    /// Frames with one, three and two changes; the last one of several sectors.
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path().join("journal");
        let mut journal = Journal::prepare(&path, 3, &small()).unwrap();
        journal.begin(&keys(), &BEGIN).unwrap();
        commit(&mut journal, 41, &[(1, Some(b"one"))]);
        commit(
            &mut journal,
            42,
            &[(1, None), (2, Some(&[7; 700])), (3, Some(b""))],
        );
        let start = journal.bytes() as usize;
        commit(
            &mut journal,
            43,
            &[(4, Some(&[8; 2000])), (2, Some(b"two"))],
        );
        let last = start..journal.bytes() as usize;
        Self {
            bytes: std::fs::read(&path).unwrap(),
            folder,
            last,
        }
    }

    fn scan(&self, bytes: &[u8]) -> Result<Scan, RecordsError> {
        let path = self.folder.path().join("changed");
        std::fs::write(&path, bytes).unwrap();
        scan(&File::open(&path).unwrap(), &path, &keys())
    }

    fn whole(&self) -> Scan {
        self.scan(&self.bytes).unwrap()
    }
}

fn commit(journal: &mut Journal, seq: u64, changes: &[(u8, Option<&[u8]>)]) {
    let mut frame = journal.frame(&keys(), Kind::Commit, seq);
    frame.transaction(changes.len() as u32);
    for (name, record) in changes {
        let name = NameHash([*name; 32]);
        let put = record.map(|record| (record.len() as u32, keys().tag(&name, seq, record)));
        frame.change(
            &ChangeHeader {
                name,
                before: None,
                put,
            },
            record.unwrap_or_default(),
        );
    }
    assert!(journal.append(frame).is_ok());
}

#[test]
fn what_is_written_is_found_and_its_places_lead_to_it() {
    let written = Written::new();
    let found = written.whole();
    assert_eq!(
        (found.begin, found.last_seq, found.transactions),
        (BEGIN, 43, 3)
    );
    assert!(found.torn.is_none() && !found.closed);
    let file = File::open(written.folder.path().join("journal")).unwrap();
    let records: Vec<_> = found
        .changes
        .iter()
        .map(|change| {
            let record = change
                .put
                .map(|(_, at)| read_put(&file, at.offset(), &change.name).unwrap());
            (change.name.0[0], change.seq, record)
        })
        .collect();
    assert_eq!(
        records,
        [
            (1, 41, Some(b"one".to_vec())),
            (1, 42, None),
            (2, 42, Some(vec![7; 700])),
            (3, 42, Some(vec![])),
            (4, 43, Some(vec![8; 2000])),
            (2, 43, Some(b"two".to_vec())),
        ]
    );
}

#[test]
fn a_journal_that_was_cut_anywhere_is_refused() {
    let written = Written::new();
    for len in 0..written.bytes.len() {
        assert!(written.scan(&written.bytes[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn a_journal_that_grew_and_was_cut_back_is_refused() {
    let folder = Folder::new();
    let path = folder.path().join("journal");
    let mut journal = Journal::prepare(&path, 3, &small()).unwrap();
    journal.begin(&keys(), &BEGIN).unwrap();
    for seq in 41..80 {
        commit(&mut journal, seq, &[(1, Some(&[1; 100]))]);
        let bytes = std::fs::read(&path).unwrap();
        for len in (0..bytes.len()).step_by(SECTOR) {
            std::fs::write(folder.path().join("cut"), &bytes[..len]).unwrap();
            let cut = folder.path().join("cut");
            assert!(
                scan(&File::open(&cut).unwrap(), &cut, &keys()).is_err(),
                "{seq}: {len}"
            );
        }
    }
    assert!(
        std::fs::metadata(&path).unwrap().len() >= 2 * 8192,
        "it did not grow"
    );
}

#[test]
fn each_flipped_bit_is_noticed() {
    let written = Written::new();
    let path = written.folder.path().join("flipped");
    std::fs::write(&path, &written.bytes).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let scan = || scan(&file, Path::new("flipped"), &keys());
    for (byte, at) in written.bytes.iter().zip(0..) {
        for bit in 0..8 {
            file.write_all_at(&[byte ^ 1 << bit], at).unwrap();
            assert!(scan().is_err(), "byte {at} bit {bit}");
        }
        file.write_all_at(&[*byte], at).unwrap();
    }
    assert!(scan().is_ok());
}

#[test]
fn a_last_frame_of_which_any_sectors_are_missing_is_dropped() {
    let written = Written::new();
    let sectors = written.last.len() / SECTOR;
    assert!(sectors >= 4);
    for present in 0..1u32 << sectors {
        let mut bytes = written.bytes.clone();
        for sector in (0..sectors).filter(|sector| present & (1 << sector) == 0) {
            let start = written.last.start + sector * SECTOR;
            bytes[start..start + SECTOR].fill(0);
        }
        let found = written.scan(&bytes).unwrap();
        let whole = present == (1 << sectors) - 1;
        assert_eq!(found.last_seq, if whole { 43 } else { 42 }, "{present:b}");
        assert_eq!(found.torn.is_some(), !whole && present != 0, "{present:b}");
        if let Some(torn) = found.torn {
            assert!(torn <= written.last.len() as u64);
            let beyond = found.end.sector * super::SECTOR + torn;
            assert!(
                bytes[beyond as usize..].iter().all(|byte| *byte == 0),
                "{present:b}"
            );
        }
    }
}

#[test]
fn a_last_frame_zeroed_from_any_byte_on_is_dropped_or_refused_and_never_half_there() {
    let written = Written::new();
    for from in written.last.clone() {
        let mut bytes = written.bytes.clone();
        bytes[from..written.last.end].fill(0);
        match written.scan(&bytes) {
            Ok(found) if bytes == written.bytes => assert_eq!(found.last_seq, 43),
            Ok(found) => assert_eq!((found.last_seq, found.changes.len()), (42, 4), "{from}"),
            // A sector that is half zero: no disk does that.
            Err(_) => assert!(from % SECTOR != 0, "{from}"),
        }
    }
}

#[test]
fn a_hole_before_the_last_frame_is_damage() {
    let written = Written::new();
    for sector in 0..written.last.start / SECTOR {
        let mut bytes = written.bytes.clone();
        bytes[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
        let error = written.scan(&bytes).unwrap_err().to_string();
        assert!(
            error.contains("changed: ") && error.contains("deploy restore"),
            "{error}"
        );
    }
}

#[test]
fn a_journal_of_another_store_or_key_is_refused() {
    let written = Written::new();
    let path = written.folder.path().join("journal");
    let file = File::open(&path).unwrap();
    let other = scan(&file, &path, &Keys::derive(&[1; 32], [3; 16])).unwrap_err();
    assert!(other.to_string().contains("another store"), "{other}");
    let other = scan(&file, &path, &Keys::derive(&[3; 32], [2; 16])).unwrap_err();
    assert!(other.to_string().contains("MAC is wrong"), "{other}");
}

#[test]
fn a_frame_of_another_history_is_refused() {
    let (one, mut other) = (Written::new(), Written::new());
    // The same place, number and length; another frame before it.
    let path = other.folder.path().join("journal");
    let mut journal = Journal::prepare(&path, 3, &small()).unwrap();
    journal.begin(&keys(), &BEGIN).unwrap();
    commit(&mut journal, 41, &[(1, Some(b"uno"))]);
    commit(
        &mut journal,
        42,
        &[(1, None), (2, Some(&[7; 700])), (3, Some(b""))],
    );
    commit(
        &mut journal,
        43,
        &[(4, Some(&[8; 2000])), (2, Some(b"two"))],
    );
    other.bytes = std::fs::read(&path).unwrap();
    let mut spliced = one.bytes.clone();
    spliced[one.last.clone()].copy_from_slice(&other.bytes[one.last.clone()]);
    assert!(
        one.scan(&spliced)
            .unwrap_err()
            .to_string()
            .contains("MAC is wrong")
    );
}

#[test]
fn an_index_of_another_history_is_told_from_one_that_is_behind() {
    let found = Written::new().whole();
    let path = Path::new("journal");
    let (seq, chain) = found.commits[1];
    assert!(found.check(&Mark { seq, chain }, path).is_ok());
    assert!(
        found
            .check(
                &Mark {
                    seq: 12,
                    chain: [0; 32]
                },
                path
            )
            .is_ok()
    );
    assert!(
        found
            .check(
                &Mark {
                    seq,
                    chain: [0; 32]
                },
                path
            )
            .is_err()
    );
    assert!(found.check(&Mark { seq: 44, chain }, path).is_err());
}

#[test]
fn a_failed_write_leaves_nothing_and_a_failed_sync_leaves_the_end_unknown() {
    let folder = Folder::new();
    let path = folder.path().join("journal");
    let tuning = small();
    let mut journal = Journal::prepare(&path, 3, &tuning).unwrap();
    journal.begin(&keys(), &BEGIN).unwrap();
    let frame = |journal: &mut Journal| {
        let mut frame = journal.frame(&keys(), Kind::Commit, 41);
        frame.transaction(0);
        journal.append(frame)
    };
    tuning.faults.writes.fail_after(0);
    assert!(frame(&mut journal).is_err_and(|failed| !failed.unknown));
    let file = File::open(&path).unwrap();
    assert_eq!(scan(&file, &path, &keys()).unwrap().last_seq, 40);
    tuning.faults.writes.fail_after(0);
    tuning.faults.syncs.fail_after(0);
    assert!(frame(&mut journal).is_err_and(|failed| failed.unknown));
    tuning.faults.syncs.fail_after(0);
    assert!(frame(&mut journal).is_err_and(|failed| failed.unknown));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic_or_be_believed(
        changes in prop::collection::vec((0usize..8192, any::<u64>()), 1..6),
    ) {
        thread_local!(static WRITTEN: Written = Written::new());
        WRITTEN.with(|written| {
            let mut bytes = written.bytes.clone();
            for (at, value) in changes {
                let at = at.min(bytes.len() - 8);
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            if let Ok(found) = written.scan(&bytes) {
                assert!(bytes == written.bytes || found.torn.is_some());
            }
        });
    }
}

#[test]
fn a_payload_is_read_across_sectors() {
    let file = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..4 * SECTOR).map(|at| (at / 7) as u8).collect();
    file.write_all_at(&bytes, 0).unwrap();
    let payload: Vec<u8> = bytes
        .chunks(SECTOR)
        .flat_map(|sector| sector[STAMP..].to_vec())
        .collect();
    for (offset, len) in [
        (0, 1),
        (503, 2),
        (504, 504),
        (1000, 700),
        (0, payload.len()),
        (10, 0),
    ] {
        let read = read_payload(&file, offset as u64, len).unwrap();
        assert_eq!(read, payload[offset..offset + len], "{offset} {len}");
    }
}
