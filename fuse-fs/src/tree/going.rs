//! Names that are being taken away.
//!
//! The injector unlinks them, as watchers hear DELETE of a name that the kernel has. But an open of the
//! name that comes first makes the kernel forget it. So until a name is unlinked the injector's look-up
//! finds it, and nobody else's: nothing is opened or read by that, and the kernel remembers it not.

use std::collections::HashMap;
use std::sync::Mutex;

use store::{Shape, VersionMeta};
use sys::lock::lock;

use super::Views;
use super::ask::{Attr, Caller};
use super::instance::Instance;
use crate::inode::Ino;

/// By folder and name: what it led to, so that the unlink is one of the inode that watchers have.
#[derive(Default)]
pub(super) struct Going(Mutex<HashMap<(Ino, Box<str>), Attr>>);

impl Going {
    /// The names of a secret that led to files of `version` go.
    pub fn begin(&self, instance: &Instance, slot: usize, version: &VersionMeta) {
        let slot = &instance.slots[slot];
        let own = match version.shape() {
            Shape::Single => instance.version(slot.entry, version, None),
            Shape::Fields => Ok(instance.folder(Ino::new(instance.key.number, slot.entry, 0))),
        };
        let Ok(own) = own else { return };
        let mut all = lock(&self.0);
        for (field, entry) in slot.fields.iter().filter(|_| own.is_folder) {
            if let Ok(attr) = instance.version(*entry, version, Some(field)) {
                all.insert((own.ino, field.as_str().into()), attr);
            }
        }
        all.insert((instance.folder_of(slot), slot.name.as_str().into()), own);
    }

    /// The name is unlinked, or will not be. A folder's, which is not unlinked, goes with the last
    /// one in it.
    pub fn end(&self, folder: Ino, name: &str) {
        let mut all = lock(&self.0);
        if all.remove(&(folder, name.into())).is_some()
            && !all.keys().any(|(other, _)| *other == folder)
        {
            all.retain(|_, attr| attr.ino != folder);
        }
    }

    /// An instance has ended.
    pub fn end_all(&self, instance: u32) {
        lock(&self.0).retain(|(folder, _), _| folder.instance() != instance);
    }

    fn find(&self, folder: Ino, name: &str) -> Option<Attr> {
        lock(&self.0).get(&(folder, name.into())).copied()
    }
}

impl Views {
    /// What a name that is not shown any more led to, for who is about to unlink it: root, and not of
    /// the instance.
    pub(super) fn going_to(
        &self,
        caller: Caller,
        instance: &Instance,
        folder: Ino,
        name: &str,
    ) -> Option<Attr> {
        if caller.uid != 0 {
            return None;
        }
        let attr = self.going.find(folder, name)?;
        (!self.membership.belongs(caller.tid, &instance.key)).then_some(attr)
    }
}
