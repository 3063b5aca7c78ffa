//! Files and folders: open to nobody else under any umask, and durable by name.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::RecordsError;

pub(crate) const JOURNAL: &str = "journal";
pub(crate) const JOURNAL_NEW: &str = "journal.new";
/// A copy of the index, looked into when the snapshot is damaged.
pub(crate) const TRIAL: &str = "index.trial";
const SNAPSHOT: &str = "snapshot-";
const INDEX: &str = "index-";
const NEW: &str = ".new";

pub(crate) fn snapshot_name(number: u64) -> String {
    format!("{SNAPSHOT}{number:08}")
}

pub(crate) fn snapshot_new_name(number: u64) -> String {
    format!("{SNAPSHOT}{number:08}{NEW}")
}

pub(crate) fn index_name(number: u64) -> String {
    format!("{INDEX}{number:08}")
}

/// What a folder of records holds, by name alone.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) snapshots: Vec<u64>,
    /// In descending order.
    pub(crate) indexes: Vec<u64>,
    /// What was never finished.
    pub(crate) unfinished: Vec<PathBuf>,
}

impl Listing {
    pub(crate) fn of(folder: &Path) -> Result<Self, RecordsError> {
        let read = |listing: &mut Self| {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let number = |start: &str| name.strip_prefix(start)?.parse::<u64>().ok();
                if let Some(number) = number(SNAPSHOT) {
                    listing.snapshots.push(number);
                } else if let Some(number) = number(INDEX) {
                    listing.indexes.push(number);
                } else if name == JOURNAL_NEW
                    || name == TRIAL
                    || (name.starts_with(SNAPSHOT) && name.ends_with(NEW))
                {
                    listing.unfinished.push(entry.path());
                }
            }
            Ok(())
        };
        let mut listing = Self::default();
        read(&mut listing).map_err(RecordsError::at("could not read", folder))?;
        listing
            .indexes
            .sort_unstable_by(|one, other| other.cmp(one));
        Ok(listing)
    }

    /// The number of the next index folder.
    pub(crate) fn next_index(&self) -> u64 {
        self.indexes.first().map_or(1, |last| last + 1)
    }
}

/// Makes a file that is not there yet, 0600.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    remove(path)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // A umask may have taken our own bits away.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Makes a folder, 0700.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Removes a file or a whole folder; not being there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes what is of no use any more; that it stays is worth a line, no more.
pub(crate) fn discard(path: &Path) {
    if let Err(error) = remove(path) {
        log::warn!("{} is left over: {error}", path.display());
    }
}

/// Makes what was created or renamed in a folder durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), RecordsError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(RecordsError::unclear("could not sync", path))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), RecordsError> {
    fs::rename(from, to).map_err(RecordsError::at("could not rename", from))
}

/// Every file and folder below a folder. Links are not ours, and not followed.
pub(crate) fn walk(
    folder: &Path,
    visit: &mut dyn FnMut(&Path, &fs::Metadata) -> io::Result<()>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, found) = (entry.path(), entry.metadata()?);
        if found.is_file() || found.is_dir() {
            visit(&path, &found)?;
        }
        if found.is_dir() {
            walk(&path, visit)?;
        }
    }
    Ok(())
}
