//! What a disk that is full, fails or loses power may do to the log, and what two writers or an
//! operator's other settings may. The disks are ext4 on a loop device, and the kernel's own failures.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use audit::{Event, Log, Options, verify};
use common::{CHANGE, access, accesses, append, copy, until};

fn options() -> Options {
    quota(10_000_000)
}

/// So many opens are entries of their own; the rest is counted.
fn quota(burst: u32) -> Options {
    common::options(16 << 10, burst)
}

fn open(folder: &Path, options: Options) -> Log {
    Log::open(folder, options, "test").unwrap().0
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap();
    let mut found: Vec<_> = all.map(|one| one.unwrap().path()).collect();
    found.retain(|path| path.to_str().unwrap().contains("segment-"));
    found.sort();
    found
}

/// In the way of any further segment.
fn no_next(folder: &Path) -> PathBuf {
    let path = folder.join("segment.new");
    fs::create_dir_all(path.join("x")).unwrap();
    path
}

/// A log in which no further segment can be made, up to where opens are kept out of the reserve, and
/// with counts that found no room; and how many accesses it answered.
fn full(folder: &Path, options: Options) -> (Log, u64) {
    let log = open(folder, options);
    no_next(folder);
    for unique in 0.. {
        append(&log, unique);
        let before = log.anchor();
        if unique > u64::from(options.opens.burst) {
            log.flush();
            if log.anchor() == before {
                return (log, unique + 1);
            }
        }
        assert!(unique < 100_000);
    }
    unreachable!()
}

#[test]
fn counts_that_find_no_room_keep_no_log_from_opening_and_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (_log, answered) = full(folder.path(), quota(60));
    let killed = copy(folder.path());
    let in_the_way = no_next(killed.path());
    let (log, _) = Log::open(killed.path(), quota(0), "test").unwrap();
    append(&log, answered);
    fs::remove_dir_all(in_the_way).unwrap();
    until("there is room", || {
        log.flush();
        accesses(killed.path()) == answered + 1
    });
    drop(log);
    let log = open(killed.path(), quota(60));
    assert_eq!(accesses(killed.path()), answered + 1, "and not twice");
    let verified = verify(killed.path(), Some(log.anchor())).unwrap();
    assert!(verified.is_whole(), "{verified:?}");
}

#[test]
fn a_log_without_any_room_opens_refuses_and_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = full(folder.path(), quota(60));
    while log.append(&Event::Change(CHANGE), false).is_ok() {}
    let killed = copy(folder.path());
    let in_the_way = no_next(killed.path());
    let (log, _) = Log::open(killed.path(), options(), "test").unwrap();
    assert!(log.append(&Event::Open(access(0)), false).is_err());
    assert!(log.append_durable(&Event::Change(CHANGE)).is_err());
    assert!(log.health().failing.is_some());
    fs::remove_dir_all(in_the_way).unwrap();
    until("it goes on", || log.health().failing.is_none());
    append(&log, 1);
    let verified = verify(killed.path(), Some(log.anchor())).unwrap();
    assert!(verified.is_whole(), "{verified:?}");
}

#[test]
fn keeping_more_segments_than_before_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let fill = |segments, opens: u64| {
        let kept = Options {
            segments,
            ..options()
        };
        let log = open(folder.path(), kept);
        (0..opens).for_each(|unique| append(&log, unique));
        log
    };
    let log = fill(3, 600);
    until("old ones go", || {
        let all = segments(folder.path());
        !all.contains(&folder.path().join("segment-0000000002"))
    });
    drop(log);
    let log = fill(10, 200);
    let verified = verify(folder.path(), Some(log.anchor())).unwrap();
    assert!(verified.first > 1 && verified.is_whole(), "{verified:?}");
    // One that goes by another hand shows still.
    fs::remove_file(&segments(folder.path())[0]).unwrap();
    assert!(!verify(folder.path(), None).unwrap().is_whole());
}

#[test]
fn a_folder_has_one_log_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options());
    append(&log, 1);
    let other = Log::open(folder.path(), options(), "other");
    assert!(other.is_err());
    (0..20).for_each(|unique| append(&log, unique));
    assert!(
        verify(folder.path(), Some(log.anchor()))
            .unwrap()
            .is_whole()
    );
    // It is free with the last clone, whatever the log's thread is at.
    for _ in 0..50 {
        let clone = log.clone();
        drop(clone);
    }
    drop(log);
    for _ in 0..50 {
        append(&open(folder.path(), options()), 2);
    }
}

#[test]
fn a_segment_that_somebody_puts_there_with_the_highest_number_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options());
    append(&log, 1);
    let anchor = log.anchor();
    drop(log);
    for number in [u64::MAX, u64::MAX - 1, 10_000_000_000] {
        let path = folder.path().join(format!("segment-{number:010}"));
        fs::write(path, [1; 4096]).unwrap();
    }
    for _ in 0..2 {
        let log = open(folder.path(), options());
        append(&log, 2);
        let verified = verify(folder.path(), Some(anchor)).unwrap();
        assert_eq!(verified.anchored, Some(audit::Anchored::Fits));
        assert!(verified.is_whole(), "{verified:?}");
    }
    assert_eq!(
        segments(folder.path()).len(),
        1 + 3,
        "no other one was begun"
    );
}

/// The part of the next test that runs in another boot.
#[test]
fn another_boot() {
    let Some(folder) = std::env::var_os("AUDIT_FOLDER") else {
        return;
    };
    let log = open(Path::new(&folder), quota(0));
    (0..5).for_each(|unique| append(&log, unique));
    // As a power cut would: nothing is flushed.
    std::process::exit(0);
}

#[test]
fn what_another_boot_has_counted_is_written_and_says_nothing_of_the_instances_of_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let boot = folder.path().join("boot_id");
    fs::write(&boot, "00000000-1111-2222-3333-444444444444\n").unwrap();
    let program = std::env::current_exe().unwrap();
    let id = "/proc/sys/kernel/random/boot_id";
    let script = format!(
        "mount --bind {} {id} && exec {} --exact another_boot",
        text(&boot),
        text(&program)
    );
    let audit = folder.path().join("audit");
    let child = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("AUDIT_FOLDER", &audit)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    // The second time they are entries, behind the start of this boot.
    for _ in 0..2 {
        let log = open(&audit, quota(0));
        assert_eq!(accesses(&audit), 5);
        assert_eq!(log.adoption().readers("tls"), []);
    }
    let log = open(&audit, quota(0));
    append(&log, 9);
    drop(log);
    let log = open(&audit, quota(0));
    assert_eq!(log.adoption().readers("tls").len(), 1);
}

/// An ext4 of its own, in a file on a small tmpfs: a disk that promises more blocks than there are.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Disk {
        let disk = Disk(tempfile::tempdir().unwrap());
        let (backing, image) = (disk.0.path().join("backing"), disk.image());
        fs::create_dir(&backing).unwrap();
        fs::create_dir(disk.path()).unwrap();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "size=24m", "none", text(&backing)],
        );
        File::create(&image).unwrap().set_len(256 << 20).unwrap();
        let eager = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run(
            "mkfs.ext4",
            &["-q", "-F", "-J", "size=4", "-E", eager, text(&image)],
        );
        disk.mount(&image);
        disk
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("backing/image")
    }

    fn mount(&self, image: &Path) {
        let path = self.path();
        run("mount", &["-o", "loop,nodiscard", text(image), text(&path)]);
    }

    /// The power is cut, and comes back: what is not on the disk is lost.
    fn cut(&self, log: Log) {
        // FS_IOC_SHUTDOWN with FS_GOING_FLAGS_NOLOGFLUSH.
        let cut = "import fcntl, os, struct, sys\n\
             fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        run("python3", &["-c", cut, text(&self.path())]);
        drop(log);
        // On another disk: somebody's mount namespace may hold this one for a while.
        let other = self.0.path().join("other");
        run(
            "cp",
            &["--sparse=always", text(&self.image()), text(&other)],
        );
        run("umount", &["-l", text(&self.path())]);
        self.mount(&other);
    }

    /// From here on no block is there that was not written before.
    fn fill(&self) {
        // Every block of the journal is: so that only data fails.
        let path = self.path();
        let folder = File::open(&path).unwrap();
        for _ in 0..1500 {
            File::create(path.join("x")).unwrap();
            folder.sync_all().unwrap();
            fs::remove_file(path.join("x")).unwrap();
        }
        let mut file = File::create(self.0.path().join("backing/filling")).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("backing/filling")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for path in [self.path(), self.0.path().join("backing")] {
            let _ = Command::new("umount").arg("-l").arg(path).output();
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

#[test]
fn a_disk_that_loses_what_is_written_costs_no_history() {
    let disk = Disk::new();
    let folder = disk.path().join("audit");
    let few = Options {
        segments: 4,
        ..options()
    };
    let log = open(&folder, few);
    log.append_durable(&Event::Change(CHANGE)).unwrap();
    let (history, there) = (log.anchor(), segments(&folder));
    disk.fill();
    // Another segment is tried once a second: a few times.
    let start = Instant::now();
    let mut refused = 0;
    while start.elapsed() < Duration::from_secs(7) {
        refused += u64::from(log.append_durable(&Event::Change(CHANGE)).is_err());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(refused > 20 && log.health().failing.is_some());
    let left = segments(&folder);
    assert!(left.contains(&there[0]), "{left:?}");
    disk.free();
    until("it goes on", || {
        log.append_durable(&Event::Change(CHANGE)).is_ok() && log.health().failing.is_none()
    });
    disk.cut(log);
    let verified = verify(&folder, Some(history)).unwrap();
    assert_eq!(
        verified.anchored,
        Some(audit::Anchored::Fits),
        "{verified:?}"
    );
}

#[test]
fn what_is_only_counted_survives_a_power_cut_when_it_was_synced() {
    let disk = Disk::new();
    let folder = disk.path().join("audit");
    let (log, answered) = full(&folder, quota(60));
    for unique in answered..answered + 50 {
        append(&log, unique);
    }
    log.sync().unwrap();
    disk.cut(log);
    fs::remove_dir_all(folder.join("segment.new")).unwrap();
    let log = open(&folder, quota(60));
    log.flush();
    assert_eq!(accesses(&folder), answered + 50);
}
