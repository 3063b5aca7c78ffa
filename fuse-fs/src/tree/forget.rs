//! Telling the kernel what it must forget, and the injector whom to wake.
//!
//! Inodes first and names last: the first needs no lock of a folder and is the barrier of a
//! revocation; the second may be held up by a service, and nothing depends on it, because an open
//! by an old name is answered with "look again".

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use model::{SecretName, ServiceName, Tree};
use store::VersionMeta;
use sys::lock::read;

use super::ask::{instance_of, shown};
use super::instance::Instance;
use super::{State, Views};
use crate::errno::Refusal;
use crate::inode::Ino;
use crate::spec::{Gone, RingPath, Touched};

/// A revoke is done before names are forgotten: this is for listings alone.
const SHORT_PATIENCE: Duration = Duration::from_millis(200);

/// A name that the kernel has to forget.
#[derive(Debug)]
pub(crate) struct Stale {
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

    /// Older versions of a secret that instances hold open or mapped, as the kernel says. Nothing else
    /// keeps an inode that no name leads to.
    pub fn held(&self, name: &SecretName) -> Vec<(u32, u32)> {
        let asked: Vec<Ino> = {
            let state = read(&self.state);
            let newest = state.newest.get(name).map_or(0, |one| one.version.number);
            let instances = state.instances.values();
            let of_instance = |instance: &Instance| {
                let slot = instance.slot(name.as_str())?;
                let permit = instance.slots[slot].permit.as_ref()?;
                let there = |ino: &Ino| self.store.version(permit, ino.version()).is_ok();
                let live = self.live_versions(instance, slot, newest).into_iter();
                let older = live.filter(|ino| ino.version() != 0 && ino.version() != newest);
                Some(older.filter(there).collect::<Vec<_>>())
            };
            instances.filter_map(of_instance).flatten().collect()
        };
        let Some(kernel) = read(self.kernel(Tree::Secret)).clone() else {
            return Vec::new();
        };
        let is_there = |ino: &Ino| kernel.holds(*ino);
        let mut held: Vec<_> = asked
            .into_iter()
            .filter(is_there)
            .map(|ino| (ino.instance(), ino.version()))
            .collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    /// Wakes watchers of the name and of its folder; and, as a watch stays with its inode, watchers
    /// of each older version.
    pub(super) fn ring_secret(
        &self,
        instance: &Instance,
        slot: usize,
        newest: &VersionMeta,
        touched: &mut Touched,
    ) {
        let number = instance.key.number;
        let slot_name = instance.slots[slot].path();
        touched
            .rings
            .extend(newest.sizes.iter().map(|(field, _)| match field {
                None => ring(Tree::Secret, number, &slot_name),
                Some(field) => ring(Tree::Secret, number, &format!("{slot_name}/{field}")),
            }));
        let permit = instance.slots[slot].permit.as_ref();
        let is_there =
            |version| permit.is_some_and(|permit| self.store.version(permit, version).is_ok());
        self.live_versions(instance, slot, newest.number)
            .into_iter()
            .filter(|ino| ino.version() != 0 && ino.version() != newest.number)
            // Of what another secretsd gave out, only what the store still has can be watched.
            .filter(|ino| !instance.inherited || is_there(ino.version()))
            .for_each(|ino| ring_alias(Tree::Secret, ino, touched));
    }

    /// Every inode that the kernel may hold of a tree.
    pub(super) fn all_live(&self, state: &State, tree: Tree) -> Vec<Ino> {
        let instances = state.instances.values();
        instances
            .flat_map(|instance| self.live_of(state, instance, tree))
            .collect()
    }

    /// The same of one instance.
    pub(super) fn live_of(&self, state: &State, instance: &Instance, tree: Tree) -> Vec<Ino> {
        match tree {
            Tree::Secret => {
                let of_slot = |slot: usize| {
                    let newest = state.newest.get(&instance.slots[slot].name);
                    let newest = newest.map_or(0, |newest| newest.version.number);
                    self.live_versions(instance, slot, newest)
                };
                (0..instance.slots.len()).flat_map(of_slot).collect()
            }
            Tree::Config => {
                let number = instance.key.number;
                let mut inodes = self.config_inodes.of_instance(number);
                inodes.extend(instance.config.list().filter_map(|key| {
                    let (entry, version) = instance.config.find(key)?;
                    Some(Ino::new(number, entry, version))
                }));
                inodes
            }
        }
    }

    /// The second half of taking names away, after the injector has unlinked them, or could not.
    /// Gives the instances that kept us waiting for too long.
    pub fn forget_gone(&self, gone: Gone) -> Vec<(u32, ServiceName)> {
        let instances = self.forget_names(gone.0);
        self.wait_for_names(&instances, SHORT_PATIENCE)
    }

    /// May a name be unlinked through the master mount? Only one that is not shown: the kernel and
    /// its watchers learn what is so already.
    pub(crate) fn unlink(&self, tree: Tree, parent: Ino, name: &OsStr) -> Result<(), Refusal> {
        let name = name.to_str().ok_or(Refusal::NoEntry)?;
        if tree == Tree::Secret {
            self.going.end(parent, name);
        }
        let state = read(&self.state);
        let instance = instance_of(&state, parent)?;
        let is_shown = match tree {
            Tree::Secret if parent == Ino::instance_folder(instance.key.number) => {
                let slot = instance.slot(name).ok_or(Refusal::NoEntry)?;
                instance.slots[slot].is_shown()
            }
            Tree::Secret if instance.previous == Some(parent.entry()) => {
                let slot = instance.previous_slot(name).ok_or(Refusal::NoEntry)?;
                shown(&state, &instance.slots[slot]).is_ok()
            }
            Tree::Secret => {
                let meaning = instance.meaning(parent.entry()).ok_or(Refusal::NoEntry)?;
                shown(&state, &instance.slots[meaning.slot]).is_ok()
            }
            Tree::Config => {
                let key = name.parse().map_err(|_| Refusal::NoEntry)?;
                instance.config.find(&key).is_some()
            }
        };
        if is_shown || self.is_sealed() {
            return Err(Refusal::ReadOnly);
        }
        Ok(())
    }

    /// Drops pages, mappings and attributes: the barrier of a revocation. Needs no lock of a folder.
    pub(super) fn forget_inodes(&self, tree: Tree, inodes: &[Ino]) {
        let Some(kernel) = read(self.kernel(tree)).clone() else {
            return;
        };
        if let Err(error) = kernel.forget_inodes(inodes) {
            log::warn!(
                "not all of {} inodes are invalidated: {error}",
                inodes.len()
            );
        }
    }

    /// Begins to drop names; gives the instances that they are of.
    pub(super) fn forget_names(&self, stale: Vec<Stale>) -> Vec<u32> {
        let mut instances: Vec<u32> = stale.iter().map(|one| one.instance).collect();
        instances.sort_unstable();
        instances.dedup();
        for one in stale {
            let Some(kernel) = read(self.kernel(one.tree)).clone() else {
                continue;
            };
            self.pool.submit(one.instance, move || {
                if let Err(error) = kernel.forget_name(one.folder, &one.name) {
                    log::warn!(
                        "a name of instance {} is not invalidated: {error}",
                        one.instance
                    );
                }
            });
        }
        instances
    }

    /// Waits until names are dropped; gives the instances that kept us waiting for too long. To be
    /// called without any lock: they delay no other change.
    pub(super) fn wait_for_names(
        &self,
        instances: &[u32],
        patience: Duration,
    ) -> Vec<(u32, ServiceName)> {
        let stuck = self.pool.wait(instances, patience);
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
    let own = stale(instance.folder_of(slot), slot.name.as_str());
    fields.chain(std::iter::once(own)).collect()
}

/// The files of a secret, as the injector unlinks them. A folder stays: see the adapter's `rmdir`.
pub(super) fn unlinks_of(instance: &Instance, slot: usize) -> Vec<RingPath> {
    let number = instance.key.number;
    let slot = &instance.slots[slot];
    let name = slot.path();
    if slot.fields.is_empty() {
        return vec![ring(Tree::Secret, number, &name)];
    }
    let fields = slot.fields.iter();
    fields
        .map(|(field, _)| ring(Tree::Secret, number, &format!("{name}/{field}")))
        .collect()
}

pub(super) fn ring(tree: Tree, instance: u32, path: &str) -> RingPath {
    RingPath {
        tree,
        path: PathBuf::from(instance.to_string()).join(path),
    }
}

/// Wakes watchers of an inode that no name leads to any more. Afterwards the name by which the
/// injector has found it must go, or the kernel keeps the inode for it, and the store the version.
pub(super) fn ring_alias(tree: Tree, ino: Ino, touched: &mut Touched) {
    let name = ino.0.to_string();
    touched.rings.push(RingPath {
        tree,
        path: PathBuf::from(".inode").join(&name),
    });
    touched.gone.0.push(Stale {
        tree,
        instance: ino.instance(),
        folder: Ino::ALIAS,
        name: name.into(),
    });
}
