//! Opening: journal and snapshot are verified first, and only then is sled looked at.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use sys::lock::lock;

use crate::disk::{Disk, Files, Pair, State, Writer};
use crate::error::RecordsError;
use crate::files::{self, JOURNAL, Listing};
use crate::health::Health;
use crate::index::{Index, Keeper, Mark, OpenIndexError, SledIndex};
use crate::journal::{Journal, Kind, Scan};
use crate::mac::Keys;
use crate::name::NameHash;
use crate::opened::{IndexFound, Opened};
use crate::recover;
use crate::table::Table;
use crate::tuning::Tuning;
use crate::verify::{Verified, verify};

/// What records in a folder consist of.
pub(crate) struct Parts {
    pub(crate) folder: PathBuf,
    pub(crate) keys: Keys,
    pub(crate) tuning: Tuning,
    pub(crate) table: Table,
    pub(crate) pair: Pair,
    pub(crate) journal: Journal,
    pub(crate) mark: Mark,
    pub(crate) snapshot_seq: u64,
    pub(crate) snapshot_bytes: u64,
}

impl Disk {
    /// Records without an index yet.
    pub(crate) fn of(parts: Parts) -> Self {
        let health = Health {
            snapshot_seq: parts.snapshot_seq,
            snapshot_bytes: parts.snapshot_bytes,
            journal_bytes: parts.journal.bytes(),
            ..Health::default()
        };
        Self {
            folder: parts.folder,
            keys: parts.keys,
            tuning: parts.tuning,
            table: parts.table.into(),
            files: Files {
                current: parts.pair,
                old: None,
            }
            .into(),
            writer: Writer {
                journal: parts.journal,
                mark: parts.mark,
                closed: false,
            }
            .into(),
            group: Default::default(),
            keeper: None.into(),
            touched: None.into(),
            compacting: ().into(),
            state: State {
                health,
                ..State::default()
            }
            .into(),
            bell: Default::default(),
            closing: false.into(),
            closed: false.into(),
        }
    }
}

pub(crate) fn open(
    folder: &Path,
    keys: Keys,
    tuning: Tuning,
) -> Result<(Arc<Disk>, Opened), RecordsError> {
    let mut snapshot_rewritten = false;
    let verified = match verify(folder, &keys)? {
        Ok(verified) => verified,
        Err(bad) => {
            recover::rewrite(folder, &keys, &tuning, &bad)?;
            snapshot_rewritten = true;
            verify(folder, &keys)?.map_err(|bad| bad.why)?
        }
    };
    let Verified {
        journal,
        read_only,
        scan,
        snapshot,
        snapshot_bytes,
        table,
        superseded,
    } = verified;
    let listing = Listing::of(folder)?;
    let index = find_index(folder, &keys, &listing, &scan)?;
    let number = scan.begin.number;
    let path = folder.join(JOURNAL);
    let journal = Journal::at(journal, &path, number, scan.end, &tuning);
    let pair = Pair {
        number,
        snapshot: Arc::new(snapshot),
        journal: journal.file.clone(),
    };
    let mut opened = Opened {
        records: table.len() as u64,
        last_seq: table.last_seq,
        replayed: scan.transactions,
        unclean: !scan.closed,
        torn: scan.torn.is_some(),
        index: IndexFound::Whole,
        snapshot_rewritten,
        warnings: Vec::new(),
    };
    let mark = scan.mark();
    let disk = Arc::new(Disk::of(Parts {
        folder: folder.to_path_buf(),
        keys,
        tuning,
        table,
        pair,
        journal,
        mark,
        snapshot_seq: scan.begin.seq,
        snapshot_bytes,
    }));
    {
        let mut state = lock(&disk.state);
        state.health.superseded = superseded;
        state.stale_since = (superseded > 0).then(Instant::now);
    }
    match disk.try_writes(read_only, scan.torn) {
        Ok(()) => tidy(folder, &listing, number),
        Err(error) => {
            disk.stop(&error);
            opened
                .warnings
                .push(format!("nothing can be written: {error}"));
        }
    }
    opened.index = disk.begin_index(index, &scan, mark);
    Ok((disk, opened))
}

/// Takes away what an interrupted snapshot has left.
fn tidy(folder: &Path, listing: &Listing, number: u64) {
    listing
        .unfinished
        .iter()
        .for_each(|path| files::discard(path));
    for other in listing.snapshots.iter().filter(|other| **other != number) {
        files::discard(&folder.join(files::snapshot_name(*other)));
    }
}

/// An index on the disk, and how far it is.
enum FoundIndex {
    Good {
        number: u64,
        index: SledIndex,
        mark: Mark,
    },
    Bad(String),
    Unavailable(String),
}

/// Looks for an index of this history. One that is ahead of the journal shows that the journal was
/// cut; that is refused.
fn find_index(
    folder: &Path,
    keys: &Keys,
    listing: &Listing,
    scan: &Scan,
) -> Result<FoundIndex, RecordsError> {
    let mut bad = None;
    for number in &listing.indexes {
        let index = match SledIndex::open(&folder.join(files::index_name(*number))) {
            Ok(index) => index,
            Err(OpenIndexError::Unavailable(why)) => return Ok(FoundIndex::Unavailable(why)),
            Err(OpenIndexError::Damaged(why)) => {
                bad.get_or_insert(why);
                continue;
            }
        };
        match mark_of(&index, keys) {
            Ok(mark) => {
                scan.check(&mark, &folder.join(JOURNAL))?;
                if mark.seq < scan.begin.seq {
                    return Ok(FoundIndex::Bad("it is older than the snapshot".into()));
                }
                return Ok(FoundIndex::Good {
                    number: *number,
                    index,
                    mark,
                });
            }
            // One that was being filled; the one before it may be whole.
            Err(why) => {
                bad.get_or_insert(why);
            }
        }
    }
    Ok(FoundIndex::Bad(
        bad.unwrap_or_else(|| "there was none".into()),
    ))
}

/// The mark of an index, or why it has none that counts.
pub(crate) fn mark_of(index: &dyn Index, keys: &Keys) -> Result<Mark, String> {
    match index.mark() {
        Ok(Some(bytes)) => {
            Mark::of(&bytes, keys).ok_or_else(|| "its mark is not one of this store".to_owned())
        }
        Ok(None) => Err("it was not complete".into()),
        Err(error) => Err(error.to_string()),
    }
}

impl Disk {
    /// Shows that the disk takes writes; what was cut short goes first.
    fn try_writes(
        &self,
        read_only: Option<io::Error>,
        torn: Option<u64>,
    ) -> Result<(), RecordsError> {
        let mut writer = lock(&self.writer);
        if let Some(error) = read_only {
            return Err(RecordsError::at("could not open", writer.journal.path())(
                error,
            ));
        }
        // A kill may have come between a rename and its sync: what a power cut would call back is
        // needed until then, and `tidy` takes it away.
        files::sync_dir(&self.folder)?;
        if let Some(bytes) = torn {
            writer.journal.erase(bytes)?;
        }
        self.write_bare(&mut writer, Kind::Open)?;
        lock(&self.state).health.journal_bytes = writer.journal.bytes();
        Ok(())
    }

    fn begin_index(self: &Arc<Self>, found: FoundIndex, scan: &Scan, mark: Mark) -> IndexFound {
        let why = match found {
            FoundIndex::Good {
                number,
                index,
                mark: has,
            } => match self.go_on(index, scan, has, mark) {
                Ok(0) => {
                    self.drop_other_indexes(number);
                    return IndexFound::Whole;
                }
                Ok(behind) => {
                    self.drop_other_indexes(number);
                    return IndexFound::Behind(behind);
                }
                Err(error) => error.to_string(),
            },
            FoundIndex::Bad(why) => {
                if self.stopped().is_none() {
                    match self.fresh_index() {
                        Ok(()) => return IndexFound::Rebuilt(why),
                        Err(error) => error.to_string(),
                    }
                } else {
                    why
                }
            }
            FoundIndex::Unavailable(why) => why,
        };
        self.index_missing(&why);
        IndexFound::None(why)
    }

    /// Goes on with an index that has everything up to a mark. Gives how many records it lacks.
    fn go_on(
        self: &Arc<Self>,
        index: SledIndex,
        scan: &Scan,
        has: Mark,
        mark: Mark,
    ) -> io::Result<u64> {
        let names: BTreeSet<NameHash> = scan
            .changes
            .iter()
            .filter(|found| found.seq > has.seq)
            .map(|found| found.name)
            .collect();
        let behind = names.len() as u64;
        let keeper = Keeper::start(Arc::new(index), &self.keys, has.seq, self.clone())?;
        if behind > 0 {
            keeper.changed(names, Some(mark));
        }
        *sys::lock::write(&self.keeper) = Some(keeper);
        Ok(behind)
    }

    fn drop_other_indexes(&self, number: u64) {
        let Ok(listing) = Listing::of(&self.folder) else {
            return;
        };
        for other in listing.indexes.iter().filter(|other| **other != number) {
            files::discard(&self.folder.join(files::index_name(*other)));
        }
    }
}
