//! When the snapshot is damaged and the journal is not: what the journal has not touched must be in
//! the index, and its digest must be the one in the journal's first frame. Then a new snapshot is
//! written. All of it is tried on a copy of the index, because sled zeroes what it holds for torn.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::RecordsError;
use crate::files::{self, JOURNAL, Listing, TRIAL};
use crate::index::{Index, SledIndex};
use crate::journal::{self, Before, Begin, Found};
use crate::mac::{Keys, Tag, same};
use crate::name::NameHash;
use crate::open::mark_of;
use crate::snapshot;
use crate::switch::{Switch, SwitchError};
use crate::table::digest;
use crate::tuning::Tuning;
use crate::verify::BadSnapshot;

/// Writes a new snapshot and begins a new journal; or gives what is wrong with the old snapshot, and
/// has changed nothing.
pub(crate) fn rewrite(
    folder: &Path,
    keys: &Keys,
    tuning: &Tuning,
    bad: &BadSnapshot,
) -> Result<(), RecordsError> {
    log::warn!("{}", bad.why);
    let hopeless = |why: String| match &bad.why {
        RecordsError::Damaged { path, what } => {
            RecordsError::damaged(path, format!("{what}; and the index does not help: {why}"))
        }
        other => RecordsError::damaged(
            folder,
            format!("{other}; and the index does not help: {why}"),
        ),
    };
    let trial = Trial::of(folder).map_err(hopeless)?;
    let index = SledIndex::open(&trial.0).map_err(|error| hopeless(format!("{error:?}")))?;
    let mark = mark_of(&index, keys).map_err(hopeless)?;
    bad.scan.check(&mark, &folder.join(JOURNAL))?;
    let journal = Journal::of(&bad.scan.changes);
    let untouched =
        untouched(&index, keys, &journal).map_err(|error| hopeless(error.to_string()))?;
    let begin = &bad.scan.begin;
    let at_begin = at_begin(&untouched, &journal);
    let found = digest(at_begin.iter().map(|(name, (seq, tag))| (name, *seq, tag)));
    if at_begin.len() as u64 != begin.count || !same(&found, &begin.digest) {
        return Err(hopeless("it lacks records, too".into()));
    }
    write(folder, keys, tuning, bad, &index, &untouched, &journal)
}

/// The names that the journal touches: what it found there first, and what it left.
struct Journal<'a>(BTreeMap<NameHash, (Before, &'a Found)>);

impl<'a> Journal<'a> {
    fn of(changes: &'a [Found]) -> Self {
        let mut touched = BTreeMap::<_, (Before, &Found)>::new();
        for found in changes {
            touched
                .entry(found.name)
                .and_modify(|(_, last)| *last = found)
                .or_insert((found.before, found));
        }
        Self(touched)
    }
}

/// What the index has under names that the journal has not touched.
fn untouched(
    index: &dyn Index,
    keys: &Keys,
    journal: &Journal<'_>,
) -> Result<BTreeMap<NameHash, (u64, Tag)>, crate::index::IndexError> {
    let mut untouched = BTreeMap::new();
    index.each(&mut |name, seq, record| {
        if !journal.0.contains_key(&name) {
            untouched.insert(name, (seq, keys.tag(&name, seq, record)));
        }
    })?;
    Ok(untouched)
}

/// All records as the snapshot had them.
fn at_begin(
    untouched: &BTreeMap<NameHash, (u64, Tag)>,
    journal: &Journal<'_>,
) -> BTreeMap<NameHash, (u64, Tag)> {
    let mut all = untouched.clone();
    all.extend(
        journal
            .0
            .iter()
            .filter_map(|(name, (before, _))| Some((*name, (*before)?))),
    );
    all
}

fn write(
    folder: &Path,
    keys: &Keys,
    tuning: &Tuning,
    bad: &BadSnapshot,
    index: &dyn Index,
    untouched: &BTreeMap<NameHash, (u64, Tag)>,
    journal: &Journal<'_>,
) -> Result<(), RecordsError> {
    let number = bad.scan.begin.number + 1;
    let path = Switch::snapshot_path(folder, number);
    let mut snapshot = snapshot::Writer::create(&path, keys, number)?;
    let mut all = untouched.clone();
    for (name, (seq, tag)) in untouched {
        match index.get(name) {
            Ok(Some((found, record))) if same(&keys.tag(name, found, &record), tag) => {
                snapshot.put(*name, *seq, *tag, &record)?;
            }
            _ => return Err(bad.why.clone()),
        }
    }
    let failed = |error| RecordsError::at("could not read", &folder.join(JOURNAL))(error);
    for (name, (_, last)) in &journal.0 {
        let Some((tag, place)) = last.put else {
            continue;
        };
        let record = journal::read_put(&bad.journal, place.offset(), name).map_err(failed)?;
        snapshot.put(*name, last.seq, tag, &record)?;
        all.insert(*name, (last.seq, tag));
    }
    let begin = Begin {
        number,
        seq: bad.scan.last_seq,
        count: all.len() as u64,
        digest: digest(all.iter().map(|(name, (seq, tag))| (name, *seq, tag))),
    };
    let switch = Switch::prepare(folder, number, tuning)?;
    snapshot.finish(begin.count, begin.seq, &begin.digest)?;
    let switched = switch.to(keys, &begin);
    switched
        .map(drop)
        .map_err(|SwitchError { error, .. }| error)
}

/// A copy of the newest index; taken away again when dropped.
struct Trial(PathBuf);

impl Trial {
    fn of(folder: &Path) -> Result<Self, String> {
        let listing = Listing::of(folder).map_err(|error| error.to_string())?;
        let newest = listing.indexes.first().ok_or("there is none")?;
        let trial = Self(folder.join(TRIAL));
        files::remove(&trial.0)
            .and_then(|()| copy(&folder.join(files::index_name(*newest)), &trial.0))
            .map_err(|error| format!("it cannot be copied: {error}"))?;
        Ok(trial)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        files::discard(&self.0);
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    files::make_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            io::copy(&mut File::open(entry.path())?, &mut files::create(&to)?)?;
        }
    }
    Ok(())
}
