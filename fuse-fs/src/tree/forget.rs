//! Telling the kernel what it must forget, and the injector whom to wake.
//!
//! Inodes first and names last: the first needs no lock of a folder and is the barrier of a
//! revocation; the second may be held up by a service, and nothing depends on it, because an open
//! by an old name is answered with "look again".

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use model::{ServiceName, Tree};
use store::VersionMeta;
use sys::lock::read;

use super::Views;
use super::instance::Instance;
use crate::inode::Ino;
use crate::spec::RingPath;

/// A name that the kernel has to forget.
pub(super) struct Stale {
    pub tree: Tree,
    pub instance: u32,
    pub folder: Ino,
    pub name: OsString,
}

impl Views {
    /// Every version of a secret that the kernel may hold for an instance.
    pub(super) fn live_versions(&self, instance: &Instance, slot: usize, newest: u32) -> Vec<Ino> {
        let number = instance.key.number;
        let of_entry = |entry| {
            if instance.inherited {
                // Another secretsd gave inodes out, and which ones died with it.
                (1..=newest)
                    .map(|version| Ino::new(number, entry, version))
                    .collect()
            } else {
                self.secret_inodes.versions(number, entry)
            }
        };
        instance.entries_of(slot).flat_map(of_entry).collect()
    }

    /// Watchers of the name and of its folder; and, as a watch stays with its inode, watchers of
    /// each older version.
    pub(super) fn rings_of(
        &self,
        instance: &Instance,
        slot: usize,
        newest: &VersionMeta,
    ) -> Vec<RingPath> {
        let number = instance.key.number;
        let slot_name = instance.slots[slot].name.as_str();
        let names = newest.sizes.iter().map(|(field, _)| match field {
            None => ring(Tree::Secret, number, slot_name),
            Some(field) => ring(Tree::Secret, number, &format!("{slot_name}/{field}")),
        });
        let older = instance
            .entries_of(slot)
            .flat_map(|entry| self.secret_inodes.versions(number, entry))
            .filter(|ino| ino.version() != 0 && ino.version() != newest.number)
            .map(|ino| RingPath {
                tree: Tree::Secret,
                path: PathBuf::from(".inode").join(ino.0.to_string()),
            });
        names.chain(older).collect()
    }

    /// Drops pages, mappings and attributes: the barrier of a revocation. Needs no lock of a folder.
    pub(super) fn forget_inodes(&self, tree: Tree, inodes: &[Ino]) {
        let Some(kernel) = read(self.kernel(tree)).clone() else {
            return;
        };
        for ino in inodes {
            if let Err(error) = kernel.inval_inode(fuser::INodeNo(ino.0), 0, 0) {
                log::warn!("inode {ino:?} is not invalidated: {error}");
            }
        }
    }

    /// Drops names, and waits for it; gives the instances that kept us waiting for too long.
    pub(super) fn forget_names(
        &self,
        stale: Vec<Stale>,
        patience: Duration,
    ) -> Vec<(u32, ServiceName)> {
        let mut instances: Vec<u32> = stale.iter().map(|one| one.instance).collect();
        instances.sort_unstable();
        instances.dedup();
        for one in stale {
            let Some(kernel) = read(self.kernel(one.tree)).clone() else {
                continue;
            };
            self.pool.submit(one.instance, move || {
                let folder = fuser::INodeNo(one.folder.0);
                if let Err(error) = kernel.inval_entry(folder, &one.name) {
                    log::warn!(
                        "a name of instance {} is not invalidated: {error}",
                        one.instance
                    );
                }
            });
        }
        let stuck = self.pool.wait(&instances, patience);
        let state = read(&self.state);
        let service = |number| Some((number, state.instances.get(&number)?.service.clone()));
        stuck.into_iter().filter_map(service).collect()
    }
}

/// All names of a secret that the kernel may have of an instance.
pub(super) fn names_of(instance: &Instance, slot: usize) -> Vec<Stale> {
    let number = instance.key.number;
    let slot = &instance.slots[slot];
    let stale = |folder, name: &str| Stale {
        tree: Tree::Secret,
        instance: number,
        folder,
        name: name.into(),
    };
    let folder = Ino::new(number, slot.entry, 0);
    let fields = slot
        .fields
        .iter()
        .map(|(field, _)| stale(folder, field.as_str()));
    let own = stale(Ino::instance_folder(number), slot.name.as_str());
    fields.chain(std::iter::once(own)).collect()
}

pub(super) fn ring(tree: Tree, instance: u32, path: &str) -> RingPath {
    RingPath {
        tree,
        path: PathBuf::from(instance.to_string()).join(path),
    }
}
