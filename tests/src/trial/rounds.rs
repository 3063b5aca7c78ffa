//! Rounds: the store is opened, compared in full, changed by several writers at once, and cut.

use super::worker::Worker;
use super::{ADMIN, Answer, Op, Order, Target, Trial};
use crate::powercut::Cut;
use crate::soak::Random;

/// How a round ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The power goes, after so many changes of the disk, and leaves that.
    Cut(u64, Cut),
    /// The worker is killed, after so many changes of the disk; the kernel has what it wrote.
    Kill(u64),
    /// The store is closed after so many of its own changes; then the power goes, and leaves that.
    Close(u64, Cut),
}

/// What every writer but the last one writes.
const WRITERS: [&str; 3] = ["a", "b", "c"];
/// What the last one writes, beside the keys: so much that the store makes a snapshot by itself.
const BIG: &str = "big";

/// A round of more changes of the disk than these has large ones among them.
pub const FLOOD: u64 = 2000;

impl Trial {
    /// One round; everything in it comes from its seed, but what the kernel and threads decide.
    ///
    /// # Errors
    /// A promise was broken; which.
    pub fn round(&mut self, seed: u64, ending: Ending) -> Result<(), String> {
        let mut random = Random::of(seed);
        let mut worker = Worker::start();
        let (changes, floods) = match ending {
            Ending::Cut(after, _) | Ending::Kill(after) => {
                let last_counts = random.percent(50);
                let tell = worker.hears_of_cut();
                self.disk.cut_after(after, last_counts, tell);
                (u64::MAX, after >= FLOOD)
            }
            Ending::Close(changes, _) => (changes, false),
        };
        let played = self.play(&mut worker, &mut random, changes, floods);
        self.disk.cut_now();
        let heard = self.kill(worker);
        match ending {
            Ending::Cut(_, cut) | Ending::Close(_, cut) => {
                self.tally.one(&format!("cuts that leave {cut:?}"));
                self.disk.power_back(cut, &mut random);
            }
            Ending::Kill(_) => {
                self.tally.one("kills");
                self.disk.go_on();
                // The kernel has written it back meanwhile, or not yet.
                if random.percent(50) {
                    self.disk.sync_all();
                }
            }
        }
        if floods && self.has_later_snapshot() {
            self.tally.one("a snapshot that the store made by itself");
        }
        played.and(heard)
    }

    /// Opens and compares, and nothing else.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn check(&mut self) -> Result<(), String> {
        self.round(0, Ending::Close(0, Cut::Everything))
    }

    /// Until so many changes are done and the store is closed, or the power goes.
    fn play(
        &mut self,
        worker: &mut Worker,
        random: &mut Random,
        changes: u64,
        floods: bool,
    ) -> Result<(), String> {
        if !self.open(worker)? {
            return Ok(());
        }
        self.change(worker, random, changes, floods)?;
        if self.disk.is_off() {
            return Ok(());
        }
        worker.order(&Order::Close);
        match self.answer(worker)? {
            Some(Answer::Closed) => {
                self.tally.one("closed cleanly");
                Ok(())
            }
            other => Err(format!("it does not close: {other:?}")),
        }
    }

    /// Several writers at once, each with one change under way.
    fn change(
        &mut self,
        worker: &mut Worker,
        random: &mut Random,
        changes: u64,
        floods: bool,
    ) -> Result<(), String> {
        let mut left = changes;
        loop {
            for lane in 0..=WRITERS.len() as u32 {
                let busy = self.under_way.contains_key(&lane);
                if left > 0 && !busy && !self.disk.is_off() {
                    left -= 1;
                    let op = self.throw(lane, floods, random);
                    self.begin_change(worker, lane, op);
                }
            }
            if self.under_way.is_empty() {
                return Ok(());
            }
            match self.answer(worker)? {
                None => return Ok(()),
                Some(Answer::Failed(..)) if self.disk.is_off() => return Ok(()),
                Some(Answer::Failed(lane, why)) => {
                    let op = self.under_way.get(&lane);
                    return Err(format!("{op:?} failed on a good disk: {why}"));
                }
                Some(answer) => self.hear(answer)?,
            }
        }
    }

    fn throw(&mut self, lane: u32, floods: bool, random: &mut Random) -> Op {
        self.fresh += 1;
        let group = WRITERS.get(lane as usize).copied().unwrap_or(ADMIN);
        let fresh = self.fresh;
        let target = self.target;
        let world = &self.worlds(group)[0];
        match (target, group) {
            (Target::Store, ADMIN) if floods && random.percent(97) => Op::large(BIG, random),
            (Target::Store, ADMIN) => Op::throw_admin(world, fresh, random),
            (Target::Store, _) => Op::throw(group, world, random),
            (_, ADMIN) => Op::Snapshot,
            _ => Op::throw_records(group, random),
        }
    }

    fn has_later_snapshot(&self) -> bool {
        self.disk.holds(|name| {
            let number = name.strip_prefix("snapshot-");
            number.is_some_and(|number| number > "00000001")
        })
    }
}
