//! io.deploy.Secrets

use std::collections::BTreeMap;

use model::{FieldName, Pins, SecretName, ServiceName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ControlError;
use crate::json::unique_option;
use crate::payload::{Coded, Encoding, Plain, SecretText};

/// One value, or named fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// One value: a file.
    Single,
    /// Named fields: a folder of files.
    Fields,
}

/// Makes a secret; a name that exists is a conflict.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Its name.
    pub name: SecretName,
    /// Its one value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<SecretText>,
    /// or its fields.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "unique_option"
    )]
    pub data: Option<BTreeMap<FieldName, SecretText>>,
    /// How they are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// How many versions stay in reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// Services that are granted it in the same commit; left out: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_workloads: Vec<ServiceName>,
}

/// Makes a secret, or its next version.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its name.
    pub name: SecretName,
    /// The one value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<SecretText>,
    /// or the fields.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "unique_option"
    )]
    pub data: Option<BTreeMap<FieldName, SecretText>>,
    /// How they are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// How many versions stay in reach; left out: as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// Lets one value become fields, or fields one value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reshape: bool,
}

/// Makes the next version of a secret that exists.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Its name.
    pub name: SecretName,
    /// The one value,
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "newValue")]
    pub value: Option<SecretText>,
    /// or the fields.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        alias = "newData",
        deserialize_with = "unique_option"
    )]
    pub data: Option<BTreeMap<FieldName, SecretText>>,
    /// How they are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Seconds for which the version before stays readable as the previous one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<u64>,
}

macro_rules! plain {
    ($($type:ident),*) => {$(
        impl $type {
            /// The value that these parameters carry.
            ///
            /// # Errors
            /// They carry none, or two.
            pub fn plain(&self) -> Result<Plain, ControlError> {
                Plain::decode(self.value.as_ref(), self.data.as_ref(), self.encoding)
            }
        }
    )*};
}
plain!(Create, Set, Rotate, Got);

/// The version that a write made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The secret.
    pub name: SecretName,
    /// The version.
    pub version: u32,
    /// When.
    pub created: Timestamp,
    /// Instances whose watchers were not told yet, or that may see the old value by its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<Late>,
}

/// An instance that a change has not reached in time, because a process of it holds its folder's
/// lock, or the injector is away. It is reached as soon as that is possible.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Late {
    /// Its number.
    pub instance: u32,
    /// Its service.
    pub service: ServiceName,
}

/// Waits until every instance that has opened a secret has opened this version of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopted {
    /// The secret.
    pub name: SecretName,
    /// The version; a later one is as good.
    pub version: u32,
    /// How long, in seconds.
    pub wait: u64,
}

/// How far a version came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adoption {
    /// Instances that have opened it.
    pub adopted: u64,
    /// Instances that have opened an older version, and not this one.
    pub behind: Vec<Late>,
}

/// Reads a secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// Its name.
    pub name: SecretName,
    /// Which version; left out: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// One field, which then comes as `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<FieldName>,
    /// How the values of the reply are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
}

/// One version of a secret, in clear.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Got {
    /// The secret.
    pub name: SecretName,
    /// Which version.
    pub version: u32,
    /// When that was made.
    pub created: Timestamp,
    /// The one value, or the field that was asked for,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<SecretText>,
    /// or all fields.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "unique_option"
    )]
    pub data: Option<BTreeMap<FieldName, SecretText>>,
    /// How they are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
}

impl Got {
    /// The reply with these values.
    pub fn new(name: SecretName, version: u32, created: Timestamp, coded: Coded) -> Got {
        let Coded {
            value,
            data,
            encoding,
        } = coded;
        Got {
            name,
            version,
            created,
            value,
            data,
            encoding,
        }
    }
}

/// Lists secrets, without values.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only names that start so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// The secrets that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// By name.
    pub secrets: Vec<SecretInfo>,
}

/// A secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// The shape of its newest version.
    pub shape: Shape,
    /// Its newest version.
    pub version: u32,
    /// When that was made.
    pub created: Timestamp,
    /// The names of its fields; none for one value.
    pub fields: Vec<FieldName>,
    /// How many versions stay in reach.
    pub keep: u32,
    /// How many are in reach now.
    pub versions: u32,
}

/// Lists the versions of a secret that are in reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The secret.
    pub name: SecretName,
}

/// The versions of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// The secret.
    pub name: SecretName,
    /// Oldest first.
    pub versions: Vec<VersionInfo>,
}

/// A version, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionInfo {
    /// Its number.
    pub version: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes over all fields.
    pub bytes: u64,
    /// The names of its fields; none for one value.
    pub fields: Vec<FieldName>,
}

/// Makes an older version the newest again, as a version of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The secret.
    pub name: SecretName,
    /// To which version.
    pub version: u32,
}

/// Deletes a secret with all its versions; services lose it as by a revoke.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The secret.
    pub name: SecretName,
}

/// What a deletion took away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deleted {
    /// The services that had it granted.
    pub services: Vec<ServiceName>,
}

/// Lets a service read secrets, all of them or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Who may read.
    pub service: ServiceName,
    /// What.
    pub names: Vec<SecretName>,
    /// Until when; left out: until a revoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// For how many seconds, in place of `until`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// What the reader must be besides.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub pins: Pins,
}

/// Takes secrets back. When the reply is there, nobody in that service can read them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// From whom.
    pub service: ServiceName,
    /// What.
    pub names: Vec<SecretName>,
}

/// What a revoke took back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// These.
    pub revoked: Vec<SecretName>,
    /// These were not granted in the first place.
    pub not_granted: Vec<SecretName>,
}

/// Lists who may read a secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readers {
    /// The secret.
    pub name: SecretName,
}

/// Who may read a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadersFound {
    /// The secret.
    pub name: SecretName,
    /// Its newest version.
    pub version: u32,
    /// By name.
    pub services: Vec<Reader>,
}

/// A service that may read a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// Its name.
    pub service: ServiceName,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Seconds until then, by whichever clock is first; 0: it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// What it must be besides.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub pins: Pins,
    /// Its instances that show it now.
    pub instances: Vec<ReaderInstance>,
}

/// An instance that shows a secret, and what it has read of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderInstance {
    /// Its number.
    pub instance: u32,
    /// The version that it opened last; left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// When it opened that version first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it opened the secret last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// Older versions that it holds open or mapped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<u32>,
}

/// Lists grants.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Of one service; left out: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
}

/// The grants that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Granted {
    /// By service and secret.
    pub grants: Vec<GrantInfo>,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantInfo {
    /// Who may read.
    pub service: ServiceName,
    /// What.
    pub secret: SecretName,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Seconds until then, by whichever clock is first; 0: it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// What the reader must be besides.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub pins: Pins,
}
