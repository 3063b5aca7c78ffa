//! io.deploy.Daemon

use serde::{Deserialize, Serialize};

use super::SlotInfo;
use crate::payload::SecretText;

/// Asks how secretsd is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {}

/// Is the root key at hand?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No: nothing is served.
    Sealed,
    /// Yes.
    Unsealed,
}

/// How secretsd is. Counts are 0 while the store is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusReport {
    /// secretsd's version.
    pub version: String,
    /// Sealed or not.
    pub state: State,
    /// The generation of the root key, while unsealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The store's id.
    pub store: String,
    /// What new records are sealed with.
    pub cipher: String,
    /// Secrets that exist.
    pub secrets: u64,
    /// Stored configs.
    pub configs: u64,
    /// Services with at least one grant.
    pub services: u64,
    /// Instances that are served.
    pub instances: u64,
    /// Inodes that the kernel knows.
    pub inodes: u64,
    /// Versions kept only because an instance has them open.
    pub retained_versions: u64,
    /// The key slots.
    pub slots: Vec<SlotInfo>,
    /// A root key rotation that is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Progress>,
    /// The records below, while unsealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<Health>,
    /// Is the injector there, and are its connections served?
    pub injector: bool,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Done.
    pub done: u64,
    /// In all.
    pub total: u64,
}

/// How the records are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Writes are accepted.
    pub writable: bool,
    /// The last durable transaction of this generation.
    pub last_seq: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
}

/// Locks the root key: nothing is served until an unseal.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {}

/// Unlocks the root key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unseal {
    /// Of a passphrase slot; left out: the file slots are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<SecretText>,
}

/// How the root key was unlocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsealed {
    /// Its generation.
    pub generation: u32,
    /// The slot that did it; none if it was unsealed already, or by the keyring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotInfo>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}
