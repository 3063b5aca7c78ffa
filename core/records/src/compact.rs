//! Folding the journal into a snapshot, while reads and writes go on.
//!
//! Records are copied one by one as they are when their turn comes; what changes meanwhile is copied
//! again, round after round, and only for the last few are writers held. Then all files are fresh:
//! snapshot, journal and index, and what was removed or overwritten is in none of them.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sys::lock::{lock, read, write};

use crate::disk::{Disk, Pair};
use crate::error::RecordsError;
use crate::files;
use crate::index::{Answer, Index, Keeper, Mark, OpenIndexError, SledIndex};
use crate::journal::Begin;
use crate::name::NameHash;
use crate::snapshot;
use crate::switch::{Switch, SwitchError};
use crate::table::{Entry, Place};

/// Rounds without holding writers, at most: they may write faster than we copy.
const ROUNDS: usize = 8;
/// So few names are left to the last round.
const FEW: usize = 64;
/// So many records are looked at or moved at a time.
const CHUNK: usize = 256;

impl Disk {
    /// Begins fresh files, unless they are that already.
    pub(crate) fn snapshot(self: &Arc<Self>) -> Result<(), RecordsError> {
        let _one = lock(&self.compacting);
        if self.closing.load(Ordering::Acquire) {
            return Err(RecordsError::Closed);
        }
        if let Some(stopped) = self.stopped() {
            return Err(stopped);
        }
        let last = read(&self.table).last_seq;
        let index = {
            let state = lock(&self.state);
            let health = &state.health;
            let fresh = health.snapshot_seq == last && health.superseded == 0;
            let lacks_index = self.lacks_index(&state);
            if fresh && !lacks_index && !self.is_long(health) {
                return Ok(());
            }
            health.superseded > 0 || lacks_index
        };
        let began = Instant::now();
        let mut done = self.compact();
        *lock(&self.touched) = None;
        if done.is_ok() && index {
            done = self.fresh_index();
        }
        let mut state = lock(&self.state);
        state.tried = Some((Instant::now(), began.elapsed(), done.is_err()));
        state.health.snapshot = match &done {
            Ok(()) | Err(RecordsError::Closed) => None,
            Err(error) => Some(error.to_string()),
        };
        done
    }

    fn compact(&self) -> Result<(), RecordsError> {
        let number = read(&self.files).current.number + 1;
        *lock(&self.touched) = Some(BTreeSet::new());
        let path = Switch::snapshot_path(&self.folder, number);
        let mut copy = Copy {
            disk: self,
            snapshot: snapshot::Writer::create(&path, &self.keys, number)?,
            moved: Vec::new(),
            again: 0,
        };
        copy.all()?;
        for _ in 0..ROUNDS {
            let touched = self.take_touched();
            let few = touched.len() <= FEW;
            copy.again(touched)?;
            if few {
                break;
            }
        }
        let switch = Switch::prepare(&self.folder, number, &self.tuning)?;
        copy.snapshot.sync()?;
        let moved = self.switch(copy, switch, number)?;
        for chunk in moved.chunks(CHUNK) {
            let mut table = write(&self.table);
            for (name, seq, place) in chunk {
                table.moved(name, *seq, *place);
            }
        }
        let old = write(&self.files).old.take();
        if let Some(old) = old {
            files::discard(&self.folder.join(files::snapshot_name(old.number)));
        }
        Ok(())
    }

    fn take_touched(&self) -> BTreeSet<NameHash> {
        lock(&self.touched)
            .as_mut()
            .map(mem::take)
            .unwrap_or_default()
    }

    /// Holds writers, copies the last few records, and switches. Gives where records lie now.
    fn switch(
        &self,
        mut copy: Copy<'_>,
        switch: Switch,
        number: u64,
    ) -> Result<Vec<(NameHash, u64, Place)>, RecordsError> {
        let mut writer = lock(&self.writer);
        if writer.closed {
            return Err(RecordsError::Closed);
        }
        if let Some(stopped) = self.stopped() {
            return Err(stopped);
        }
        copy.again(self.take_touched())?;
        let begin = {
            let table = read(&self.table);
            let count = table.len() as u64;
            Begin {
                number,
                seq: table.last_seq,
                count,
                digest: table.digest(),
            }
        };
        let Copy {
            snapshot,
            moved,
            again,
            ..
        } = copy;
        let finished = snapshot.finish(begin.count, begin.seq, &begin.digest)?;
        let journal = switch
            .to(&self.keys, &begin)
            .map_err(|SwitchError { error, unknown }| {
                if unknown {
                    self.stop(&error);
                }
                error
            })?;
        let pair = Pair {
            number,
            snapshot: Arc::new(finished.file),
            journal: journal.file.clone(),
        };
        let mut files = write(&self.files);
        files.old = Some(mem::replace(&mut files.current, pair));
        drop(files);
        writer.mark = Mark {
            seq: begin.seq,
            chain: journal.chain(),
        };
        writer.journal = journal;
        let mut state = lock(&self.state);
        state.health.journal_bytes = writer.journal.bytes();
        state.health.snapshot_seq = begin.seq;
        state.health.snapshot_bytes = finished.bytes;
        // What was copied twice is in the new snapshot twice.
        state.health.superseded = again;
        state.stale_since = (again > 0).then(Instant::now);
        Ok(moved)
    }

    /// Begins an index anew, in a folder of its own; the one before goes.
    pub(crate) fn fresh_index(self: &Arc<Self>) -> Result<(), RecordsError> {
        let number = files::Listing::of(&self.folder)?.next_index();
        let path = self.folder.join(files::index_name(number));
        let index = SledIndex::open(&path).map_err(|error| {
            files::discard(&path);
            let (OpenIndexError::Damaged(what) | OpenIndexError::Unavailable(what)) = error;
            RecordsError::at("could not make", &path)(std::io::Error::other(what))
        })?;
        {
            let mut state = lock(&self.state);
            state.index_failed = false;
            state.health.index = None;
        }
        if let Err(error) = self.fill(Arc::new(index)) {
            self.index_missing(&error.to_string());
            files::discard(&path);
            return Err(error);
        }
        for other in files::Listing::of(&self.folder)?.indexes {
            if other != number {
                files::discard(&self.folder.join(files::index_name(other)));
            }
        }
        Ok(())
    }

    /// Has an empty index take every record.
    fn fill(self: &Arc<Self>, index: Arc<dyn Index>) -> Result<(), RecordsError> {
        // Held, so that no change goes to the old index alone, and no mark comes before its records.
        let writer = lock(&self.writer);
        let names: Vec<_> = read(&self.table).iter().map(|(name, _)| *name).collect();
        let keeper = Keeper::start(index, &self.keys, 0, self.clone()).map_err(
            RecordsError::at("could not start a thread for", &self.folder),
        )?;
        keeper.changed(names, Some(writer.mark));
        let old = write(&self.keeper).replace(keeper);
        drop(writer);
        if let Some(old) = old {
            old.discard();
        }
        Ok(())
    }
}

/// Records on their way into a snapshot.
struct Copy<'a> {
    disk: &'a Disk,
    snapshot: snapshot::Writer,
    moved: Vec<(NameHash, u64, Place)>,
    /// How many were copied or removed after they had been copied.
    again: u64,
}

impl Copy<'_> {
    fn all(&mut self) -> Result<(), RecordsError> {
        let mut last = None;
        loop {
            if self.disk.closing.load(Ordering::Acquire) {
                return Err(RecordsError::Closed);
            }
            let names = read(&self.disk.table).names_after(last, CHUNK);
            let Some(end) = names.last() else {
                return Ok(());
            };
            last = Some(*end);
            for name in &names {
                self.one(name)?;
            }
        }
    }

    fn again(&mut self, names: BTreeSet<NameHash>) -> Result<(), RecordsError> {
        self.again += names.len() as u64;
        for name in &names {
            if !self.one(name)? {
                self.snapshot.remove(name)?;
            }
        }
        Ok(())
    }

    /// Copies a record as it is now; `false`: there is none any more.
    fn one(&mut self, name: &NameHash) -> Result<bool, RecordsError> {
        loop {
            let Some(entry) = read(&self.disk.table).get(name) else {
                return Ok(false);
            };
            match self
                .disk
                .read_place(name, &entry)
                .or_else(|error| self.served(name, &entry, error))
            {
                Ok(record) => {
                    let place = self.snapshot.put(*name, entry.seq, entry.tag, &record)?;
                    self.moved.push((*name, entry.seq, place));
                    return Ok(true);
                }
                Err(_) if read(&self.disk.table).get(name) != Some(entry) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What snapshot and journal have lost since they were opened, the index may have.
    fn served(
        &self,
        name: &NameHash,
        entry: &Entry,
        error: RecordsError,
    ) -> Result<Vec<u8>, RecordsError> {
        match self.disk.keeper().map(|keeper| keeper.get(name, entry.seq)) {
            Some(Answer::Has((seq, record))) if self.disk.is(name, entry, seq, &record) => {
                Ok(record)
            }
            _ => Err(error),
        }
    }
}
