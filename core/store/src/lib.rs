//! The only code that decrypts: keys, sealed records, versions, grants, configs.
//!
//! A [`Store`] is opened sealed, and unsealed by one of its key slots. Values leave it by
//! [`Store::open_value`] alone, which takes a [`Permit`]; changes are an [`Operator`]'s. Both are
//! proofs that only this crate makes. What lies on the disk is described byte by byte in
//! `docs/format.md`.
#![forbid(unsafe_code)]

mod backup;
mod catalog;
mod cipher;
mod clock;
mod configs;
mod credential;
mod deletion;
mod documents;
mod envelope;
mod error;
mod grants;
mod hex;
mod hierarchy;
mod holds;
mod keys_file;
mod layout;
mod live;
mod meta;
mod operator;
mod permit;
mod pins;
mod place;
mod reading;
mod rotation;
mod slot_changes;
mod slots;
mod store;
#[cfg(test)]
mod tests;
mod time;
mod unseal;
mod value;
#[cfg(test)]
mod vectors;
mod versions;
mod writers;

pub use backup::{
    BackupError, BackupKey, BackupTo, Contents, Difference, DifferenceKind, Found, Moment, Restored,
};
pub use cipher::{Cipher, UnknownCipher};
pub use configs::{Config, MergedConfigs};
pub use credential::{Credential, NoCredential};
pub use deletion::Deletion;
pub use error::{
    ConfigError, Denied, EnvelopeError, FileError, InitError, OpenError, ReadError, RecordError,
    SlotError, UnsealError, WriteError,
};
pub use grants::Revocation;
pub use meta::{
    ConfigMeta, DEFAULT_KEEP, GrantMeta, MAX_KEEP, MAX_VERSION, SecretMeta, Shape, State, Status,
    StoreId, VersionMeta,
};
pub use operator::Operator;
pub use permit::{Permit, Reader, Standing, now};
pub use reading::Opened;
pub use slots::{Argon2Params, NewSlot, SlotId, SlotInfo, SlotKind};
pub use store::{InitOptions, InitReport, Store};
pub use time::MAX_GRACE;
pub use unseal::{Unlock, UnlockedBy, UnsealReport};
pub use value::{MAX_FIELDS, MAX_VERSION_BYTES, SecretBytes, Value};
pub use versions::SetOptions;
