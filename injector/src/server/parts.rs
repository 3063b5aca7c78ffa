//! What of an instance's views is mounted, and where: its two trees, and folders of fields that have a
//! target of their own.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use control::inner::InstanceRecord;
use model::SecretName;
use rustix::fs::{AtFlags, FileType, StatxFlags};

use crate::plan::Tree;

/// A folder of an instance's views, and where it is mounted.
pub(super) struct Part<'a> {
    pub tree: Tree,
    /// Below the master mount.
    pub folder: PathBuf,
    pub target: &'a Path,
    /// Of the secret whose fields these are.
    pub name: Option<&'a SecretName>,
}

impl Part<'_> {
    /// The tree that it is of.
    pub fn within(&self) -> Tree {
        match self.tree {
            Tree::Fields(_) => Tree::Secret,
            tree => tree,
        }
    }

    /// Whether it can be mounted for as long as the instance runs: a folder can, which is the same
    /// for good; a file is of one version.
    pub fn check(&self, clone: &OwnedFd) -> Result<(), String> {
        let Some(name) = self.name.filter(|_| !is_folder(clone)) else {
            return Ok(());
        };
        Err(format!(
            "{name} has one value and no fields, so it cannot have a `target`: a mount of one file \
             stays with the version that it is made of; give it fields, or say where all secrets \
             are: `targets: {{secret: ...}}`"
        ))
    }
}

/// All that is mounted for an instance.
pub(super) fn parts(record: &InstanceRecord) -> Vec<Part<'_>> {
    let folder = PathBuf::from(record.number.to_string());
    let whole = |tree, target| Part {
        tree,
        folder: folder.clone(),
        target,
        name: None,
    };
    let both = [
        whole(Tree::Secret, record.targets.secret.as_path()),
        whole(Tree::Config, record.targets.config.as_path()),
    ];
    let placed = record.manifest.secrets.iter().enumerate();
    let placed = placed.filter_map(|(at, secret)| {
        Some(Part {
            tree: Tree::Fields(at),
            folder: folder.join(secret.name.as_str()),
            target: secret.target.as_deref()?,
            name: Some(&secret.name),
        })
    });
    both.into_iter().chain(placed).collect()
}

/// Without asking secretsd: what kind it is never changes.
fn is_folder(clone: &OwnedFd) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(clone, "", flags, StatxFlags::TYPE)
        .is_ok_and(|found| FileType::from_raw_mode(found.stx_mode.into()).is_dir())
}
