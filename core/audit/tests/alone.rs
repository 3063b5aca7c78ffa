//! What is of the whole process or of the host, and so one at a time: the umask, threads, memory, mounts.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use audit::{Access, Anchored, Event, Filter, Log, Options, Quota, Record, query, verify};
use common::{CHANGE, until};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

static ONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn access<'a>(secret: &'a str, instance: u32) -> Access<'a> {
    Access {
        instance,
        secret,
        ..common::access(1)
    }
}

#[test]
fn all_files_are_the_owners_alone_under_any_umask() {
    let _alone = alone();
    for mask in [0o000, 0o077, 0o777] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let before = rustix::process::umask(Mode::from_raw_mode(mask));
        let opened = Log::open(&path, Options::default(), "test");
        // The next segment is made by the log's thread.
        let start = Instant::now();
        while fs::read_dir(&path).unwrap().count() < 3 && start.elapsed() < Duration::from_secs(60)
        {
            thread::sleep(Duration::from_millis(10));
        }
        rustix::process::umask(before);
        opened.unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o700);
        let files: Vec<_> = fs::read_dir(&path).unwrap().flatten().collect();
        assert!(files.len() >= 3, "{files:?}");
        for file in files {
            assert_eq!(mode(&file.path()), 0o600, "{file:?} {mask:o}");
        }
    }
}

fn threads_of_logs() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|it| it == "audit\n"))
        .count()
}

#[test]
fn the_logs_thread_ends_with_the_last_clone_of_the_log() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), Options::default(), "test").unwrap();
    let clone = log.clone();
    drop(log);
    clone.append(&Event::Open(access("tls", 1)), false).unwrap();
    until("one thread", || threads_of_logs() == 1);
    drop(clone);
    until("no thread", || threads_of_logs() == 0);
}

/// Kilobytes that this process has in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_million_rows_of_who_reads_what_take_less_than_64_megabytes() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    // Nothing is written: what is counted is in the table of readers all the same.
    let none = Options {
        opens: Quota {
            per_second: 0,
            burst: 0,
        },
        ..Options::default()
    };
    let (log, _) = Log::open(folder.path(), none, "test").unwrap();
    let secrets: Vec<String> = (0..100).map(|number| format!("secret-{number}")).collect();
    log.append(&Event::Open(access(&secrets[0], 1)), false)
        .unwrap();
    let before = resident();
    for secret in &secrets {
        for instance in 1..=10_000 {
            log.append(&Event::Open(access(secret, instance)), false)
                .unwrap();
        }
    }
    let rows: usize = secrets
        .iter()
        .map(|secret| log.adoption().readers(secret).len())
        .sum();
    assert_eq!(rows, 1_000_000);
    let grown = resident() - before;
    assert!(grown < 64 << 10, "{grown} KiB");
}

/// A file system of a megabyte, until it goes out of scope.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Small {
        let folder = tempfile::tempdir().unwrap();
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        mount(
            "audit-test",
            folder.path(),
            "tmpfs",
            flags,
            Some(c"size=1m"),
        )
        .unwrap();
        Small(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn on_a_full_disk_opens_fail_and_changes_do_not_and_later_the_log_says_what_it_missed() {
    let _alone = alone();
    let small = Small::new();
    let folder = small.0.path().join("audit");
    let options = Options {
        segment_size: 64 << 10,
        segments: 1000,
        opens: Quota {
            per_second: 0,
            burst: 10_000_000,
        },
    };
    let (log, _) = Log::open(&folder, options, "test").unwrap();
    let early = log.anchor();
    let open = || log.append(&Event::Open(access("tls", 1)), false);
    let mut opens = 0_u64;
    let error = loop {
        match open() {
            Ok(()) => opens += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("No space left"), "{error}");
    for _ in 0..10 {
        log.append_durable(&Event::Change(CHANGE)).unwrap();
        assert!(open().is_err());
    }
    assert_eq!(log.health().refused, 11);
    // An operator makes room.
    let mut segments: Vec<_> = fs::read_dir(&folder).unwrap().flatten().collect();
    segments.sort_by_key(fs::DirEntry::file_name);
    let segments = segments.iter().map(fs::DirEntry::path);
    let is_segment = |path: &std::path::PathBuf| path.to_str().unwrap().contains("segment-");
    for path in segments.filter(is_segment).take(3) {
        fs::remove_file(path).unwrap();
    }
    until("the log to be written again", || {
        log.health().failing.is_none()
    });
    open().unwrap();
    let (mut told, mut changes) = (Vec::new(), 0);
    query(&folder, &Filter::default(), |entry| {
        if let Record::Event(Event::Change(change)) = entry.record {
            match change.act {
                "audit.resume" => told.push(change.detail.to_owned()),
                _ => changes += 1,
            }
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(changes, 10);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("11 events were not written"),
        "{told:?}"
    );
    // That he removed them is not hidden.
    let verified = verify(&folder, Some(early)).unwrap();
    assert_eq!(verified.damage.len(), 1, "{verified:?}");
    assert_eq!(verified.anchored, Some(Anchored::TooOld));
    assert!(opens > 1000);
}
