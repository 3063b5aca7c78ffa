//! What goes wrong with backups. No error carries a key, a passphrase or a byte of a record.

use std::io;

use records::{BuildError, RecordsError};
use thiserror::Error;

use crate::error::{FileError, InitError, RecordError, SlotError, UnsealError, WriteError};

/// Why a backup was not made, is not usable, or was not restored.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The store is sealed, or was sealed meanwhile.
    #[error("the store is sealed; unseal it with `deploy unseal`")]
    Sealed,
    /// Not what a backup can be encrypted to; says which. What was given may be a private half, and is
    /// not shown.
    #[error("recipient {0} is no X25519 recipient of age (age1…); `age-keygen` makes one")]
    Recipient(usize),
    /// Nobody could open it.
    #[error("a backup needs a recipient or a passphrase: without one nobody could open it")]
    NoRecipient,
    /// An empty passphrase.
    #[error("the passphrase is empty; choose one that cannot be guessed")]
    EmptyPassphrase,
    /// Not what opens a backup.
    #[error("line {0} of the identities is no X25519 identity of age (AGE-SECRET-KEY-1…)")]
    Identity(usize),
    /// No identity is there.
    #[error("there is no identity of age (AGE-SECRET-KEY-1…) in what was given")]
    NoIdentity,
    /// The passphrase is wrong.
    #[error("the passphrase does not open this backup")]
    WrongPassphrase,
    /// It is encrypted to others.
    #[error("none of the identities opens this backup: it was made for other recipients")]
    WrongIdentity,
    /// A passphrase was given for one that is encrypted to recipients, or the other way round.
    #[error("this backup opens by {0}")]
    OtherKey(&'static str),
    /// Not a file of age, or not of ours.
    #[error("this is no backup: {0}")]
    NotOne(&'static str),
    /// Of a later version.
    #[error("this backup has format {0}, which this version does not know; use a later one")]
    Format(u32),
    /// Changed, cut short, or never a whole one.
    #[error("the backup is damaged ({0}); nothing of it was used: take another one")]
    Damaged(String),
    /// A record does not belong where it is.
    #[error("the backup is damaged: the sealed record of {} is not usable: {}", .0.what, .0.why)]
    Record(RecordError),
    /// What was read back is not what was written.
    #[error("what was read back is not what was to be written; try again")]
    Differs,
    /// The store itself has a record that does not open.
    #[error(transparent)]
    Store(#[from] UnsealError),
    /// The store's records failed.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The folder to restore into cannot be made.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A key slot.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The backup itself could not be read or written.
    #[error("{0}")]
    Io(io::Error),
    /// No randomness, no locked memory, or no thread.
    #[error("the system gave no memory, thread or randomness: {0}")]
    System(io::Error),
}

impl BackupError {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    /// Reading the text failed: age says with these two kinds that it is not what was encrypted.
    pub(super) fn reading(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::damaged("it is cut short"),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::damaged("a byte of it was changed, or it is cut short")
            }
            _ => Self::Io(error),
        }
    }
}

impl From<WriteError> for BackupError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Sealed => Self::Sealed,
            WriteError::Records(error) => Self::Records(error),
            WriteError::Slot(error) => Self::Slot(error),
            error => Self::System(io::Error::other(error.to_string())),
        }
    }
}

impl From<BuildError<BackupError>> for BackupError {
    fn from(error: BuildError<BackupError>) -> Self {
        match error {
            BuildError::Source(error) => error,
            BuildError::Records(error) => Self::Records(error),
        }
    }
}
