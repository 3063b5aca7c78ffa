//! The disk keeps and loses what it says.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::channel;

use super::*;

fn put(path: &Path, bytes: &[u8]) -> File {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn put_synced(folder: &Path, name: &str, bytes: &[u8]) {
    put(&folder.join(name), bytes).sync_all().unwrap();
    sync(folder);
}

fn sync(folder: &Path) {
    File::open(folder).unwrap().sync_all().unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn back(disk: &Disk, cut: Cut, seed: u64) {
    disk.cut_now();
    disk.power_back(cut, &mut Random::of(seed));
}

#[test]
fn it_is_a_file_system() {
    let disk = Disk::new();
    let folder = disk.folder();
    fs::create_dir(folder.join("a")).unwrap();
    put(&folder.join("a/one"), &[7; 300_000]);
    fs::rename(folder.join("a/one"), folder.join("a/two")).unwrap();
    assert_eq!(fs::read(folder.join("a/two")).unwrap(), [7; 300_000]);
    assert_eq!(names(&folder.join("a")), ["two"]);
    assert!(fs::remove_dir(folder.join("a")).is_err());
    let file = OpenOptions::new()
        .write(true)
        .open(folder.join("a/two"))
        .unwrap();
    file.set_len(2).unwrap();
    file.write_all_at(b"xyz", 4).unwrap();
    assert_eq!(fs::read(folder.join("a/two")).unwrap(), b"\x07\x07\0\0xyz");
    for number in 0..200 {
        put(&folder.join(format!("a/{number}")), b"");
    }
    fs::remove_dir_all(folder.join("a")).unwrap();
    assert_eq!(names(&folder), [""; 0]);
}

#[test]
fn what_was_synced_with_its_name_survives_every_form_of_a_cut() {
    let disk = Disk::new();
    let folder = disk.folder();
    fs::create_dir(folder.join("a")).unwrap();
    sync(&folder);
    put_synced(&folder.join("a"), "kept", b"bytes");
    for (cut, seed) in Cut::ALL.into_iter().cycle().zip(0..60) {
        put(&folder.join("a/other"), &[1; 5000]);
        fs::rename(folder.join("a/other"), folder.join("a/third")).unwrap();
        back(&disk, cut, seed);
        assert_eq!(
            fs::read(folder.join("a/kept")).unwrap(),
            b"bytes",
            "{cut:?}"
        );
    }
}

#[test]
fn each_form_loses_what_it_is_called_after() {
    let disk = Disk::new();
    let folder = disk.folder();
    let path = |name: &str| folder.join(name);
    let begin = || {
        let root = Disk::new().image();
        disk.load(&root);
        put_synced(&folder, "file", &[1; 2048]);
        // In this order: bytes, a name without bytes of its own, a rename.
        let file = OpenOptions::new().write(true).open(path("file")).unwrap();
        file.write_all_at(&[2; 2048], 0).unwrap();
        put(&path("new"), b"new bytes");
        fs::rename(path("file"), path("moved")).unwrap();
    };
    begin();
    back(&disk, Cut::Everything, 0);
    assert_eq!(names(&folder), ["file"]);
    assert_eq!(fs::read(path("file")).unwrap(), [1; 2048]);
    begin();
    back(&disk, Cut::NamesOnly, 0);
    assert_eq!(names(&folder), ["moved", "new"]);
    assert_eq!(fs::read(path("moved")).unwrap(), [1; 2048]);
    assert_eq!(fs::read(path("new")).unwrap(), b"");
    begin();
    back(&disk, Cut::BytesOnly, 0);
    assert_eq!(names(&folder), ["file"]);
    assert_eq!(fs::read(path("file")).unwrap(), [2; 2048]);
    let (mut torn, mut mixed, mut order) = (0, 0, 0);
    for seed in 0..200 {
        begin();
        back(&disk, Cut::Prefix, seed);
        let there = names(&folder);
        order += u32::from(there != ["file"]);
        if there.contains(&"new".to_string()) {
            let found = fs::read(path(&there[0])).unwrap();
            assert_eq!(found, [2; 2048], "what came before is there, too");
        }
        begin();
        back(&disk, Cut::Torn, seed);
        torn += u32::from(is_mixed(&folder));
        begin();
        back(&disk, Cut::Random, seed);
        mixed += u32::from(is_mixed(&folder));
    }
    assert!(
        order > 20 && torn > 2 && mixed > 20,
        "{order} {torn} {mixed}"
    );
}

/// Whether a file has sectors of before and of after.
fn is_mixed(folder: &Path) -> bool {
    let name = names(folder).into_iter().find(|name| name != "new");
    let bytes = fs::read(folder.join(name.unwrap())).unwrap();
    let mut sectors: Vec<u8> = Vec::new();
    for sector in bytes.chunks(SECTOR as usize) {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "within one");
        sectors.push(sector[0]);
    }
    sectors.contains(&1) && sectors.contains(&2)
}

#[test]
fn the_power_goes_at_the_change_that_was_named() {
    let disk = Disk::new();
    let folder = disk.folder();
    put_synced(&folder, "file", b"");
    for last_counts in [false, true] {
        let (told, hears) = channel();
        disk.cut_after(1, last_counts, move || told.send(()).unwrap());
        let file = OpenOptions::new()
            .write(true)
            .open(folder.join("file"))
            .unwrap();
        file.write_all_at(b"one", 0).unwrap();
        assert!(!disk.is_off());
        assert!(file.write_all_at(b"two", 0).is_err());
        hears.recv().unwrap();
        assert!(disk.is_off());
        assert!(fs::read(folder.join("file")).is_err());
        drop(file);
        disk.go_on();
        let expected: &[u8] = if last_counts { b"two" } else { b"one" };
        assert_eq!(fs::read(folder.join("file")).unwrap(), expected);
    }
}

#[test]
fn a_call_fails_once_or_from_then_on_and_a_failed_sync_loses_what_it_had() {
    let disk = Disk::new();
    let folder = disk.folder();
    put_synced(&folder, "file", b"old");
    let open = || OpenOptions::new().write(true).open(folder.join("file"));
    let fault = |nth, lasts| {
        let (part, errno) = (Part::Own, libc::EIO);
        disk.fail(Some(Fault {
            part,
            nth,
            errno,
            lasts,
        }))
    };
    fault(2, false);
    let opened = [open().is_ok(), open().is_ok(), open().is_ok()];
    assert_eq!(opened, [true, false, true]);
    let (counts, first) = fault(1, true);
    assert_eq!(counts[&Part::Own], 3);
    assert_eq!(first.unwrap().call, "open /file");
    assert_eq!([open().is_ok(), open().is_ok()], [false, false]);
    disk.mend();
    let file = open().unwrap();
    fault(1, true);
    assert!(file.write_all_at(b"new", 0).is_err());
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"old", "it is read");
    fault(2, false);
    file.write_all_at(b"new", 0).unwrap();
    assert!(file.sync_all().is_err());
    assert!(file.sync_all().is_ok(), "the next one lies, as in Linux");
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"new");
    drop(file);
    disk.go_on();
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"old");
}

#[test]
fn a_lying_disk_loses_what_was_synced() {
    let disk = Disk::new();
    let folder = disk.folder();
    disk.lie(true);
    put_synced(&folder, "file", b"bytes");
    assert_eq!(names(&folder), ["file"]);
    back(&disk, Cut::Everything, 0);
    assert_eq!(names(&folder), [""; 0]);
}
