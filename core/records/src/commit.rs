//! Writing: one frame for all transactions that wait, synced, then visible, then acknowledged.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use sys::lock::{lock, read, write};

use crate::disk::{Disk, Writer};
use crate::error::RecordsError;
use crate::group::Leader;
use crate::index::Mark;
use crate::journal::{AppendError, Before, ChangeHeader, Kind};
use crate::name::NameHash;
use crate::records::{Change, MAX_RECORD, MAX_TRANSACTION};
use crate::table::Entry;

/// A transaction that can be written: no name twice (the last change of one counts), no more bytes
/// than there may be. Gives its bytes, too.
pub(crate) fn checked(changes: Vec<Change>) -> Result<(Vec<Change>, usize), RecordsError> {
    let mut bytes = 0;
    for change in &changes {
        let Change::Put { record, .. } = change else {
            continue;
        };
        if record.len() > MAX_RECORD {
            return Err(too_large("record", record.len(), MAX_RECORD));
        }
        bytes += record.len();
    }
    if bytes > MAX_TRANSACTION {
        return Err(too_large("transaction", bytes, MAX_TRANSACTION));
    }
    let mut seen = BTreeSet::new();
    let mut kept: Vec<_> = changes
        .into_iter()
        .rev()
        .filter(|change| seen.insert(*change.name()))
        .collect();
    kept.reverse();
    Ok((kept, bytes))
}

pub(crate) fn too_large(what: &'static str, bytes: usize, most: usize) -> RecordsError {
    RecordsError::TooLarge {
        what,
        bytes: bytes as u64,
        most: most as u64,
    }
}

impl Disk {
    pub(crate) fn commit(&self, changes: Vec<Change>) -> Result<u64, RecordsError> {
        let (changes, bytes) = checked(changes)?;
        if changes.is_empty() {
            return Ok(read(&self.table).last_seq);
        }
        self.group
            .commit(changes, bytes, |leader| self.lead(leader))
    }

    fn lead(&self, leader: &mut Leader<'_>) {
        let mut writer = lock(&self.writer);
        // Only now: whoever came while we waited shares our sync.
        let transactions = leader.take();
        let outcome = self.write(&mut writer, &transactions);
        drop(writer);
        leader.done(outcome);
    }

    fn write(
        &self,
        writer: &mut Writer,
        transactions: &[Vec<Change>],
    ) -> Result<u64, RecordsError> {
        if writer.closed {
            return Err(RecordsError::Closed);
        }
        if let Some(stopped) = self.stopped() {
            return Err(stopped);
        }
        let first = read(&self.table).last_seq + 1;
        let mut frame = writer.journal.frame(&self.keys, Kind::Commit, first);
        let mut staged = Staged {
            disk: self,
            done: Vec::new(),
            latest: HashMap::new(),
        };
        for (changes, seq) in transactions.iter().zip(first..) {
            frame.transaction(changes.len() as u32);
            for change in changes {
                let name = *change.name();
                let before = staged.before(&name);
                let (record, put) = match change {
                    Change::Put { record, .. } => {
                        let tag = self.keys.tag(&name, seq, record);
                        (&record[..], Some((record.len() as u32, tag)))
                    }
                    Change::Remove { .. } => (&[][..], None),
                };
                let at = frame.change(&ChangeHeader { name, before, put }, record);
                let place = writer.journal.place(at);
                staged.change(name, put.map(|(_, tag)| Entry { seq, tag, place }));
            }
        }
        let last = first + transactions.len() as u64 - 1;
        let changes = staged.done;
        if let Err(failed) = writer.journal.append(frame) {
            return Err(self.refuse(failed));
        }
        self.show(&changes, last);
        self.count(writer, transactions.len() as u64);
        writer.mark = Mark {
            seq: last,
            chain: writer.journal.chain(),
        };
        if let Some(keeper) = self.keeper() {
            keeper.changed(changes.iter().map(|(name, _)| *name), Some(writer.mark));
        }
        Ok(first)
    }

    /// Makes what is durable visible, all at once.
    fn show(&self, changes: &[(NameHash, Option<Entry>)], last: u64) {
        let mut superseded = 0;
        let mut table = write(&self.table);
        for (name, entry) in changes {
            let before = match entry {
                Some(entry) => table.put(*name, *entry),
                None => table.remove(name),
            };
            superseded += u64::from(before.is_some());
        }
        table.last_seq = last;
        if let Some(touched) = &mut *lock(&self.touched) {
            touched.extend(changes.iter().map(|(name, _)| *name));
        }
        drop(table);
        if superseded > 0 {
            let mut state = lock(&self.state);
            state.health.superseded += superseded;
            state.stale_since.get_or_insert_with(Instant::now);
        }
    }

    fn count(&self, writer: &Writer, commits: u64) {
        let mut state = lock(&self.state);
        state.health.commits += commits;
        state.health.refused = None;
        state.health.syncs += 1;
        state.health.journal_bytes = writer.journal.bytes();
        if self.is_due(&state) {
            self.bell.notify_all();
        }
    }

    /// Says that nothing comes behind this, if the journal's end is known.
    pub(crate) fn write_close(&self, writer: &mut Writer) {
        if self.stopped().is_none()
            && let Err(error) = self.write_bare(writer, Kind::Close)
        {
            log::warn!("the journal is not closed: {error}");
        }
    }

    /// Writes a frame without transactions.
    pub(crate) fn write_bare(&self, writer: &mut Writer, kind: Kind) -> Result<(), RecordsError> {
        let last = read(&self.table).last_seq;
        let frame = writer.journal.frame(&self.keys, kind, last);
        let appended = writer.journal.append(frame);
        appended.map_err(|failed| self.refuse(failed))
    }

    /// Nothing was written, or nothing will be until the records are opened again.
    fn refuse(&self, failed: AppendError) -> RecordsError {
        if failed.unknown {
            self.stop(&failed.error);
        } else {
            lock(&self.state).health.refused = Some(match &failed.error {
                full @ RecordsError::Full { .. } => full.to_string(),
                other => format!("{other}; nothing was written: check the disk and try again"),
            });
        }
        failed.error
    }
}

/// The changes of a frame in the making, and what each finds in its place.
struct Staged<'a> {
    disk: &'a Disk,
    done: Vec<(NameHash, Option<Entry>)>,
    latest: HashMap<NameHash, Option<Entry>>,
}

impl Staged<'_> {
    fn before(&self, name: &NameHash) -> Before {
        let entry = match self.latest.get(name) {
            Some(staged) => *staged,
            None => read(&self.disk.table).get(name),
        };
        entry.map(|entry| (entry.seq, entry.tag))
    }

    fn change(&mut self, name: NameHash, entry: Option<Entry>) {
        self.latest.insert(name, entry);
        self.done.push((name, entry));
    }
}
