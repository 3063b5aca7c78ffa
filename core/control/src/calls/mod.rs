//! The methods of the control socket: for each one structure of parameters, and one of results.
//!
//! A structure refuses members that it does not know: a condition that is not understood must not
//! be left out in silence.

mod audit;
mod backups;
mod configs;
mod daemon;
mod keys;
mod scalar;
mod secrets;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use audit::{AuditEntries, AuditQuery, AuditVerified, AuditVerify};
pub use backups::{
    BackupContents, BackupDifference, BackupFound, BackupMade, BackupMake, BackupPart, Bytes,
    RestoreReport,
};
pub use configs::{
    ConfigCreate, ConfigData, ConfigDelete, ConfigGet, ConfigInfo, ConfigList, ConfigListed,
    ConfigUpdate,
};
pub use daemon::{Health, Progress, Seal, State, Status, StatusReport, Unseal, Unsealed};
pub use keys::{
    Argon2, KeyRotate, KeyRotated, SlotAdd, SlotInfo, SlotKind, SlotList, SlotRemove, Slots,
};
pub use scalar::Scalar;
pub use secrets::{
    Adopted, Adoption, Create, Delete, Deleted, Get, Got, Grant, GrantInfo, Granted, Grants,
    History, Late, List, Listed, Reader, ReaderInstance, Readers, ReadersFound, Revoke, Revoked,
    Rollback, Rotate, SecretInfo, Set, Shape, VersionInfo, Versions, Written,
};

/// A method, known by its parameters.
pub trait Method: Serialize + DeserializeOwned {
    /// Its name in varlink.
    const NAME: &'static str;
    /// Its name for `deploy call`.
    const SHORT: &'static str;
    /// Its results.
    type Reply: Serialize + DeserializeOwned;
}

/// The result of a method that only does something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {}

macro_rules! methods {
    ($($type:ident, $name:literal, $short:literal, $reply:ty;)*) => {
        $(impl Method for $type {
            const NAME: &'static str = $name;
            const SHORT: &'static str = $short;
            type Reply = $reply;
        })*

        /// Every method: its name in varlink, and its name for `deploy call`.
        pub const METHODS: &[(&str, &str)] = &[$(($name, $short)),*];
    };
}

methods! {
    Create, "io.deploy.Secrets.Create", "secret.create", Written;
    Set, "io.deploy.Secrets.Set", "secret.set", Written;
    Get, "io.deploy.Secrets.Get", "secret.get", Got;
    List, "io.deploy.Secrets.List", "secret.list", Listed;
    History, "io.deploy.Secrets.History", "secret.history", Versions;
    Rotate, "io.deploy.Secrets.Rotate", "secret.rotate", Written;
    Rollback, "io.deploy.Secrets.Rollback", "secret.rollback", Written;
    Delete, "io.deploy.Secrets.Delete", "secret.delete", Deleted;
    Grant, "io.deploy.Secrets.Grant", "secret.grant", Done;
    Revoke, "io.deploy.Secrets.Revoke", "secret.revoke", Revoked;
    Adopted, "io.deploy.Secrets.Adopted", "secret.adopted", Adoption;
    Readers, "io.deploy.Secrets.Readers", "secret.readers", ReadersFound;
    Grants, "io.deploy.Secrets.Grants", "secret.grants", Granted;
    ConfigCreate, "io.deploy.Configs.Create", "config.create", ConfigInfo;
    ConfigGet, "io.deploy.Configs.Get", "config.get", ConfigData;
    ConfigUpdate, "io.deploy.Configs.Update", "config.update", ConfigInfo;
    ConfigDelete, "io.deploy.Configs.Delete", "config.delete", Done;
    ConfigList, "io.deploy.Configs.List", "config.list", ConfigListed;
    KeyRotate, "io.deploy.Keys.Rotate", "key.rotate", KeyRotated;
    SlotAdd, "io.deploy.Keys.SlotAdd", "key.slot-add", SlotInfo;
    SlotList, "io.deploy.Keys.SlotList", "key.slot-list", Slots;
    SlotRemove, "io.deploy.Keys.SlotRemove", "key.slot-remove", Done;
    AuditQuery, "io.deploy.Audit.Query", "audit.query", AuditEntries;
    AuditVerify, "io.deploy.Audit.Verify", "audit.verify", AuditVerified;
    BackupMake, "io.deploy.Backups.Make", "backup", BackupPart;
    Status, "io.deploy.Daemon.Status", "status", StatusReport;
    Seal, "io.deploy.Daemon.Seal", "seal", Done;
    Unseal, "io.deploy.Daemon.Unseal", "unseal", Unsealed;
}

/// The varlink name of a method that is named either way.
pub fn long_name(method: &str) -> Option<&'static str> {
    let known = |(long, short): &&(&'static str, &'static str)| *long == method || *short == method;
    METHODS.iter().find(known).map(|(long, _)| *long)
}

#[cfg(test)]
mod tests;
