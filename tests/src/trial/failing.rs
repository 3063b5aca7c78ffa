//! A scenario on a disk of which one call fails, or all from one on.

use super::worker::Worker;
use super::{Answer, Bytes, Lines, Op, Order, Start, Target, Trial, World, folder, group_of};
use crate::powercut::{Counts, Cut, Failed, Fault, Part};
use crate::soak::Random;

impl Trial {
    /// Does changes on a good disk, and kills whoever did them.
    ///
    /// # Errors
    /// One failed.
    pub fn prepare(&mut self, ops: &[Op]) -> Result<Start, String> {
        let mut worker = Worker::start();
        self.open(&mut worker)?;
        let refused = self.each(&mut worker, ops)?;
        self.kill(worker)?;
        match refused {
            Some(why) => Err(why),
            None => Ok(self.now()),
        }
    }

    /// Does changes with this fault, then looks at what a restart finds, and at what one finds after
    /// the power went too. Gives how many calls there were, and the first that failed.
    ///
    /// # Errors
    /// A promise was broken; which, and by which call.
    pub fn fail(
        &mut self,
        start: &Start,
        ops: &[Op],
        fault: Option<Fault>,
    ) -> Result<(Counts, Option<Failed>), String> {
        self.disk.load(&start.image);
        self.groups.clone_from(&start.groups);
        self.disk.fail(fault);
        let mut worker = Worker::start();
        let played = self.play_failing(&mut worker, ops, fault);
        let (counts, failed) = self.disk.fail(None);
        let heard = self.kill(worker);
        let end = self.now();
        played
            .and(heard)
            .and_then(|()| {
                self.disk.load(&end.image);
                self.reopen()
            })
            .and_then(|()| {
                self.groups = end.groups;
                let mut random = Random::of(counts.values().sum());
                self.disk.load_cut(&end.image, Cut::Everything, &mut random);
                self.reopen()
                    .map_err(|why| format!("after a power cut: {why}"))
            })
            .map_err(|why| format!("{failed:?}: {why}"))?;
        Ok((counts, failed))
    }

    fn play_failing(
        &mut self,
        worker: &mut Worker,
        ops: &[Op],
        fault: Option<Fault>,
    ) -> Result<(), String> {
        worker.order(&Order::Open(folder(&self.disk), self.target));
        match self.answer(worker)? {
            Some(Answer::Opened { .. }) => {}
            Some(Answer::Refused(why)) if fault.is_some() => {
                self.tally.one("it did not open");
                return self.may_refuse(&why);
            }
            other => return Err(format!("it does not open: {other:?}")),
        }
        let refused = self.each(worker, ops)?;
        // Of two places that a record is read from, one is good as long as the other is not.
        let can_fail = match (self.disk.failed(), fault) {
            (Some(failed), Some(fault)) => fault.lasts && !failed.changes,
            (None, fault) => fault.is_some(),
            (Some(_), None) => false,
        };
        let loses = can_fail && fault.is_some_and(|fault| fault.part == Part::Own);
        let lines = self.told(worker)?.unwrap_or_default();
        self.reads_on(&lines, loses)?;
        let Some(why) = refused else {
            worker.order(&Order::Close);
            return match self.answer(worker)? {
                Some(Answer::Closed) => Ok(()),
                other => Err(format!("it does not close: {other:?}")),
            };
        };
        if fault.is_none() {
            return Err(format!("on a good disk: {why}"));
        }
        self.tally.one("changes were refused");
        if self.under_status(worker, self.probe())? {
            self.tally.one("the disk was bad, and status said so");
        }
        self.disk.mend();
        if self.under_status(worker, self.probe())? {
            self.tally
                .one("it took no writes until a restart, and status said so");
        }
        Ok(())
    }

    /// Only what cannot be read keeps a store from being opened, and it is not said to be none.
    fn may_refuse(&self, why: &str) -> Result<(), String> {
        match self.disk.failed() {
            Some(failed) if !failed.changes && !why.contains("deploy init") => Ok(()),
            _ => Err(format!("it does not open: {why}")),
        }
    }

    /// Does one change after another. Gives why one was refused; then it may be there or not, unless
    /// the refusal says so.
    fn each(&mut self, worker: &mut Worker, ops: &[Op]) -> Result<Option<String>, String> {
        let mut refused = None;
        for op in ops {
            self.begin_change(worker, 0, op.clone());
            match self.answer(worker)? {
                Some(Answer::Failed(lane, why)) => {
                    self.under_way.remove(&lane);
                    if op.denies_first() || !why.contains("nothing was written") {
                        self.doubt(op);
                    }
                    refused = Some(format!("{op:?}: {why}"));
                }
                Some(answer) => self.hear(answer)?,
                None => return Err("there is no power".into()),
            }
        }
        Ok(refused)
    }

    fn probe(&self) -> Op {
        let bytes = Bytes { seed: 1, len: 9 };
        match self.target {
            Target::Store => Op::Set("probe.s0".into(), vec![(String::new(), bytes)], None),
            Target::Records | Target::Sled => Op::Commit(vec![("probe.r0".into(), Some(bytes))]),
        }
    }

    /// Tries a change; where it is refused (`true`), status must say why.
    fn under_status(&mut self, worker: &mut Worker, op: Op) -> Result<bool, String> {
        let Some(refused) = self.each(worker, &[op])? else {
            return Ok(false);
        };
        worker.order(&Order::Health);
        match self.answer(worker)? {
            Some(Answer::Health(says)) => {
                let tells = ["restart secretsd", "try again"];
                let tells = |text: &String| tells.iter().any(|words| text.contains(words));
                match says.iter().any(tells) {
                    true => Ok(true),
                    false => Err(format!("{refused}; and status says of that: {says:?}")),
                }
            }
            other => Err(format!("it has no status: {other:?}")),
        }
    }

    /// Whether everything can be read; `loses`: what cannot be is named, and nothing is wrong.
    fn reads_on(&mut self, lines: &Lines, loses: bool) -> Result<(), String> {
        for (group, worlds) in &self.groups {
            let of_group = lines.iter().filter(|(name, _)| group_of(name) == group);
            let (errors, there): (Lines, Lines) = of_group
                .map(|(name, how)| (name.clone(), how.clone()))
                .partition(|(_, how)| how.starts_with("error"));
            let fits = |world: &World| {
                let expected = world.lines();
                let right = there
                    .iter()
                    .all(|(name, how)| expected.get(name) == Some(how));
                right && (there.len() == expected.len() || loses && !errors.is_empty())
            };
            if !errors.is_empty() && !loses || !worlds.iter().any(fits) {
                let may_be: Vec<Lines> = worlds.iter().map(World::lines).collect();
                let found = super::difference(group, &there, &may_be);
                return Err(format!("while it was open, {found}; {errors:?}"));
            }
        }
        Ok(())
    }
}

/// Groups of their own: what is not known of one change leaves the others known.
fn set(group: &str, seed: u64, len: u32) -> Op {
    Op::Set(
        format!("{group}.s0"),
        vec![(String::new(), Bytes { seed, len })],
        None,
    )
}

fn put(group: &str, seed: u64, len: u32) -> Op {
    Op::Commit(vec![(format!("{group}.r0"), Some(Bytes { seed, len }))])
}

/// What is there before, and what is done while the disk fails: each kind of change, and enough to
/// let the journal grow.
#[must_use]
pub fn scenario(target: Target) -> (Vec<Op>, Vec<Op>) {
    let text = |text: &str| text.to_owned();
    let value = |seed| vec![(String::new(), Bytes { seed, len: 99 })];
    let pairs = |seed: u64| vec![(text("k"), seed.to_string())];
    if target != Target::Store {
        let before = vec![
            put("a", 1, 300),
            put("b", 2, 70_000),
            Op::Snapshot,
            put("c", 3, 10),
        ];
        let during = vec![
            put("a", 4, 500),
            Op::Snapshot,
            put("d", 5, 900_000),
            put("e", 6, 900_000),
            Op::Commit(vec![(text("b.r0"), None)]),
            Op::Snapshot,
            put("f", 7, 20),
        ];
        return (before, during);
    }
    let before = vec![
        set("a", 1, 300),
        set("b", 2, 70_000),
        Op::Grant(text("b.w0"), vec![text("b.s0")], None),
        Op::Create(text("c.s0"), value(3), vec![text("c.w0"), text("c.w1")]),
        Op::ConfigCreate(text("d.c0"), pairs(1)),
    ];
    let during = vec![
        Op::Rotate(text("a.s0"), value(4)),
        Op::Revoke(text("b.w0"), vec![text("b.s0")]),
        Op::Create(text("e.s0"), value(5), vec![text("e.w0")]),
        Op::ConfigUpdate(text("d.c0"), pairs(2)),
        Op::SlotAdd(text("second.key")),
        set("f", 6, 900_000),
        set("g", 7, 900_000),
        Op::RotateRoot,
        Op::SlotAdd(text("third.key")),
        Op::Delete(text("c.s0")),
        Op::Rollback(text("a.s0"), 1),
        Op::SlotRemove(1),
        set("h", 8, 20),
    ];
    (before, during)
}
