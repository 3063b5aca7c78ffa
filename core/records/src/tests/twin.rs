//! Random operations against the in-memory twin, with a reopen, a kill, a torn tail or a snapshot
//! between any two.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::mac::Keys;
use crate::tuning::Tuning;

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u8, Option<u16>)>),
    Snapshot,
    /// Closed and opened.
    Reopen,
    /// What lies on the disk at this moment is opened.
    Kill,
    /// As a kill, in the middle of writing a transaction: these sectors of its frame are there.
    Torn(Vec<(u8, Option<u16>)>, u64),
    /// sled's folder is as it was so many kills ago.
    OldIndex(usize),
    /// sled's folder is gone.
    NoIndex,
    Settle,
}

fn changes() -> impl Strategy<Value = Vec<(u8, Option<u16>)>> {
    let len = prop_oneof![4 => 0u16..600, 1 => 0u16..6000];
    prop::collection::vec((0u8..12, prop::option::weighted(0.7, len)), 1..6)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => changes().prop_map(Step::Commit),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => (changes(), any::<u64>()).prop_map(|(changes, there)| Step::Torn(changes, there)),
        1 => (1usize..4).prop_map(Step::OldIndex),
        1 => Just(Step::NoIndex),
        1 => Just(Step::Settle),
    ]
}

struct Run {
    folder: Folder,
    records: Option<Records>,
    twin: Records,
    written: u32,
    /// Where kills have left folders.
    left: Vec<Folder>,
}

fn small() -> Tuning {
    Tuning {
        step: 4096,
        ..Tuning::default()
    }
}

impl Run {
    fn new() -> Self {
        let folder = Folder::new();
        let none = std::iter::empty::<Result<_, ()>>();
        let disk = crate::build::build(folder.path(), Keys::derive(&KEY, STORE), none, small());
        let records = Some(Records::on(disk.unwrap()));
        Self {
            folder,
            records,
            twin: Records::in_memory(),
            written: 0,
            left: Vec::new(),
        }
    }

    fn records(&self) -> &Records {
        self.records.as_ref().unwrap()
    }

    fn changes(&mut self, changes: &[(u8, Option<u16>)]) -> Vec<Change> {
        let change = |(number, len): &(u8, Option<u16>)| {
            self.written += 1;
            match len {
                Some(len) => {
                    let record = self.written.to_le_bytes().repeat(usize::from(*len) / 4);
                    put(u32::from(*number), &record)
                }
                None => remove(u32::from(*number)),
            }
        };
        changes.iter().map(change).collect()
    }

    fn open(&mut self) -> Opened {
        let (records, opened) =
            Records::open_tuned(self.folder.path(), STORE, &KEY, small()).unwrap();
        self.records = Some(records);
        opened
    }

    /// Goes on in a copy of what is on the disk; what is left behind is closed there.
    fn kill(&mut self, before_opening: impl FnOnce(&Folder)) -> Opened {
        let copy = self.folder.copied();
        before_opening(&copy);
        self.records = None;
        self.left.push(std::mem::replace(&mut self.folder, copy));
        self.open()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(changes) => {
                let changes = self.changes(changes);
                let seq = self.twin.commit(changes.clone()).unwrap();
                assert_eq!(self.records().commit(changes).unwrap(), seq);
            }
            Step::Snapshot => self.records().snapshot().unwrap(),
            Step::Reopen => {
                self.records = None;
                let opened = self.open();
                assert!(!opened.unclean && !opened.torn, "{opened}");
            }
            Step::Kill => {
                let opened = self.kill(|_| {});
                assert!(opened.unclean && !opened.torn, "{opened}");
            }
            Step::Torn(changes, there) => self.torn(changes, *there),
            Step::OldIndex(ago) => {
                let Some(old) = self.left.len().checked_sub(*ago).map(|at| &self.left[at]) else {
                    return;
                };
                let old = old.copied();
                self.kill(|copy| {
                    std::fs::remove_dir_all(copy.named("index-")).unwrap();
                    let from = old.named("index-");
                    copy_dir(&from, &copy.path().join(from.file_name().unwrap()));
                });
            }
            Step::NoIndex => {
                self.kill(|copy| std::fs::remove_dir_all(copy.named("index-")).unwrap());
            }
            Step::Settle => settled(self.records()),
        }
        assert!(self.records().health().stopped.is_none());
        assert_eq!(self.records().entries(), self.twin.entries());
        assert_eq!(self.records().last_seq(), self.twin.last_seq());
        for number in 0..12 {
            assert_eq!(
                get(self.records(), number),
                get(&self.twin, number),
                "{number}"
            );
        }
    }

    fn torn(&mut self, changes: &[(u8, Option<u16>)], mut there: u64) {
        let changes = self.changes(changes);
        let copy = self.folder.copied();
        self.records().commit(changes.clone()).unwrap();
        let (path, copied) = (
            self.folder.path().join("journal"),
            copy.path().join("journal"),
        );
        let (after, before) = (fs::read(&path).unwrap(), fs::read(&copied).unwrap());
        let file = fs::OpenOptions::new().write(true).open(&copied).unwrap();
        // Growing was synced before the frame was written.
        file.set_len(after.len() as u64).unwrap();
        let (mut some, mut all) = (false, true);
        for (sector, at) in after.chunks(512).zip((0..).step_by(512)) {
            if before.get(at..at + 512).unwrap_or(&[0; 512]) == sector {
                continue;
            }
            if there & 1 == 1 {
                file.write_all_at(sector, at as u64).unwrap();
                some = true;
            } else {
                all = false;
            }
            there = there.rotate_right(1);
        }
        self.records = None;
        self.folder = copy;
        let opened = self.open();
        assert_eq!(opened.torn, some && !all, "{opened}");
        if all {
            self.twin.commit(changes).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_are_what_their_twin_is_whatever_happens_between(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
    }
}
