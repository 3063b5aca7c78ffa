//! Records of one moment stay what they were.

use super::*;

#[test]
fn what_is_frozen_stays_whatever_is_written_folded_and_closed_after_it() {
    let (folder, on_disk) = Folder::with_records();
    for records in [on_disk, Records::in_memory()] {
        records
            .commit(vec![put(1, b"one"), put(2, b"two")])
            .unwrap();
        records.commit(vec![put(3, b"three")]).unwrap();
        let frozen = records.frozen().unwrap();
        let check = || {
            assert_eq!(frozen.entries(), [(name(1), 1), (name(2), 1), (name(3), 2)]);
            assert_eq!(frozen.last_seq(), 2);
            for (number, record) in [(1, &b"one"[..]), (2, b"two"), (3, b"three")] {
                assert_eq!(get(&frozen, number).as_deref(), Some(record));
            }
            assert_eq!(get(&frozen, 4), None);
        };
        check();
        records
            .commit(vec![put(1, b"uno"), remove(2), put(4, b"four")])
            .unwrap();
        check();
        // Twice, so that the files it was taken from are gone by name.
        records.snapshot().unwrap();
        records.commit(vec![put(3, b"drei")]).unwrap();
        records.snapshot().unwrap();
        check();
        assert_eq!(get(&records, 1).as_deref(), Some(&b"uno"[..]));
        records.close();
        check();
        assert!(records.frozen().is_err(), "closed records are frozen");
        assert!(frozen.commit(vec![put(1, b"x")]).is_err());
        assert!(frozen.frozen().is_ok());
    }
    drop(folder);
}

#[test]
fn to_be_read_alone_nothing_in_the_folder_changes_not_even_what_was_cut_short() {
    let (folder, records) = Folder::with_records();
    records.commit(vec![put(1, b"one")]).unwrap();
    records.commit(vec![put(2, b"two")]).unwrap();
    // As a kill leaves it.
    let killed = folder.copied();
    let before: Vec<_> = killed
        .files()
        .into_iter()
        .map(|file| (file.clone(), fs::read(killed.path().join(file)).unwrap()))
        .collect();
    let read = Records::open_read_only(killed.path(), STORE, &KEY).unwrap();
    assert_eq!(read.entries(), records.entries());
    assert_eq!(get(&read, 2).as_deref(), Some(&b"two"[..]));
    assert!(read.commit(vec![remove(1)]).is_err());
    read.close();
    let after: Vec<_> = killed
        .files()
        .into_iter()
        .map(|file| (file.clone(), fs::read(killed.path().join(file)).unwrap()))
        .collect();
    assert!(before == after);

    let journal = killed.path().join("journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[700] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    assert!(matches!(
        Records::open_read_only(killed.path(), STORE, &KEY),
        Err(RecordsError::Damaged { .. })
    ));
}
