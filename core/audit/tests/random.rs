//! Random sequences of appends, restarts, kills and power cuts, and then somebody who changes a file.
//! proptest prints what it came down to, and keeps its seed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use audit::{
    Access, Anchor, Anchored, Change, Event, Filter, Log, Options, Outcome, Quota, Record, Verdict,
    query, verify,
};
use proptest::prelude::*;

const OPTIONS: Options = Options {
    segment_size: 16 << 10,
    segments: 1000,
    opens: Quota {
        per_second: 0,
        burst: 40,
    },
};

#[derive(Debug, Clone)]
enum Act {
    Opens { service: u8, count: u8 },
    Denials { secret: u8, count: u8 },
    Change,
    Flush,
    Sync,
    Restart,
    Kill,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4_u8, 1..60_u8).prop_map(|(service, count)| Act::Opens { service, count }),
        2 => (0..40_u8, 1..20_u8).prop_map(|(secret, count)| Act::Denials { secret, count }),
        2 => Just(Act::Change),
        1 => Just(Act::Flush),
        1 => Just(Act::Sync),
        1 => Just(Act::Restart),
        2 => Just(Act::Kill),
    ]
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(folder: &Path) -> Files {
    let names = fs::read_dir(folder).unwrap().map(|one| one.unwrap().path());
    // The log's thread renames a segment that it has made.
    names
        .filter_map(|path| {
            let bytes = fs::read(&path).ok()?;
            Some((path.file_name()?.into(), bytes))
        })
        .collect()
}

fn put(files: &Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// The log with what was done to it.
struct Run {
    folder: tempfile::TempDir,
    log: Log,
    accesses: u64,
    changes: u64,
    synced: (Anchor, Files),
}

impl Run {
    fn new() -> Run {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), OPTIONS, "test").unwrap();
        let synced = (log.anchor(), files(folder.path()));
        Run {
            folder,
            log,
            accesses: 0,
            changes: 0,
            synced,
        }
    }

    fn access(&mut self, service: u8, secret: u8, verdict: Verdict) {
        let (service, secret) = (format!("service-{service}"), format!("secret-{secret}"));
        let access = Access {
            pid: 12,
            tid: 13,
            uid: 33,
            comm: b"nginx",
            cgroup: b"/",
            service: &service,
            instance: 7,
            secret: &secret,
            field: None,
            version: 3,
            verdict,
            why: "",
            connection: 1,
            unique: self.accesses,
        };
        self.log.append(&Event::Open(access), false).unwrap();
        self.accesses += 1;
    }

    /// All files as they are at one moment.
    fn snapshot(&self) -> Files {
        loop {
            let (before, files) = (self.log.anchor(), files(self.folder.path()));
            if self.log.anchor() == before {
                return files;
            }
        }
    }

    fn reopen(&mut self, files: &Files) {
        let folder = put(files);
        self.log = Log::open(folder.path(), OPTIONS, "test").unwrap().0;
        self.folder = folder;
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Opens { service, count } => {
                (0..*count).for_each(|_| self.access(*service, 0, Verdict::Allowed));
            }
            Act::Denials { secret, count } => {
                (0..*count).for_each(|_| self.access(0, *secret, Verdict::Denied));
            }
            Act::Change => {
                let change = Change {
                    operator: "alice",
                    uid: 0,
                    pid: 1,
                    act: "secret.set",
                    what: "db",
                    detail: "",
                    outcome: Outcome::Done,
                    why: "",
                };
                self.log.append_durable(&Event::Change(change)).unwrap();
                self.changes += 1;
            }
            Act::Flush => self.log.flush(),
            Act::Sync => {
                self.log.sync().unwrap();
                self.synced = (self.log.anchor(), self.snapshot());
            }
            Act::Restart => {
                self.log.close();
                let files = self.snapshot();
                self.reopen(&files);
            }
            Act::Kill => {
                let files = self.snapshot();
                self.reopen(&files);
            }
        }
    }

    /// How many accesses and changes the log tells of.
    fn told(&self) -> (u64, u64) {
        let (mut accesses, mut changes) = (0, 0);
        query(self.folder.path(), &Filter::default(), |entry| {
            match entry.record {
                Record::Event(Event::Open(_)) => accesses += 1,
                Record::Merged(merged) => accesses += merged.count,
                Record::Event(Event::Change(_)) => changes += 1,
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        (accesses, changes)
    }
}

/// What somebody does to a file of the log.
#[derive(Debug, Clone)]
enum Tampering {
    Flip,
    Zero(usize),
    Move(usize),
    Truncate,
    Remove,
    Swap,
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        3 => Just(Tampering::Flip),
        2 => (1..600_usize).prop_map(Tampering::Zero),
        2 => (1..600_usize).prop_map(Tampering::Move),
        1 => Just(Tampering::Truncate),
        1 => Just(Tampering::Remove),
        1 => Just(Tampering::Swap),
    ]
}

fn tamper(files: &mut Files, tampering: &Tampering, which: usize, place: usize) {
    let begun = |(name, bytes): (&PathBuf, &Vec<u8>)| {
        let is_segment = name.to_str().unwrap().starts_with("segment-");
        (is_segment && bytes.iter().any(|byte| *byte != 0)).then(|| name.clone())
    };
    let names: Vec<_> = files.iter().filter_map(begun).collect();
    let name = &names[which % names.len()];
    let used = files[name].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let bytes = files.get_mut(name).unwrap();
    let place = place % used;
    match tampering {
        Tampering::Flip => bytes[place] ^= 1 << (which % 8),
        Tampering::Zero(length) => bytes[place..(place + length).min(used)].fill(0),
        Tampering::Move(by) => {
            let end = (place + 200).min(used);
            let to = (place + by).min(used - 1);
            bytes.resize(bytes.len().max(to + end - place), 0);
            bytes.copy_within(place..end, to);
            bytes.truncate(16 << 10);
        }
        Tampering::Truncate => bytes.truncate(place),
        Tampering::Remove => {
            files.remove(name);
        }
        Tampering::Swap => {
            let other = &names[(which + 1) % names.len()];
            let (one, two) = (files[name].clone(), files[other].clone());
            files.insert(name.clone(), two);
            files.insert(other.clone(), one);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_counted_twice_by_kills_and_no_change_of_a_file_stays_hidden(
        acts in proptest::collection::vec(act(), 1..25),
        changes in proptest::collection::vec((tampering(), any::<usize>(), any::<usize>()), 8),
    ) {
        let mut run = Run::new();
        for act in &acts {
            run.act(act);
        }
        run.log.flush();
        prop_assert_eq!(run.told(), (run.accesses, run.changes));
        let anchor = run.log.anchor();
        let verified = verify(run.folder.path(), Some(anchor)).unwrap();
        prop_assert!(verified.is_whole(), "{:?}", verified);
        let before = run.snapshot();
        let anchor = run.log.anchor();
        for (tampering, which, place) in &changes {
            let mut files = before.clone();
            tamper(&mut files, tampering, *which, *place);
            if files != before {
                let folder = put(&files);
                let verified = verify(folder.path(), Some(anchor)).unwrap();
                prop_assert!(!verified.is_whole(), "{:?}: {:?}", tampering, verified);
                // Whatever it is, the log goes on, or says why not.
                let _ = Log::open(folder.path(), OPTIONS, "test");
            }
        }
    }

    #[test]
    fn after_a_power_cut_all_that_was_synced_is_there_and_the_log_goes_on(
        acts in proptest::collection::vec(act(), 1..15),
        kept in any::<u64>(),
    ) {
        let mut run = Run::new();
        for act in &acts {
            run.act(act);
            if matches!(act, Act::Restart | Act::Kill) {
                run.act(&Act::Sync);
            }
        }
        // Of the pages written since, the disk has some and not others, in no order.
        let mut files = run.snapshot();
        let (anchor, old) = &run.synced;
        let mut page_number = 0;
        for (name, bytes) in &mut files {
            let empty = vec![0; bytes.len()];
            let old = old.get(name).unwrap_or(&empty);
            for (new, old) in bytes.chunks_mut(4096).zip(old.chunks(4096)) {
                if new != old {
                    page_number += 1;
                    if kept.rotate_left(page_number) & 1 == 0 {
                        new.copy_from_slice(old);
                    }
                }
            }
        }
        let folder = put(&files);
        let (log, _) = Log::open(folder.path(), OPTIONS, "test").unwrap();
        let fits = |anchor| verify(folder.path(), Some(anchor)).unwrap().anchored;
        prop_assert_eq!(fits(*anchor), Some(Anchored::Fits));
        let access = Access {
            pid: 1, tid: 1, uid: 1, comm: b"", cgroup: b"", service: "a", instance: 1, secret: "b",
            field: None, version: 1, verdict: Verdict::Allowed, why: "", connection: 9, unique: 1,
        };
        log.append(&Event::Open(access), false).unwrap();
        prop_assert_eq!(fits(log.anchor()), Some(Anchored::Fits));
        log.close();
        drop(log);
        let (_, found) = Log::open(folder.path(), OPTIONS, "test").unwrap();
        prop_assert_eq!(found.damage, "");
    }
}
