//! io.deploy.Audit

use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which entries of the audit log; what is left out is of no interest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Whose view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Which secret, or what else was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// `open`, `read`, `change`, `seal`, `unseal`, `start`, `stop`, `segment`, `merged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `allowed`, `denied`, `failed`; of a change `begun`, `done`, `denied`, `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Which operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Which process's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Not after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// The newest so many alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// With `more`: goes on with those that come, until the caller hangs up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

/// Entries, as docs/format.md names their parts. With `more`, there are several of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntries {
    /// The oldest first.
    pub entries: Vec<Value>,
}

/// Checks the whole audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditVerify {
    /// An anchor that was kept elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
}

/// What the audit log turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditVerified {
    /// Nothing is wrong, as far as the log and the anchor can tell.
    pub whole: bool,
    /// Entries that fit.
    pub entries: u64,
    /// Segments that are there.
    pub segments: u64,
    /// The number of the first entry that is kept.
    pub first: u64,
    /// The newest entry: keep it elsewhere, to show later that the log up to it is what it was.
    pub anchor: String,
    /// What does not fit.
    pub damage: Vec<String>,
    /// `fits`, `differs`, `cut`, `too-old`, if an anchor was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchored: Option<String>,
}
