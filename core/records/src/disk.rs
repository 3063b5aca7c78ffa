//! Records in a folder: what all of its operations share, and reading.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::{Duration, Instant};

use sys::lock::{lock, read, write};

use crate::error::RecordsError;
use crate::files;
use crate::group::Group;
use crate::health::Health;
use crate::index::{Answer, Keeper, Mark, Source};
use crate::journal::{self, Journal};
use crate::mac::{Keys, same};
use crate::name::NameHash;
use crate::snapshot;
use crate::table::{Entry, Place, Table};
use crate::tuning::Tuning;

/// Locks, from the outside in: `compacting`, `writer`, `table`, `touched`, `files`, `state`,
/// `keeper`. `writer` is held over a sync; readers never take it.
pub(crate) struct Disk {
    pub(crate) folder: PathBuf,
    pub(crate) keys: Keys,
    pub(crate) tuning: Tuning,
    pub(crate) table: RwLock<Table>,
    pub(crate) files: RwLock<Files>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) group: Group,
    pub(crate) keeper: RwLock<Option<Arc<Keeper>>>,
    /// Names that were changed since a snapshot began to copy; `None`: there is none under way.
    pub(crate) touched: Mutex<Option<BTreeSet<NameHash>>>,
    pub(crate) compacting: Mutex<()>,
    pub(crate) state: Mutex<State>,
    /// Wakes the housekeeper; belongs to `state`.
    pub(crate) bell: Condvar,
    /// Work in the background leaves off.
    pub(crate) closing: AtomicBool,
    pub(crate) closed: AtomicBool,
}

/// The journal's end.
pub(crate) struct Writer {
    pub(crate) journal: Journal,
    /// The last transaction, and the MAC of the frame that ended with it.
    pub(crate) mark: Mark,
    pub(crate) closed: bool,
}

/// What `status` shows, and when the housekeeper has something to do.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) health: Health,
    pub(crate) index_failed: bool,
    /// When the first of the superseded records became that.
    pub(crate) stale_since: Option<Instant>,
    /// When the last snapshot was tried, how long it took, and whether it failed.
    pub(crate) tried: Option<(Instant, Duration, bool)>,
}

/// The files that places lead to.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) current: Pair,
    /// Those before, until no place leads to them.
    pub(crate) old: Option<Pair>,
}

/// A snapshot, and the journal that goes on from it.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) number: u64,
    pub(crate) snapshot: Arc<File>,
    pub(crate) journal: Arc<File>,
}

impl Files {
    fn of(&self, place: Place) -> Option<Arc<File>> {
        let pair = [Some(&self.current), self.old.as_ref()]
            .into_iter()
            .flatten()
            .find(|pair| place.is_of(pair.number))?;
        Some(
            if place.is_snapshot() {
                &pair.snapshot
            } else {
                &pair.journal
            }
            .clone(),
        )
    }
}

impl Disk {
    pub(crate) fn get(&self, name: &NameHash) -> Result<Option<Vec<u8>>, RecordsError> {
        loop {
            if self.closed.load(Ordering::Acquire) {
                return Err(RecordsError::Closed);
            }
            let Some(entry) = read(&self.table).get(name) else {
                return Ok(None);
            };
            let mut lacks = false;
            if let Some(keeper) = self.keeper() {
                match keeper.get(name, entry.seq) {
                    Answer::Has((seq, record)) if self.is(name, &entry, seq, &record) => {
                        return Ok(Some(record));
                    }
                    Answer::Has(_) | Answer::Lacks => lacks = true,
                    Answer::NotYet => {}
                }
            }
            let record = self.read_place(name, &entry);
            // It may be that we compared with what has changed meanwhile.
            if read(&self.table).get(name) == Some(entry) {
                if lacks && record.is_ok() {
                    self.heal(*name);
                }
                return record.map(Some);
            }
            if let Ok(record) = record {
                return Ok(Some(record));
            }
        }
    }

    pub(crate) fn keeper(&self) -> Option<Arc<Keeper>> {
        read(&self.keeper).clone()
    }

    pub(crate) fn is(&self, name: &NameHash, entry: &Entry, seq: u64, record: &[u8]) -> bool {
        seq == entry.seq && same(&self.keys.tag(name, seq, record), &entry.tag)
    }

    /// Reads a record from snapshot or journal.
    pub(crate) fn read_place(
        &self,
        name: &NameHash,
        entry: &Entry,
    ) -> Result<Vec<u8>, RecordsError> {
        let files = read(&self.files).clone();
        read_place(&self.folder, &self.keys, &files, name, entry)
    }

    /// Has the index take a record that it lacks.
    fn heal(&self, name: NameHash) {
        let mut state = lock(&self.state);
        state.health.healed += 1;
        if state.health.healed == 1 {
            log::warn!("the index lacks a record that was written; it is taken from elsewhere");
        }
        drop(state);
        if let Some(keeper) = self.keeper() {
            keeper.changed([name], None);
        }
    }

    /// Stops writes until the records are opened again.
    pub(crate) fn stop(&self, why: &RecordsError) {
        log::error!("no writes any more: {why}");
        lock(&self.state)
            .health
            .stopped
            .get_or_insert_with(|| why.to_string());
    }

    pub(crate) fn stopped(&self) -> Option<RecordsError> {
        lock(&self.state)
            .health
            .stopped
            .clone()
            .map(RecordsError::Stopped)
    }

    pub(crate) fn health(&self) -> Health {
        let (records, last_seq) = {
            let table = read(&self.table);
            (table.len() as u64, table.last_seq)
        };
        let index_behind = self.keeper().map_or(0, |keeper| keeper.behind());
        Health {
            records,
            last_seq,
            index_behind,
            ..lock(&self.state).health.clone()
        }
    }

    /// The index is of no use; the housekeeper begins another.
    pub(crate) fn index_missing(&self, why: &str) {
        let warning = format!(
            "the index failed, and snapshot and journal serve until it is made anew: {why}"
        );
        log::warn!("{warning}");
        let mut state = lock(&self.state);
        state.health.index = Some(warning);
        state.index_failed = true;
    }

    /// Has the housekeeper end.
    pub(crate) fn begin_closing(&self) {
        // Under the lock, so that whoever looked before does not miss the bell.
        let _state = lock(&self.state);
        self.closing.store(true, Ordering::Release);
        self.bell.notify_all();
    }

    /// Ends everything: the journal's last frame says that nothing comes behind it.
    pub(crate) fn close(&self) {
        let mut writer = lock(&self.writer);
        if !writer.closed {
            writer.closed = true;
            self.write_close(&mut writer);
        }
        drop(writer);
        self.closed.store(true, Ordering::Release);
        let keeper = write(&self.keeper).take();
        if let Some(keeper) = keeper {
            keeper.close(self.tuning.index_grace);
        }
    }
}

/// Reads a record from one of these files, and checks that it is the one that was written.
pub(crate) fn read_place(
    folder: &Path,
    keys: &Keys,
    files: &Files,
    name: &NameHash,
    entry: &Entry,
) -> Result<Vec<u8>, RecordsError> {
    let place = entry.place;
    let path = folder.join(if place.is_snapshot() {
        files::snapshot_name(files.current.number)
    } else {
        files::JOURNAL.to_owned()
    });
    let file = files
        .of(place)
        .ok_or_else(|| RecordsError::damaged(&path, "it is not the one in use"))?;
    let record = if place.is_snapshot() {
        snapshot::read_put(&file, place.offset(), name)
    } else {
        journal::read_put(&file, place.offset(), name)
    };
    match record {
        Ok(record) if same(&keys.tag(name, entry.seq, &record), &entry.tag) => Ok(record),
        Ok(_) => Err(RecordsError::damaged(
            &path,
            format!("the record {name:?} has changed"),
        )),
        Err(error) => Err(RecordsError::at("could not read", &path)(error)),
    }
}

impl Source for Disk {
    fn current(&self, name: &NameHash) -> Result<Option<(u64, Vec<u8>)>, String> {
        loop {
            let Some(entry) = read(&self.table).get(name) else {
                return Ok(None);
            };
            match self.read_place(name, &entry) {
                Ok(record) => return Ok(Some((entry.seq, record))),
                Err(_) if read(&self.table).get(name) != Some(entry) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn index_failed(&self, why: &str) {
        self.index_missing(why);
        self.bell.notify_all();
    }
}
