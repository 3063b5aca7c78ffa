//! Power cuts at one change of the disk after another.

use super::worker::Worker;
use super::{Answer, Op, Start, Trial};
use crate::powercut::Cut;
use crate::soak::Random;

impl Trial {
    /// Opens the store as it was at a start, and does changes until the power goes, after so many
    /// changes of the disk. `false`: it has not gone before all was done.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn cut_at(
        &mut self,
        start: &Start,
        ops: &[Op],
        after: u64,
        cut: Cut,
        random: &mut Random,
    ) -> Result<bool, String> {
        self.disk.load(&start.image);
        self.groups.clone_from(&start.groups);
        let mut worker = Worker::start();
        let tell = worker.hears_of_cut();
        self.disk.cut_after(after, random.percent(50), tell);
        let played = self.until_cut(&mut worker, ops);
        let went = self.disk.is_off();
        self.disk.cut_now();
        self.kill(worker).and(played)?;
        self.disk.power_back(cut, random);
        self.reopen()
            .map_err(|why| format!("after {after} changes and {cut:?}: {why}"))?;
        Ok(went)
    }

    fn until_cut(&mut self, worker: &mut Worker, ops: &[Op]) -> Result<(), String> {
        if !self.open(worker)? {
            return Ok(());
        }
        for op in ops {
            self.begin_change(worker, 0, op.clone());
            match self.answer(worker)? {
                None => return Ok(()),
                Some(Answer::Failed(..)) if self.disk.is_off() => return Ok(()),
                Some(Answer::Failed(_, why)) => return Err(format!("{op:?} failed: {why}")),
                Some(answer) => self.hear(answer)?,
            }
        }
        Ok(())
    }

    /// Kills whoever does a change, right after its nth rename in a folder, which is not synced.
    ///
    /// # Errors
    /// There was none.
    pub fn kill_at_rename(&mut self, op: Op, folder: &str, nth: usize) -> Result<Start, String> {
        let mut worker = Worker::start();
        let (folder, mut before) = (folder.to_owned(), 1..nth);
        let moment = move |call: &str, path: &str| {
            call == "rename" && path == folder && before.next().is_none()
        };
        let tell = worker.hears_of_cut();
        self.disk.cut_at(moment, true, tell);
        self.until_cut(&mut worker, &[op])?;
        let there = self.disk.is_off();
        self.kill(worker)?;
        self.disk.go_on();
        match there {
            true => Ok(self.now()),
            false => Err("there was no such rename".into()),
        }
    }
}
