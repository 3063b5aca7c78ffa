//! Durable sealed records: the journal acknowledges, sled serves.
//!
//! A record is bytes under a [`NameHash`]. [`Records::commit`] returns once its transaction lies
//! synced in the journal; [`Records::get`] gives a record only if its MAC is the one that snapshot
//! and journal name, whatever sled says. This crate holds one MAC key and can decrypt nothing. What
//! lies on the disk is described byte by byte in `docs/format.md`.
//!
//! The way of a write: `group` (who waits together) -> `commit` (a frame) -> `journal` (written,
//! synced) -> `table` (visible) -> acknowledged; then, in a thread of its own, `index`. The way back:
//! `open` verifies journal and snapshot into a table, and only then looks at the index.
#![forbid(unsafe_code)]

mod build;
mod commit;
mod compact;
mod disk;
mod error;
mod files;
mod frozen;
mod group;
mod health;
mod housekeeper;
mod index;
mod journal;
mod mac;
mod memory;
mod name;
mod open;
mod opened;
mod records;
mod recover;
mod snapshot;
mod switch;
mod table;
#[cfg(test)]
mod tests;
mod tuning;
mod verify;

pub use error::{BuildError, RecordsError};
pub use health::Health;
pub use name::NameHash;
pub use opened::{IndexFound, Opened};
pub use records::{Change, MAX_RECORD, MAX_TRANSACTION, Records};
