//! io.deploy.Configs

use std::collections::BTreeMap;

use model::{ConfigKey, ConfigName, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Late, Scalar};
use crate::json::unique;

/// Makes a config; a name that exists is a conflict.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigCreate {
    /// Its name.
    pub name: ConfigName,
    /// Its keys.
    #[serde(deserialize_with = "unique")]
    pub data: BTreeMap<ConfigKey, Scalar>,
    /// It can only be deleted afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub immutable: bool,
}

/// Changes keys of a config, all in one commit; those that are not named stay.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigUpdate {
    /// Its name.
    pub name: ConfigName,
    /// The keys.
    #[serde(deserialize_with = "unique")]
    pub data: BTreeMap<ConfigKey, Scalar>,
}

/// Reads a config.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigGet {
    /// Its name.
    pub name: ConfigName,
}

/// A config with its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigData {
    /// Its name.
    pub name: ConfigName,
    /// It can only be deleted.
    pub immutable: bool,
    /// Counts its changes, from 1.
    pub version: u32,
    /// When it was changed last.
    pub changed: Timestamp,
    /// Its keys.
    #[serde(deserialize_with = "unique")]
    pub data: BTreeMap<ConfigKey, Scalar>,
}

/// Deletes a config.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigDelete {
    /// Its name.
    pub name: ConfigName,
}

/// Lists configs, without their keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigList {
    /// Only names that start so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// The configs that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigListed {
    /// By name.
    pub configs: Vec<ConfigInfo>,
}

/// A config, without its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigInfo {
    /// Its name.
    pub name: ConfigName,
    /// It can only be deleted.
    pub immutable: bool,
    /// Counts its changes, from 1.
    pub version: u32,
    /// When it was changed last.
    pub changed: Timestamp,
    /// How many keys it has.
    pub keys: u64,
    /// Of a change: instances that it has not reached in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<Late>,
}
