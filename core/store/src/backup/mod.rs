//! Backups: all of a store at one moment, in one age file.
//!
//! The text of the file is the root key, the `keys` file and all records as they are on the disk,
//! sealed: see `docs/format.md`. So a backup opens without any key slot of its machine, and what is
//! restored is what was, byte for byte, also what this version does not understand.
//!
//! age's own authentication shows a byte that was changed or is missing; that records belong to where
//! they are, is shown by each record itself, opened one by one ([`read`]).

mod compare;
mod error;
mod keys;
mod make;
mod read;
mod restore;
#[cfg(test)]
mod tests;

use model::Timestamp;
use serde::{Deserialize, Serialize};

pub use compare::{Difference, DifferenceKind, Found};
pub use error::BackupError;
pub use keys::{BackupKey, BackupTo};
pub use restore::Restored;

use crate::catalog::Catalog;
use crate::cipher::Cipher;
use crate::hex;
use crate::meta::StoreId;
use crate::slots::{Slot, SlotInfo};

/// The first line of the text.
const TITLE: &str = "deploy-secrets backup\n";
/// The header is some 300 bytes.
const MAX_HEADER: usize = 4096;

/// The moment that a backup is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Of which store.
    pub store: StoreId,
    /// What its new records are sealed with.
    pub cipher: Cipher,
    /// The generation of its root key.
    pub generation: u32,
    /// The last transaction of that generation that is in it.
    pub transaction: u64,
    /// When, by the wall clock.
    pub made: Timestamp,
    /// The newest entry of the audit log then, as `NUMBER:HASH`; `None`: there was no log.
    pub anchor: Option<String>,
}

/// What a backup holds, without any value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The moment.
    pub moment: Moment,
    /// Sealed records.
    pub records: u64,
    /// Secrets that exist.
    pub secrets: u64,
    /// Versions that are kept, of all secrets.
    pub versions: u64,
    /// Grants, of all services.
    pub grants: u64,
    /// Stored configs.
    pub configs: u64,
    /// The key slots.
    pub slots: Vec<SlotInfo>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

impl Contents {
    fn new(
        moment: Moment,
        records: u64,
        catalog: &Catalog,
        slots: &[Slot],
        warnings: Vec<String>,
    ) -> Self {
        let secrets = catalog.secrets.values().filter(|one| one.exists());
        let (count, versions) = secrets.fold((0, 0), |(count, versions), one| {
            (count + 1, versions + one.versions.len() as u64)
        });
        let granted = |one: &crate::catalog::Service| one.grants.len() + one.unknown.len();
        let configs = catalog.configs.values().filter(|one| one.there);
        Self {
            moment,
            records,
            secrets: count,
            versions,
            grants: catalog.services.values().map(granted).sum::<usize>() as u64,
            configs: configs.count() as u64,
            slots: slots.iter().map(Slot::info).collect(),
            warnings,
        }
    }
}

/// The second line of the text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    store: String,
    cipher: String,
    generation: u32,
    transaction: u64,
    made: Timestamp,
    records: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor: Option<String>,
}

impl Header {
    fn of(moment: &Moment, records: u64) -> Self {
        Self {
            format: 1,
            store: moment.store.to_string(),
            cipher: moment.cipher.to_string(),
            generation: moment.generation,
            transaction: moment.transaction,
            made: moment.made,
            records,
            anchor: moment.anchor.clone(),
        }
    }

    /// The moment, and how many records follow.
    fn parse(line: &[u8]) -> Result<(Moment, u64), BackupError> {
        let header: Self =
            serde_json::from_slice(line).map_err(|_| BackupError::damaged("its header"))?;
        if header.format != 1 {
            return Err(BackupError::Format(header.format));
        }
        let store = hex::decode(&header.store).ok_or_else(|| BackupError::damaged("its store"))?;
        let cipher = header.cipher.parse();
        let moment = Moment {
            store: StoreId(store),
            cipher: cipher.map_err(|_| BackupError::damaged("its cipher"))?,
            generation: header.generation,
            transaction: header.transaction,
            made: header.made,
            anchor: header.anchor,
        };
        Ok((moment, header.records))
    }
}
