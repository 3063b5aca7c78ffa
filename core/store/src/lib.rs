//! The only code that decrypts: keys, sealed records, versions, grants, configs.
//!
//! A [`Store`] is opened sealed, and unsealed by one of its key slots. Values leave it by
//! [`Store::open_value`] alone, which takes a [`Permit`]; changes are an [`Operator`]'s. Both are
//! proofs that only this crate makes. What lies on the disk is described byte by byte in
//! `docs/format.md`.
#![forbid(unsafe_code)]

mod cipher;
mod error;
mod hex;
mod meta;
mod operator;
mod permit;
mod slots;
mod store;
mod value;

pub use cipher::{Cipher, UnknownCipher};
pub use error::{
    ConfigError, Denied, EnvelopeError, FileError, InitError, OpenError, ReadError, RecordError,
    SlotError, UnsealError, WriteError,
};
pub use meta::{
    ConfigMeta, DEFAULT_KEEP, GrantMeta, MAX_KEEP, MAX_VERSION, SecretMeta, Shape, State, Status,
    StoreId, VersionMeta,
};
pub use operator::Operator;
pub use permit::{Permit, Reader, Standing};
pub use slots::{Argon2Params, NewSlot, SlotId, SlotInfo, SlotKind};
pub use store::{
    Config, Deletion, InitOptions, InitReport, Opened, Revocation, SetOptions, Store, Unlock,
    UnlockedBy, UnsealReport,
};
pub use value::{MAX_FIELDS, MAX_VERSION_BYTES, SecretBytes, Value};
