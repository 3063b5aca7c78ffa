//! What the kernel has cached of a connection that was lost. Nobody answers on it any more, but held
//! descriptors and mappings go on reading its pages, which no revoke reaches once the device is closed.
//!
//! The views have everything forgotten that they gave out by it. What an earlier secretsd gave out is
//! known to nobody: so each inode that it may have been is named to the kernel, which knows those
//! that it has (docs/semantics.md, The tree).

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use control::inner::InstanceRecord;
use model::Tree;
use rustix::io::Errno;

use super::{Host, ourselves};

/// fuse_out_header of FUSE_NOTIFY_INVAL_INODE (linux/fuse.h): length 40, code 2, unique 0.
const HEADER: [u32; 4] = [40, 2, 0, 0];
/// Where an inode number has the instance's, and the entry's.
const INSTANCE_SHIFT: u32 = 44;
const ENTRY_SHIFT: u32 = 28;

impl Host {
    /// Has the kernel forget all that instances may hold of a tree on its lost connection. While the
    /// store is sealed there is nothing: the seal has had it forgotten.
    pub(super) fn forget_lost(&self, tree: Tree, device: impl AsFd, records: &[InstanceRecord]) {
        let Some(newest) = self.newest(tree) else {
            return;
        };
        for record in records {
            let (number, service) = (record.number, &record.service);
            let entries = record.entries.iter().filter(|entry| entry.tree == tree);
            for entry in entries {
                let last = match tree {
                    Tree::Secret => newest.get(&entry.name).copied().unwrap_or(0),
                    // All keys share one, which counts all of these, from 1.
                    Tree::Config => {
                        let from = record.manifest.config_from.iter();
                        let versions = from.filter_map(|name| newest.get(name.as_str()));
                        versions.sum::<u32>().saturating_add(record.reloads) + 1
                    }
                };
                for version in 0..=last {
                    let ino = u64::from(number) << INSTANCE_SHIFT
                        | u64::from(entry.number) << ENTRY_SHIFT
                        | u64::from(version);
                    if let Err(error) = forget(&device, ino) {
                        return log::error!(
                            "what instance {number} of {service} has open of a lost connection \
                             stays readable: {error}; end the service to be sure"
                        );
                    }
                }
            }
        }
    }

    /// The newest versions of all secrets or configs.
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

fn forget(device: impl AsFd, ino: u64) -> Result<(), Errno> {
    let mut message = Vec::with_capacity(40);
    for part in HEADER {
        message.extend(part.to_ne_bytes());
    }
    message.extend(ino.to_ne_bytes());
    // From byte 0, all of it.
    message.extend([0; 16]);
    match rustix::io::write(device, &message) {
        // The kernel does not have it.
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
