//! What goes wrong with records. No error carries a byte of one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// Why records could not be made, opened, read or written.
///
/// `Clone`, because writers that share a sync share its failure.
#[derive(Debug, Clone, Error)]
pub enum RecordsError {
    /// Records are only made where there are none.
    #[error("{} exists already: records are only made in a folder without any", .0.display())]
    Exists(PathBuf),
    /// A file is not what was written, or belongs to another store or another time. Nothing was
    /// changed.
    #[error("{}: {what}; restore it with `deploy restore`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The disk is full. The transaction is not there; it may be tried again.
    #[error("no space is left for {}; nothing was written: make room and try again", path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// A write or sync failed before, and only opening the records anew can tell what the disk
    /// holds. Reading goes on.
    #[error("the store takes no writes: {0}; check the disk, then restart secretsd")]
    Stopped(String),
    /// More bytes than a record or a transaction may have.
    #[error("a {what} of {bytes} bytes is too large: at most {most} are accepted")]
    TooLarge {
        /// A record or a transaction.
        what: &'static str,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        most: u64,
    },
    /// Two records of one name where each must have its own.
    #[error("two records have the same name")]
    Duplicate,
    /// [`crate::Records::close`] came before.
    #[error("the records are closed")]
    Closed,
    /// A file could not be read or written.
    #[error("{act} {}: {source}", path.display())]
    Io {
        /// What was tried, as "could not read".
        act: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl RecordsError {
    pub(crate) fn at<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |error| {
            if error.kind() == io::ErrorKind::StorageFull {
                return Self::Full {
                    path: path.to_path_buf(),
                };
            }
            Self::unclear(act, path)(error)
        }
    }

    /// As [`RecordsError::at`], where it is not known what the disk holds: [`RecordsError::Full`]
    /// says that it does not hold the transaction, and a sync may find a disk full, too.
    pub(crate) fn unclear<'a>(
        act: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |error| Self::Io {
            act,
            path: path.to_path_buf(),
            source: Arc::new(error),
        }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            what: what.into(),
        }
    }
}

/// Why [`crate::Records::build`] failed.
#[derive(Debug, Error)]
pub enum BuildError<E> {
    /// Where the records come from.
    #[error(transparent)]
    Source(E),
    /// The new records.
    #[error(transparent)]
    Records(#[from] RecordsError),
}
