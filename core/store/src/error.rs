//! One error type for each kind of operation. None carries a value or a key.

use std::io;
use std::path::{Path, PathBuf};

use model::{ConfigName, SecretName};
use records::RecordsError;
use thiserror::Error;

/// Why a store could not be made.
#[derive(Debug, Error)]
pub enum InitError {
    /// The folder holds something already.
    #[error(
        "{} is not empty: a store is only made in an empty folder; name another, or remove what an \
         interrupted init has left there", .0.display()
    )]
    NotEmpty(PathBuf),
    /// Another process holds the folder's lock.
    #[error("{} is being used by another process; stop it first", .0.display())]
    Busy(PathBuf),
    /// The first slot cannot be made.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No randomness, or no locked memory.
    #[error("a root key could not be made: {0}")]
    System(io::Error),
    /// The records could not be made.
    #[error("the store's records could not be made: {0}")]
    Records(#[from] RecordsError),
}

/// A file of the store that could not be read or written.
#[derive(Debug, Error)]
#[error("{act} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried, as "could not read".
    pub act: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn at<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self {
            act,
            path: path.to_path_buf(),
            source,
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is no store.
    #[error(
        "{} holds no store, as there is no STORE in it; make one with `deploy init`, or, if there was \
         one, bring it back with `deploy restore`", .0.display()
    )]
    NoStore(PathBuf),
    /// Another secretsd has the folder.
    #[error("another secretsd uses {}; stop that one, or name another --state-dir", .0.display())]
    AlreadyRunning(PathBuf),
    /// The store is of another format; nothing of it was read.
    #[error(
        "{}: the store has format {found}, and this version knows format {known} alone; run the \
         version that wrote it, or a later one; if no other version ever did, it is damaged: \
         `deploy restore`", path.display()
    )]
    Format {
        /// STORE.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What is known here.
        known: u32,
    },
    /// STORE or CURRENT is not what this version writes.
    #[error("{}: {what}; restore it with `deploy restore`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a store stays sealed.
#[derive(Debug, Error)]
pub enum UnsealError {
    /// No passphrase slot opens with this one.
    #[error(
        "the passphrase is wrong; try again with `deploy unseal` (if it is right beyond doubt, the \
         file `keys` is damaged: restore it with `deploy restore`)"
    )]
    WrongPassphrase,
    /// The store has no slot of the kind that was asked for.
    #[error("the store has no {0} slot; `deploy key slot list` shows those it has")]
    NoSuchSlot(&'static str),
    /// No file slot could be used; one reason for each.
    #[error(
        "no key file opens the store: {}; put back a copy of one, unseal with a passphrase slot \
         (`deploy unseal`), or restore a backup (`deploy restore`), which makes a new key file",
        .0.join("; ")
    )]
    FileSlots(Vec<String>),
    /// The root key is not in the keyring: sealed, or the machine was started anew.
    #[error("the keyring does not hold the root key; unseal with `deploy unseal`")]
    NotInKeyring,
    /// There is no locked memory for the root key.
    #[error("the root key could not be taken into locked memory: {0}")]
    Memory(io::Error),
    /// `keys` is damaged, or was written by somebody who does not hold the root key.
    #[error("{}: {what}; restore it with `deploy restore`", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A record that must be readable is not.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The records are damaged.
    #[error("the store's records could not be opened: {0}")]
    Records(#[from] RecordsError),
    /// STORE or CURRENT changed, or cannot be read.
    #[error(transparent)]
    Layout(#[from] OpenError),
}

/// A sealed record that does not open. What it belongs to is named, never what it holds.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("the sealed record of {what} is not usable: {why}; restore it with `deploy restore`")]
pub struct RecordError {
    /// What the record is of, as "version 3 of secret db_password".
    pub what: String,
    /// Why.
    pub why: EnvelopeError,
}

/// Why sealed bytes do not open.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeError {
    /// Shorter than a record can be.
    #[error("it is cut short")]
    Short,
    /// A format that this version does not know.
    #[error("its format {0} is not known to this version")]
    Format(u8),
    /// Another kind of record than its place calls for, or an unknown one.
    #[error("its kind {0} does not belong here")]
    Kind(u8),
    /// An unknown cipher.
    #[error("its cipher {0} is not known to this version")]
    Cipher(u8),
    /// A reserved byte is not zero.
    #[error("a reserved byte is set")]
    Reserved,
    /// Sealed under another generation of the root key.
    #[error("it is sealed under key generation {0}")]
    Generation(u32),
    /// The key commitment differs: another key.
    #[error("it is sealed under another key")]
    Key,
    /// The tag differs: changed, or moved from another place.
    #[error("it was changed, or does not belong here")]
    Tag,
    /// Opened, but its content is not what its kind holds.
    #[error("its content is not understood")]
    Content,
    /// It is not there.
    #[error("it is missing")]
    Missing,
}

/// Why a reader gets no permit.
#[derive(Debug, Error, Clone, PartialEq, Eq, Hash)]
pub enum Denied {
    /// No grant, or one that this version does not understand.
    #[error("not granted")]
    NotGranted,
    /// The grant's `until` is past.
    #[error("the grant has expired")]
    Expired,
    /// The grant is pinned to something else than the reader is.
    #[error("the grant is pinned to {pin}, and {shown}")]
    Pinned {
        /// To what: `unit nginx.service`.
        pin: String,
        /// What the reader is instead, as the end of a sentence.
        shown: String,
    },
    /// There is no secret of this name.
    #[error("there is no such secret")]
    UnknownSecret,
    /// The store is sealed.
    #[error("the store is sealed; unseal it with `deploy unseal`")]
    Sealed,
}

/// Why a value is not given.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The store is sealed, or was since the permit was given.
    #[error("the store is sealed; unseal it with `deploy unseal`")]
    Sealed,
    /// The permit is not valid any more: revoked, or the secret was deleted.
    #[error("the grant was revoked")]
    Revoked,
    /// The permit is not valid any more: its `until` is past.
    #[error("the grant has expired")]
    Expired,
    /// There is no such version, or it is out of reach.
    #[error("secret {0} has no version {1}; `deploy secret history {0}` shows those it has")]
    NoVersion(SecretName, u32),
    /// The version has no such field; `None`: it has fields, and one must be named.
    #[error("version {1} of secret {0} has no such field")]
    NoField(SecretName, u32),
    /// The sealed record does not open.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// There is no locked memory for the value.
    #[error("the value could not be taken into locked memory: {0}")]
    Memory(io::Error),
    /// The records failed.
    #[error("reading the store failed: {0}")]
    Records(#[from] RecordsError),
}

/// Why an operator's act was not done. Nothing has changed, unless said.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The store is sealed.
    #[error("the store is sealed; unseal it with `deploy unseal`")]
    Sealed,
    /// What is to be changed is not there.
    #[error("{0}")]
    NotFound(String),
    /// What is to be made is there already, or cannot be changed.
    #[error("{0}")]
    Conflict(String),
    /// More bytes, fields or keys than allowed.
    #[error("{0}")]
    TooLarge(String),
    /// One value where there are fields, or the other way round.
    #[error("{0}")]
    Shape(String),
    /// A number out of range, or something else that cannot be meant.
    #[error("{0}")]
    Invalid(String),
    /// Another act of the same kind is running.
    #[error("{0}")]
    Busy(String),
    /// A key slot could not be made or used.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A sealed record does not open.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The records failed. Whether the change is durable shows after a restart.
    #[error("writing to the store failed: {0}")]
    Records(#[from] RecordsError),
    /// A file beside the records failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system gave no randomness or no locked memory for a new root key.
    #[error("a new root key could not be made: {0}")]
    System(io::Error),
}

/// Why configs are not given.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The store is sealed.
    #[error("the store is sealed; unseal it with `deploy unseal`")]
    Sealed,
    /// These are not stored.
    #[error("no such config: {}; `deploy config create` makes one", join(.0))]
    Missing(Vec<ConfigName>),
    /// A sealed record does not open.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The records failed.
    #[error("reading the store failed: {0}")]
    Records(#[from] RecordsError),
}

fn join(names: &[ConfigName]) -> String {
    names
        .iter()
        .map(ConfigName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Why a key slot cannot be made or used.
#[derive(Debug, Error)]
pub enum SlotError {
    /// Argon2id parameters outside the accepted range.
    #[error(
        "Argon2id parameters out of range: memory {memory_kib} KiB, passes {passes}, lanes {lanes}; \
         accepted are 19456 to 1048576 KiB, 2 to 16 passes, 1 to 16 lanes"
    )]
    Parameters {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// An empty passphrase.
    #[error("the passphrase is empty; choose one that cannot be guessed")]
    EmptyPassphrase,
    /// A slot's file is there already.
    #[error("{} exists already; a key file is never overwritten: name another path", .0.display())]
    FileExists(PathBuf),
    /// A label that is too long, or not printable.
    #[error("a slot's label is at most 64 printable characters")]
    Label,
    /// No more slots.
    #[error("a store has at most {0} key slots; remove one with `deploy key slot remove`")]
    TooMany(usize),
    /// The last slot.
    #[error("this is the last key slot: without it nothing could be unsealed; add another first")]
    Last,
    /// No slot of this number.
    #[error("there is no key slot {0}; `deploy key slot list` shows those there are")]
    Unknown(u32),
    /// The key file does not hold what it must.
    #[error("{}: {what}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A key could not be derived or sealed; names the step.
    #[error("{0}")]
    Crypto(&'static str),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}
