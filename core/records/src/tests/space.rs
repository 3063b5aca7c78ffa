//! A full disk: nothing is acknowledged that is not there, and what was there stays.

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;

/// A file system of its own, so large.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mebibytes: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={mebibytes}m")).unwrap();
        mount("small", dir.path(), "tmpfs", MountFlags::empty(), &*options).unwrap();
        Self(dir)
    }

    /// Leaves no room, until the file is removed.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("ballast");
        let mode = Mode::from_raw_mode(0o600);
        let file = open(
            &path,
            OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND,
            mode,
        )
        .unwrap();
        while rustix::io::write(&file, &[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_loses_nothing_and_takes_writes_again_when_there_is_room() {
    let small = Small::new(16);
    let folder = small.0.path().join("records");
    crate::files::make_dir(&folder).unwrap();
    let records = Records::create(&folder, STORE, &KEY).unwrap();
    let value = |number: u32| vec![number as u8; 30_000];
    records.commit(vec![put(0, &value(0))]).unwrap();
    settled(&records);
    let ballast = small.fill();
    let mut there = vec![0];
    let mut refused = None;
    for number in 1..200 {
        match records.commit(vec![put(number, &value(number))]) {
            Ok(_) => there.push(number),
            Err(error) => {
                refused = Some((number, error));
                break;
            }
        }
    }
    let (refused, error) = refused.expect("it is full");
    assert!(matches!(error, RecordsError::Full { .. }), "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    let all = |records: &Records, there: &[u32]| {
        for number in there {
            assert!(get(records, *number) == Some(value(*number)), "{number}");
        }
        assert_eq!(records.entries().len(), there.len());
    };
    assert!(
        there.len() > 10,
        "what was preallocated can be used: {}",
        there.len()
    );
    assert_eq!(get(&records, refused), None);
    all(&records, &there);
    assert!(records.snapshot().is_err(), "no room for it");
    all(&records, &there);
    let began = Instant::now();
    drop(records);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "it waited for a sled that hangs"
    );
    // Opening needs no room; small transactions may still fit.
    let (records, opened) = Records::open(&folder, STORE, &KEY).unwrap();
    assert!(!opened.unclean, "{opened}");
    all(&records, &there);
    fs::remove_file(ballast).unwrap();
    records.commit(vec![put(refused, &value(refused))]).unwrap();
    there.push(refused);
    records.snapshot().unwrap();
    settled(&records);
    all(&records, &there);
    assert_eq!(records.health().stopped, None);
    drop(records);
    all(&Records::open(&folder, STORE, &KEY).unwrap().0, &there);
}

#[test]
fn no_room_for_records_at_all_leaves_nothing_behind() {
    let small = Small::new(4);
    let folder = small.0.path().join("records");
    crate::files::make_dir(&folder).unwrap();
    let ballast = small.fill();
    let error = Records::create(&folder, STORE, &KEY).unwrap_err();
    assert!(matches!(error, RecordsError::Full { .. }), "{error}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    fs::remove_file(ballast).unwrap();
    Records::create(&folder, STORE, &KEY).unwrap();
}

#[test]
fn opening_and_small_writes_need_no_room() {
    let small = Small::new(8);
    let folder = small.0.path().join("records");
    crate::files::make_dir(&folder).unwrap();
    let records = Records::create(&folder, STORE, &KEY).unwrap();
    for number in 0..50 {
        records.commit(vec![put(number, &[1; 500])]).unwrap();
    }
    drop(records);
    small.fill();
    for round in 0..3 {
        let (records, opened) = Records::open(&folder, STORE, &KEY).unwrap();
        assert!(!opened.unclean, "{opened}");
        // A revoke, say.
        records.commit(vec![remove(round)]).unwrap();
        assert_eq!(records.entries().len(), 49 - round as usize);
        assert_eq!(get(&records, 49).unwrap(), [1; 500]);
    }
}
