//! What the kernel has cached of a connection that was lost. Nobody answers on it any more, but held
//! descriptors and mappings go on reading its pages, which no revoke reaches once the device is closed.
//!
//! The views have everything forgotten that they gave out by it. What an earlier secretsd gave out is
//! known to nobody: so each inode that it may have been is named to the kernel, which knows those
//! that it has (docs/semantics.md, The tree).

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use control::inner::InstanceRecord;
use model::Tree;
use sys::lock::lock;

use super::{Host, ourselves};

/// A connection that was lost, and the instances that may hold something of it.
#[derive(Debug)]
pub(super) struct Lost {
    pub tree: Tree,
    pub device: OwnedFd,
    pub records: Vec<InstanceRecord>,
}

impl Host {
    /// Has the kernel forget all that instances may hold of a tree on its lost connection. While the
    /// store is sealed nobody knows which versions there are, and nothing can be revoked: after the
    /// unseal.
    pub(super) fn forget_lost(&self, lost: Lost) {
        // An unseal must not come between.
        let mut sealed = lock(&self.lost);
        let Some(newest) = self.newest(lost.tree) else {
            return sealed.push(lost);
        };
        drop(sealed);
        for record in &lost.records {
            let entries = record.entries.iter();
            for entry in entries.filter(|entry| entry.tree == lost.tree) {
                let last = match lost.tree {
                    Tree::Secret => newest.get(&entry.name).copied().unwrap_or(0),
                    // All keys share one, which counts all of these, from 1.
                    Tree::Config => {
                        let from = record.manifest.config_from.iter();
                        let versions = from.filter_map(|name| newest.get(name.as_str()));
                        versions.sum::<u32>().saturating_add(record.reloads) + 1
                    }
                };
                let (instance, service) = (record.number, &record.service);
                let forgotten =
                    fuse_fs::forget_versions(&lost.device, instance, entry.number, last);
                if let Err(error) = forgotten {
                    log::error!(
                        "what instance {instance} of {service} has open of a lost connection stays \
                         readable: {error}; end the service to be sure"
                    );
                }
            }
        }
    }

    /// What was lost while the store was sealed.
    pub(super) fn forget_all_lost(&self) {
        let all = std::mem::take(&mut *lock(&self.lost));
        all.into_iter().for_each(|lost| self.forget_lost(lost));
    }

    /// The newest versions of all secrets or configs; `None` while the store is sealed.
    fn newest(&self, tree: Tree) -> Option<BTreeMap<String, u32>> {
        let us = ourselves()?;
        Some(match tree {
            Tree::Secret => {
                let all = self.store.list(&us, "").ok()?.into_iter();
                all.map(|one| (one.name.to_string(), one.newest().number))
                    .collect()
            }
            Tree::Config => {
                let all = self.store.config_list(&us, "").ok()?.into_iter();
                all.map(|one| (one.name.to_string(), one.version)).collect()
            }
        })
    }
}
