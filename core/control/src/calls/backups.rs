//! io.deploy.Backups, and what secretsd reports of a backup without a socket.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SlotInfo;
use crate::payload::SecretText;

/// Makes a backup of the store. Needs `more`: the file comes in parts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupMake {
    /// age's X25519 recipients, each of which can open it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// In place of recipients: whoever knows this can open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<SecretText>,
}

/// A part of a backup; the last reply has `made`, and no part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupPart {
    /// Records that are written.
    pub done: u64,
    /// Records in all.
    pub total: u64,
    /// The next bytes of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Bytes>,
    /// What was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<BackupMade>,
}

/// A backup that was read again while it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupMade {
    /// How long the file is.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// What it holds.
    pub contents: BackupContents,
}

/// What a backup holds, without any value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupContents {
    /// The store's id.
    pub store: String,
    /// The moment: `GENERATION.TRANSACTION`.
    pub version: String,
    /// The same by the wall clock.
    pub made: Timestamp,
    /// The newest entry of the audit log then, as `NUMBER:HASH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
    /// What the store's new records are sealed with.
    pub cipher: String,
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
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// How a store was found that a backup is to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupFound {
    /// There is none.
    Nothing,
    /// There is something, and it cannot be read.
    Unreadable,
    /// A store that was compared with the backup.
    Store,
}

/// Something that a restore would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupDifference {
    /// `other-store`, `older-generation`, `slot-back`, `grant-back`, `deleted-back`, `older`, `lost`,
    /// `unreadable`, `since` (an act in the audit log), `anchor`.
    pub kind: String,
    /// What, in words.
    pub what: String,
}

/// What `secretsd restore` has made, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreReport {
    /// The restored store can take the place of what is there.
    pub ready: bool,
    /// What the backup holds.
    pub contents: BackupContents,
    /// How the store was found that it is to replace.
    pub found: BackupFound,
    /// Its moment, if it could be read: `GENERATION.TRANSACTION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// What has to be accepted.
    pub differences: Vec<BackupDifference>,
    /// A key slot in place of those whose key files were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_slot: Option<SlotInfo>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// Bytes, in base64 (RFC 4648, section 4, with padding).
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        let bytes = STANDARD.decode(text.as_bytes());
        bytes.map(Bytes).map_err(|_| D::Error::custom("no base64"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_part_comes_back_as_it_was_and_a_passphrase_is_not_shown() {
        let part = BackupPart {
            done: 1,
            total: 2,
            data: Some(Bytes((0..=255).collect())),
            made: None,
        };
        let text = serde_json::to_string(&part).unwrap();
        assert_eq!(serde_json::from_str::<BackupPart>(&text).unwrap(), part);
        let changed = text.replacen("\"data\":\"", "\"data\":\"=", 1);
        assert!(serde_json::from_str::<BackupPart>(&changed).is_err());
        let make: BackupMake = serde_json::from_str(r#"{"passphrase":"hush"}"#).unwrap();
        assert!(make.recipients.is_empty());
        assert!(!format!("{make:?}").contains("hush"));
        assert!(serde_json::from_str::<BackupMake>(r#"{"path":"/x"}"#).is_err());
    }
}
