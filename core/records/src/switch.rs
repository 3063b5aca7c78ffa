//! From one snapshot and journal to the next: one rename. Before it the old journal, which names the
//! old snapshot, is the one in use; after it the new one is.

use std::path::{Path, PathBuf};

use crate::error::RecordsError;
use crate::files::{self, JOURNAL, JOURNAL_NEW};
use crate::journal::{Begin, Journal};
use crate::mac::Keys;
use crate::tuning::Tuning;

/// A journal of a new number, which takes the old one's name when all is synced.
pub(crate) struct Switch {
    folder: PathBuf,
    number: u64,
    journal: Journal,
    unfinished: Unfinished,
}

/// Why there was no switch.
pub(crate) struct SwitchError {
    pub(crate) error: RecordsError,
    /// After a power cut either journal may be the one that is found.
    pub(crate) unknown: bool,
}

impl Switch {
    /// Where the snapshot must lie, whole, before [`Switch::to`].
    pub(crate) fn snapshot_path(folder: &Path, number: u64) -> PathBuf {
        folder.join(files::snapshot_new_name(number))
    }

    pub(crate) fn prepare(
        folder: &Path,
        number: u64,
        tuning: &Tuning,
    ) -> Result<Self, RecordsError> {
        let path = folder.join(JOURNAL_NEW);
        let unfinished = Unfinished(vec![
            path.clone(),
            Self::snapshot_path(folder, number),
            folder.join(files::snapshot_name(number)),
        ]);
        let journal = Journal::prepare(&path, number, tuning)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            number,
            journal,
            unfinished,
        })
    }

    pub(crate) fn to(self, keys: &Keys, begin: &Begin) -> Result<Journal, SwitchError> {
        let Self {
            folder,
            number,
            mut journal,
            mut unfinished,
        } = self;
        let path = folder.join(JOURNAL);
        let mut rename = || {
            let snapshot = folder.join(files::snapshot_name(number));
            files::rename(&Self::snapshot_path(&folder, number), &snapshot)?;
            journal.begin(keys, begin)?;
            files::sync_dir(&folder)?;
            files::rename(journal.path(), &path)
        };
        rename().map_err(|error| SwitchError {
            error,
            unknown: false,
        })?;
        unfinished.0.clear();
        journal.renamed(&path);
        files::sync_dir(&folder).map_err(|error| SwitchError {
            error,
            unknown: true,
        })?;
        Ok(journal)
    }
}

/// Files that are taken away again.
struct Unfinished(Vec<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.iter().for_each(|path| files::discard(path));
    }
}
