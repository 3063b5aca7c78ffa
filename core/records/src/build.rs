//! Making records where there are none: all of them straight into a snapshot.

use std::path::Path;
use std::sync::Arc;

use crate::commit::too_large;
use crate::disk::{Disk, Pair};
use crate::error::{BuildError, RecordsError};
use crate::files;
use crate::index::Mark;
use crate::journal::Begin;
use crate::mac::Keys;
use crate::name::NameHash;
use crate::open::Parts;
use crate::records::MAX_RECORD;
use crate::snapshot;
use crate::switch::{Switch, SwitchError};
use crate::table::{Entry, Table};
use crate::tuning::Tuning;

/// The first number of snapshot and journal.
const FIRST: u64 = 1;

pub(crate) fn build<E>(
    folder: &Path,
    keys: Keys,
    records: impl IntoIterator<Item = Result<(NameHash, Vec<u8>), E>>,
    tuning: Tuning,
) -> Result<Arc<Disk>, BuildError<E>> {
    let path = folder.join(files::JOURNAL);
    let exists = path.try_exists();
    if exists.map_err(RecordsError::at("could not read", &path))? {
        return Err(RecordsError::Exists(path).into());
    }
    let path = Switch::snapshot_path(folder, FIRST);
    let mut snapshot = snapshot::Writer::create(&path, &keys, FIRST)?;
    let mut table = Table::default();
    for record in records {
        let (name, record) = record.map_err(BuildError::Source)?;
        if record.len() > MAX_RECORD {
            return Err(too_large("record", record.len(), MAX_RECORD).into());
        }
        // All of them are one transaction, the first.
        let seq = 1;
        let tag = keys.tag(&name, seq, &record);
        let place = snapshot.put(name, seq, tag, &record)?;
        if table.put(name, Entry { seq, tag, place }).is_some() {
            return Err(RecordsError::Duplicate.into());
        }
        table.last_seq = seq;
    }
    let switch = Switch::prepare(folder, FIRST, &tuning)?;
    let count = table.len() as u64;
    let begin = Begin {
        number: FIRST,
        seq: table.last_seq,
        count,
        digest: table.digest(),
    };
    let finished = snapshot.finish(count, begin.seq, &begin.digest)?;
    let journal = switch
        .to(&keys, &begin)
        .map_err(|SwitchError { error, .. }| error)?;
    let mark = Mark {
        seq: begin.seq,
        chain: journal.chain(),
    };
    let pair = Pair {
        number: FIRST,
        snapshot: Arc::new(finished.file),
        journal: journal.file.clone(),
    };
    let disk = Arc::new(Disk::of(Parts {
        folder: folder.to_path_buf(),
        keys,
        tuning,
        table,
        pair,
        journal,
        mark,
        snapshot_seq: begin.seq,
        snapshot_bytes: finished.bytes,
    }));
    if let Err(error) = disk.fresh_index() {
        disk.index_missing(&error.to_string());
    }
    Ok(disk)
}
