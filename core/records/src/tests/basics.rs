//! What is committed is there, also after closing and opening.

use super::*;
use crate::{BuildError, IndexFound};

#[test]
fn what_is_committed_is_there_after_opening_again() {
    let (folder, records) = Folder::with_records();
    assert_eq!(records.commit(vec![put(1, b"one"), put(2, b"two")]).unwrap(), 1);
    assert_eq!(records.commit(vec![put(1, b"uno"), remove(2), put(3, b"")]).unwrap(), 2);
    let check = |records: &Records| {
        assert_eq!(get(records, 1).as_deref(), Some(&b"uno"[..]));
        assert_eq!(get(records, 2), None);
        assert_eq!(get(records, 3).as_deref(), Some(&b""[..]), "empty is not absent");
        assert_eq!(records.entries(), [(name(1), 2), (name(3), 2)]);
        assert_eq!(records.last_seq(), 2);
    };
    check(&records);
    drop(records);
    let (records, opened) = folder.open().unwrap();
    assert!(!opened.unclean && !opened.torn, "{opened}");
    assert_eq!((opened.records, opened.last_seq, opened.replayed), (2, 2, 2));
    assert_eq!(opened.index, IndexFound::Whole, "{opened}");
    check(&records);
    assert_eq!(records.commit(vec![put(4, b"four")]).unwrap(), 3);
    drop(records);
    assert_eq!(folder.open().unwrap().1.last_seq, 3);
}

#[test]
fn a_hundred_thousand_are_built_quickly() {
    let folder = Folder::new();
    let began = std::time::Instant::now();
    let source = (0..100_000).map(|n| Ok::<_, ()>((name(n), vec![n as u8; 250])));
    let records = Records::build(folder.path(), STORE, &KEY, source).unwrap();
    eprintln!("built {:?}", began.elapsed());
    settled(&records);
    eprintln!("indexed {:?}", began.elapsed());
    let began = std::time::Instant::now();
    for n in 0..100_000 { assert_eq!(get(&records, n).unwrap()[0], n as u8); }
    eprintln!("read {:?} {:?}", began.elapsed(), records.health());
    let began = std::time::Instant::now();
    drop(records);
    eprintln!("closed {:?}", began.elapsed());
    let began = std::time::Instant::now();
    let (records, opened) = folder.open().unwrap();
    eprintln!("opened {:?} {opened:?}", began.elapsed());
    records.commit(vec![put(5, b"x")]).unwrap();
    let began = std::time::Instant::now();
    records.snapshot().unwrap();
    eprintln!("snapshot {:?}", began.elapsed());
    assert_eq!(records.entries().len(), 100_000);
    eprintln!("{:?}", std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("VmHWM")).collect::<Vec<_>>());
}
