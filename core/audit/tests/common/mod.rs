//! What the suites put into a log, and look at in it.
#![allow(dead_code, reason = "each suite uses a part of it")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use audit::{
    Access, Anchor, Change, Event, Filter, Found, Log, Options, Outcome, Quota, Verdict, query,
    verify,
};
use serde_json::Value;

/// Small segments, of which all stay, and no open is counted but for `burst` of them.
pub fn options(segment_size: usize, burst: u32) -> Options {
    Options {
        segment_size,
        segments: 1000,
        opens: Quota {
            per_second: 0,
            burst,
        },
    }
}

pub fn access(unique: u64) -> Access<'static> {
    Access {
        pid: 12,
        tid: 13,
        uid: 33,
        comm: b"nginx",
        cgroup: b"/system.slice/web.service",
        service: "web",
        instance: 7,
        secret: "tls",
        field: None,
        version: 3,
        verdict: Verdict::Allowed,
        why: "",
        connection: 5,
        unique,
    }
}

pub const CHANGE: Change<'_> = Change {
    operator: "alice",
    uid: 1000,
    pid: 99,
    act: "secret.set",
    what: "db",
    detail: "version 1",
    outcome: Outcome::Done,
    why: "",
};

pub fn append(log: &Log, unique: u64) {
    log.append(&Event::Open(access(unique)), false).unwrap();
}

/// All entries, as people see them.
pub fn jsons(folder: &Path, filter: &Filter) -> Vec<Value> {
    let mut found = Vec::new();
    query(folder, filter, |entry| {
        found.push(serde_json::from_str(&entry.json()).unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// Waits for what the log's thread does.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How many accesses there are, whole or counted.
pub fn accesses(folder: &Path) -> u64 {
    let count = |one: &Value| match one["kind"].as_str() {
        Some("open" | "read") => 1,
        Some("merged") => one["count"].as_u64().unwrap(),
        _ => 0,
    };
    let all = jsons(folder, &Filter::default());
    all.iter().map(count).sum()
}

/// As a kill would leave it at this moment.
pub fn copy(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        // The log's thread renames and removes meanwhile; a disk of its own has lost+found.
        let _ = fs::copy(entry.path(), copy.path().join(entry.file_name()));
    }
    copy
}

pub const PROGRAM: &str = "test 1";

pub fn small() -> Options {
    options(16 << 10, 1_000_000)
}

pub fn open(folder: &Path) -> (Log, Found) {
    Log::open(folder, small(), PROGRAM).unwrap()
}

pub fn denied(why: &'static str) -> Access<'static> {
    Access {
        verdict: Verdict::Denied,
        version: 0,
        why,
        ..access(0)
    }
}

pub fn change(what: &'static str) -> Change<'static> {
    Change { what, ..CHANGE }
}

pub fn fill(log: &Log, opens: u64) {
    for unique in 0..opens {
        log.append(&Event::Open(access(unique)), false).unwrap();
    }
}

/// All entries of a kind, as people see them.
pub fn lines(folder: &Path, kind: &str) -> Vec<Value> {
    let mut lines = jsons(folder, &Filter::default());
    lines.retain(|line| line["kind"] == kind);
    lines
}

pub fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains("segment-"))
        .filter(|path| fs::read(path).unwrap()[0] != 0)
        .collect();
    found.sort();
    found
}

pub fn whole(folder: &Path, anchor: Option<Anchor>) -> bool {
    verify(folder, anchor).unwrap().is_whole()
}
