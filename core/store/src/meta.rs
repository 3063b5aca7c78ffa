//! What is known of a secret, a config, a store without any value.

use model::{ConfigName, FieldName, Grant, SecretName, ServiceName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::slots::SlotInfo;

/// Versions are numbered below this: an inode number has 28 bits for one.
pub const MAX_VERSION: u32 = (1 << 28) - 1;
/// How many versions `get`, `history` and `rollback` reach unless `keep` says otherwise.
pub const DEFAULT_KEEP: u32 = 10;
/// The highest `keep` that is accepted.
pub const MAX_KEEP: u32 = 1000;

/// One value, or named fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// One value: a file.
    Single,
    /// Named fields: a folder of files.
    Fields,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionMeta {
    /// Its number, from 1 up to [`MAX_VERSION`]; never given twice to one name, not even after a
    /// delete, because inode numbers are made of it.
    pub number: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes of each field in the order of names; a single value is one entry without a field.
    pub sizes: Vec<(Option<FieldName>, u64)>,
}

impl VersionMeta {
    /// Bytes of one field (`None`: of the single value); `None` if the version has no such field.
    #[must_use]
    pub fn size_of(&self, field: Option<&FieldName>) -> Option<u64> {
        self.sizes
            .iter()
            .find(|(name, _)| name.as_ref() == field)
            .map(|(_, size)| *size)
    }

    /// Bytes over all fields.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.sizes.iter().map(|(_, size)| size).sum()
    }

    /// The shape of this version; an older one may differ from the newest after a reshape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self.sizes.as_slice() {
            [(None, _)] => Shape::Single,
            _ => Shape::Fields,
        }
    }
}

/// A secret as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMeta {
    /// Its name.
    pub name: SecretName,
    /// The shape of the newest version.
    pub shape: Shape,
    /// What `get`, `history` and `rollback` reach, oldest first, never empty: the newest `keep`
    /// versions, or the newest alone where `keep` is 0.
    pub versions: Vec<VersionMeta>,
    /// How many versions stay in reach; 0: old versions are treated as revoked.
    pub keep: u32,
}

impl SecretMeta {
    /// The newest version.
    ///
    /// # Panics
    /// Never on what the store returns: a secret has at least one version.
    #[must_use]
    pub fn newest(&self) -> &VersionMeta {
        &self.versions[self.versions.len() - 1]
    }

    /// The version of this number, if it is in reach.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&VersionMeta> {
        self.versions
            .iter()
            .find(|version| version.number == number)
    }
}

/// A grant, and the service that it is given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantMeta {
    /// Who may read.
    pub service: ServiceName,
    /// What, until when, pinned to what.
    pub grant: Grant,
    /// Seconds until it ends by itself, by whichever clock is first; 0: it has ended; `None`: it
    /// does not end.
    pub left: Option<u64>,
    /// It had ended before this store was unsealed, while an earlier process kept its time.
    pub had_ended: bool,
}

/// A stored config without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMeta {
    /// Its name.
    pub name: ConfigName,
    /// Whether it can only be deleted.
    pub immutable: bool,
    /// Counts its changes, from 1.
    pub version: u32,
    /// When it was changed last.
    pub changed: Timestamp,
    /// How many keys it has.
    pub keys: usize,
}

/// A store's own id: 16 random bytes, in hexadecimal when displayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::hex::encode(&self.0))
    }
}

/// Whether the root key is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing can be read or written.
    Sealed,
    /// The root key of this generation is in memory.
    Unsealed {
        /// Counts root key rotations, from 1.
        generation: u32,
    },
}

/// What `deploy status` shows of a store. Counts are 0 while it is sealed.
#[derive(Debug, Clone)]
pub struct Status {
    /// The store's id.
    pub id: StoreId,
    /// Sealed or not.
    pub state: State,
    /// What new records are sealed with.
    pub cipher: crate::Cipher,
    /// Secrets that exist.
    pub secrets: u64,
    /// Versions kept only because an instance still has them open.
    pub retained_versions: u64,
    /// Services with at least one grant.
    pub services: u64,
    /// Stored configs.
    pub configs: u64,
    /// Last durable transaction of this generation.
    pub last_seq: u64,
    /// State of the records below; `None` while sealed.
    pub records: Option<records::Health>,
    /// Key slots; authenticated only while the store is unsealed.
    pub slots: Vec<SlotInfo>,
    /// Records done and to do of a root key rotation that is running.
    pub rotation: Option<(u64, u64)>,
}
