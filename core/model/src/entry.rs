//! The number that a name has in the inode numbers of one instance.

use serde::{Deserialize, Serialize};

use crate::FieldName;

/// Which of an instance's two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tree {
    /// `/secret`.
    Secret,
    /// `/config`.
    Config,
}

/// One name of an instance, and its number. The registry of instances keeps it, so that the inode
/// number comes out the same after a restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// From 1; 0 is the instance's folder.
    pub number: u16,
    /// The tree that the name is in.
    pub tree: Tree,
    /// A secret's name, or a config key: the two have different rules.
    pub name: String,
    /// A field of the secret; `None`: its single value, or the folder of its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<FieldName>,
}
