//! What is committed is there, also after closing and opening.

use super::*;
use crate::{BuildError, IndexFound, MAX_RECORD};

#[test]
fn what_is_committed_is_there_after_opening_again() {
    let folder = Folder::on_disk();
    let records = Records::create(folder.path(), STORE, &KEY).unwrap();
    assert_eq!(
        records
            .commit(vec![put(1, b"one"), put(2, b"two")])
            .unwrap(),
        1
    );
    assert_eq!(
        records
            .commit(vec![put(1, b"uno"), remove(2), put(3, b"")])
            .unwrap(),
        2
    );
    let check = |records: &Records| {
        assert_eq!(get(records, 1).as_deref(), Some(&b"uno"[..]));
        assert_eq!(get(records, 2), None);
        assert_eq!(
            get(records, 3).as_deref(),
            Some(&b""[..]),
            "empty is not absent"
        );
        assert_eq!(records.entries(), [(name(1), 2), (name(3), 2)]);
        assert_eq!(records.last_seq(), 2);
    };
    check(&records);
    drop(records);
    let (records, opened) = folder.open().unwrap();
    assert!(!opened.unclean && !opened.torn, "{opened}");
    assert_eq!(
        (opened.records, opened.last_seq, opened.replayed),
        (2, 2, 2)
    );
    assert_eq!(opened.index, IndexFound::Whole, "{opened}");
    check(&records);
    assert_eq!(records.commit(vec![put(4, b"four")]).unwrap(), 3);
    drop(records);
    assert_eq!(folder.open().unwrap().1.last_seq, 3);
}

#[test]
fn the_twin_in_memory_keeps_the_same_rules() {
    let (_folder, on_disk) = Folder::with_records();
    for records in [on_disk, Records::in_memory()] {
        assert_eq!(records.commit(vec![]).unwrap(), 0);
        assert_eq!(
            records
                .commit(vec![put(1, b"a"), put(1, b"b"), remove(9)])
                .unwrap(),
            1
        );
        assert_eq!(
            get(&records, 1).as_deref(),
            Some(&b"b"[..]),
            "the later change counts"
        );
        assert_eq!(records.commit(vec![put(1, b"c"), remove(1)]).unwrap(), 2);
        assert_eq!(get(&records, 1), None);
        let large = Change::Put {
            name: name(2),
            record: vec![0; MAX_RECORD + 1],
        };
        let error = records
            .commit(vec![put(3, b"not alone"), large])
            .unwrap_err();
        assert!(
            matches!(error, RecordsError::TooLarge { what: "record", .. }),
            "{error}"
        );
        let many = (0..5).map(|n| Change::Put {
            name: name(n),
            record: vec![0; MAX_RECORD],
        });
        let error = records.commit(many.collect()).unwrap_err();
        assert!(
            matches!(
                error,
                RecordsError::TooLarge {
                    what: "transaction",
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(get(&records, 3), None, "all or nothing");
        assert_eq!(records.last_seq(), 2);
        let clone = records.clone();
        records.close();
        assert!(matches!(
            clone.commit(vec![put(1, b"late")]),
            Err(RecordsError::Closed)
        ));
        assert!(matches!(clone.get(&name(1)), Err(RecordsError::Closed)));
    }
}

#[test]
fn records_are_made_only_where_there_are_none() {
    let (folder, records) = Folder::with_records();
    records.commit(vec![put(1, b"one")]).unwrap();
    drop(records);
    let again = Records::create(folder.path(), STORE, &KEY);
    assert!(matches!(again, Err(RecordsError::Exists(_))));
    assert_eq!(
        get(&folder.open().unwrap().0, 1).as_deref(),
        Some(&b"one"[..])
    );
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let folder = Folder::new();
    fs::write(folder.path().join("keys"), b"keys").unwrap();
    let records = Records::create(folder.path(), STORE, &KEY).unwrap();
    records.commit(vec![put(1, b"one")]).unwrap();
    records.snapshot().unwrap();
    drop(records);
    drop(folder.open().unwrap());
    assert_eq!(fs::read(folder.path().join("keys")).unwrap(), b"keys");
}

#[test]
fn values_of_a_mebibyte_are_served() {
    let (folder, records) = Folder::with_records();
    let value = |number: u32| vec![number as u8; (1 << 20) + number as usize];
    for number in 0..9 {
        records.commit(vec![put(number, &value(number))]).unwrap();
    }
    records
        .commit((10..30).map(|number| put(number, &value(number))).collect())
        .unwrap();
    records.snapshot().unwrap();
    records.commit(vec![put(30, &value(30))]).unwrap();
    let all = |records: &Records| {
        for number in (0..9).chain(10..31) {
            assert!(get(records, number) == Some(value(number)), "{number}");
        }
    };
    all(&records);
    settled(&records);
    all(&records);
    drop(records);
    let (records, opened) = folder.open().unwrap();
    assert_eq!(opened.index, IndexFound::Whole, "{opened}");
    all(&records);
    assert_eq!(records.health().healed, 0);
}

#[test]
fn a_new_generation_is_built_whole_or_not_at_all() {
    let folder = Folder::new();
    let source = |bad: Option<u32>| {
        (0..5000u32).map(move |number| match bad {
            Some(bad) if bad == number => Err("the source failed"),
            _ => Ok((name(number.reverse_bits()), number.to_le_bytes().to_vec())),
        })
    };
    let failed = Records::build(folder.path(), STORE, &KEY, source(Some(4000)));
    assert!(matches!(
        failed,
        Err(BuildError::Source("the source failed"))
    ));
    let twice = source(None).chain([Ok((name(0), Vec::new()))]);
    let failed = Records::build(folder.path(), STORE, &KEY, twice);
    assert!(matches!(
        failed,
        Err(BuildError::Records(RecordsError::Duplicate))
    ));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is left"
    );
    let records = Records::build(folder.path(), STORE, &KEY, source(None)).unwrap();
    let all = |records: &Records| {
        for number in 0..5000u32 {
            let record = get(records, number.reverse_bits()).unwrap();
            assert_eq!(record, number.to_le_bytes());
        }
        assert_eq!((records.entries().len(), records.last_seq()), (5000, 1));
    };
    all(&records);
    settled(&records);
    all(&records);
    drop(records);
    let (records, opened) = folder.open().unwrap();
    assert_eq!((opened.unclean, opened.index), (false, IndexFound::Whole));
    all(&records);
    assert_eq!(records.commit(vec![put(1, b"on")]).unwrap(), 2);
}

#[test]
fn what_was_removed_or_overwritten_is_in_no_file_after_a_snapshot() {
    let (folder, records) = Folder::with_records();
    records
        .commit(vec![
            put(1, b"CANARY-one"),
            put(2, &b"CANARY-two".repeat(9000)),
        ])
        .unwrap();
    records.commit(vec![put(3, b"stays")]).unwrap();
    settled(&records);
    records.commit(vec![remove(1), put(2, b"new")]).unwrap();
    let canary = |folder: &Folder| {
        let bytes = |file| fs::read(folder.path().join(file)).unwrap();
        let mut files = folder.files().into_iter().map(bytes);
        files.any(|bytes| bytes.windows(6).any(|at| at == b"CANARY"))
    };
    assert!(canary(&folder), "the test looks in the right place");
    assert_eq!(records.health().superseded, 2);
    records.snapshot().unwrap();
    assert_eq!(records.health().superseded, 0);
    assert!(!canary(&folder));
    settled(&records);
    assert!(!canary(&folder));
    drop(records);
    assert!(!canary(&folder));
}
