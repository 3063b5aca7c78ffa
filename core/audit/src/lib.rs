//! The audit log: who opened which secret, who was refused, who changed what.
//!
//! Entries form a chain of SHA-256 hashes over numbered segments, so that cutting, editing and
//! reordering show; against an [`Anchor`] that was kept elsewhere a cut tail shows too. The layout is
//! in docs/format.md, "Audit log".
//!
//! The log is hashes and no keys: it is written while the store is sealed, and names are in clear.
#![forbid(unsafe_code)]

mod adoption;
mod anchor;
mod entry;
mod follow;
mod frame;
mod json;
mod log;
mod merge;
mod open;
mod query;
mod quota;
mod scan;
mod segment;
mod time;
mod verify;
mod writer;

pub use adoption::{Adoption, Reader};
pub use anchor::{Anchor, AnchorError, Hash};
pub use entry::{
    Access, Change, Entry, Event, Kind, Merged, Outcome, Record, Start, Switch, Verdict,
};
pub use follow::Follow;
pub use json::shown;
pub use log::{Health, Log};
pub use open::{Found, OpenError, Options};
pub use query::{Filter, query};
pub use quota::Quota;
pub use time::Time;
pub use verify::{Anchored, Damage, Verified, verify};
pub use writer::AppendError;
