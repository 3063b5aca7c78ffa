//! Journal and snapshot: verified together, or refused by name. The index has no say in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use crate::error::RecordsError;
use crate::files::{self, JOURNAL};
use crate::journal::{self, Scan};
use crate::mac::{Keys, same};
use crate::snapshot;
use crate::table::{Entry, Table};

/// A journal and its snapshot, verified.
pub(crate) struct Verified {
    pub(crate) journal: File,
    /// Why the journal can only be read.
    pub(crate) read_only: Option<io::Error>,
    pub(crate) scan: Scan,
    pub(crate) snapshot: File,
    pub(crate) snapshot_bytes: u64,
    /// All records as the journal leaves them.
    pub(crate) table: Table,
    /// How many records the journal has overwritten or removed.
    pub(crate) superseded: u64,
}

/// A snapshot that is not what the journal says, and the journal.
pub(crate) struct BadSnapshot {
    pub(crate) why: RecordsError,
    pub(crate) journal: File,
    pub(crate) scan: Scan,
}

/// Verifies journal and snapshot; the inner error says that the snapshot alone is bad.
pub(crate) fn verify(
    folder: &Path,
    keys: &Keys,
) -> Result<Result<Verified, BadSnapshot>, RecordsError> {
    let path = folder.join(JOURNAL);
    let (journal, read_only) = open_journal(&path)?;
    let scan = journal::scan(&journal, &path, keys)?;
    let path = folder.join(files::snapshot_name(scan.begin.number));
    let read = || {
        let file = File::open(&path).map_err(RecordsError::at("could not read", &path))?;
        let (table, bytes) = snapshot::read(&file, &path, keys, scan.begin.number)?;
        let same = table.len() as u64 == scan.begin.count
            && table.last_seq == scan.begin.seq
            && same(&table.digest(), &scan.begin.digest);
        if !same {
            let what = "it is not the snapshot that the journal goes on from";
            return Err(RecordsError::damaged(&path, what));
        }
        Ok((file, table, bytes))
    };
    let (snapshot, mut table, snapshot_bytes) = match read() {
        Ok(read) => read,
        Err(why) => return Ok(Err(BadSnapshot { why, journal, scan })),
    };
    let mut superseded = 0;
    for found in &scan.changes {
        let before = match found.put {
            Some((tag, place)) => table.put(
                found.name,
                Entry {
                    seq: found.seq,
                    tag,
                    place,
                },
            ),
            None => table.remove(&found.name),
        };
        superseded += u64::from(before.is_some());
        if before.map(|entry| (entry.seq, entry.tag)) != found.before {
            let path = folder.join(JOURNAL);
            return Err(RecordsError::damaged(
                &path,
                "it does not go on from its snapshot",
            ));
        }
    }
    table.last_seq = scan.last_seq;
    Ok(Ok(Verified {
        journal,
        read_only,
        scan,
        snapshot,
        snapshot_bytes,
        table,
        superseded,
    }))
}

fn open_journal(path: &Path) -> Result<(File, Option<io::Error>), RecordsError> {
    let (file, read_only) = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => (file, None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(RecordsError::damaged(path, "it is missing"));
        }
        Err(error) => {
            let file = File::open(path).map_err(RecordsError::at("could not read", path))?;
            (file, Some(error))
        }
    };
    // After a sync that failed, the page cache holds what the disk may not: it is read anew.
    fadvise(&file, 0, None, Advice::DontNeed)
        .map_err(|error| RecordsError::at("could not read", path)(error.into()))?;
    Ok((file, read_only))
}
