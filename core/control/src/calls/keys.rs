//! io.deploy.Keys

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::payload::SecretText;

/// Makes a new root key, and seals every record with it. With `more`, tells how far it is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotate {}

/// How far a rotation is; the last reply has a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotated {
    /// Records that are under the new key.
    pub done: u64,
    /// Records in all.
    pub total: u64,
    /// The new generation, once it is the one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
}

/// What holds a slot's private half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotKind {
    /// A file of mode 0600.
    File,
    /// A passphrase.
    Passphrase,
}

/// Parameters of Argon2id (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argon2 {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Adds a key slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotAdd {
    /// What holds its private half.
    pub kind: SlotKind,
    /// The passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<SecretText>,
    /// Where secretsd writes the key file; relative to the store's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The operator's words for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// How the passphrase is stretched; left out: the second choice of RFC 9106.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argon2: Option<Argon2>,
}

/// Lists key slots.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotList {}

/// The key slots that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// By number.
    pub slots: Vec<SlotInfo>,
}

/// A key slot, without its private half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotInfo {
    /// Its number, given once.
    pub id: u32,
    /// What holds its private half.
    pub kind: SlotKind,
    /// Where that file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// How the passphrase is stretched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argon2: Option<Argon2>,
    /// The operator's words for it.
    pub label: String,
    /// Its public half, as age writes it.
    pub recipient: String,
}

/// Removes a key slot: it opens no later generation of the root key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRemove {
    /// Which.
    pub id: u32,
}
