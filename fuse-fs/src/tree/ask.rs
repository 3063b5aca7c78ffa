//! What a handler may ask: each answer is made from the state and the permits as they are now.

use std::ffi::OsStr;
use std::sync::Arc;

use model::{ConfigKey, FieldName, SecretName, Timestamp, Tree};
use store::{Permit, ReadError, Shape, Standing, VersionMeta};
use sys::lock::read;

use super::instance::{Instance, PREVIOUS, Slot, shows};
use super::{Newest, State, Views};
use crate::errno::Refusal;
use crate::inode::Ino;

/// The longest name, as everywhere on Linux.
pub(crate) const NAME_MAX: usize = 255;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub uid: u32,
    pub tid: u32,
    /// The number of its request, as the kernel gives it.
    pub unique: u64,
}

/// How a file is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenAs {
    /// Its reads are the page cache's.
    Cached,
    /// Each read comes to us.
    Direct,
}

/// Which bytes are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub offset: u64,
    pub size: u32,
}

/// How long the kernel may go on without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ttl {
    /// Until it is told otherwise.
    Long,
    /// Not at all.
    Zero,
    /// Not at all, and what stat(2) shows neither: it is shown to nobody else.
    Going,
}

/// What stat(2) shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attr {
    pub ino: Ino,
    pub is_folder: bool,
    pub size: u64,
    pub changed: Timestamp,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
}

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub attr: Attr,
    pub ttl: Ttl,
}

impl Views {
    /// Looks a name up, and counts the look-up that the kernel will give back.
    pub(crate) fn lookup(
        &self,
        tree: Tree,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
    ) -> Result<Node, Refusal> {
        if name.len() > NAME_MAX {
            return Err(Refusal::TooLong);
        }
        let name = name.to_str().ok_or(Refusal::NoEntry)?;
        let state = read(&self.state);
        match parent {
            // Only the injector and systemd have business here.
            Ino::ROOT | Ino::ALIAS if caller.uid != 0 => Err(Refusal::NoEntry),
            Ino::ROOT if name == ".inode" => Ok(node(master_folder(Ino::ALIAS), Ttl::Long)),
            Ino::ROOT => {
                let number = name.parse().map_err(|_| Refusal::NoEntry)?;
                let instance = state.instances.get(&number).ok_or(Refusal::NoEntry)?;
                if name != number.to_string() {
                    return Err(Refusal::NoEntry);
                }
                let folder = instance.folder(Ino::instance_folder(number));
                self.inodes(tree).look_up(folder.ino, None);
                // Asked for again at each mount of it, so that what is mounted is there.
                Ok(node(folder, Ttl::Zero))
            }
            Ino::ALIAS => {
                let ino = Ino(name.parse().map_err(|_| Refusal::NoEntry)?);
                let attr = self.attr_of(&state, tree, ino)?;
                self.count(tree, &state, ino)?;
                Ok(node(attr, Ttl::Zero))
            }
            _ if self.is_sealed() => {
                if let (Tree::Secret, Ok(instance)) = (tree, instance_of(&state, parent)) {
                    self.witness_absent(caller, instance, name, Refusal::Sealed);
                }
                Err(Refusal::Sealed)
            }
            _ => {
                let instance = instance_of(&state, parent)?;
                if tree == Tree::Config {
                    let attr = config_attr(instance, parent, name)?;
                    self.count(tree, &state, attr.ino)?;
                    return Ok(node(attr, Ttl::Long));
                }
                let found = self.secret_attr(&state, instance, caller, parent, name);
                if found == Err(Refusal::NoEntry)
                    && let Some(attr) = self.going_to(caller, instance, parent, name)
                {
                    self.inodes(tree).look_up(attr.ino, None);
                    return Ok(node(attr, Ttl::Going));
                }
                let (attr, ttl) = found.inspect_err(|refusal| {
                    if parent == Ino::instance_folder(instance.key.number) {
                        self.witness_absent(caller, instance, name, *refusal);
                    }
                })?;
                let attr = self.count_newest(&state, instance, attr)?;
                self.retries.found(caller.tid, attr.ino);
                Ok(node(attr, ttl))
            }
        }
    }

    /// Counts a look-up of the link to an instance's folder.
    pub(crate) fn link(&self, tree: Tree, number: u32) -> Result<Attr, Refusal> {
        let link = self.attr(tree, Ino::link(number))?;
        self.inodes(tree).look_up(link.ino, None);
        Ok(link)
    }

    /// Counts a look-up of an inode, and keeps the version of a secret for it.
    fn count(&self, tree: Tree, state: &State, ino: Ino) -> Result<(), Refusal> {
        let name = match tree {
            Tree::Secret if ino.version() != 0 => {
                let instance = instance_of(state, ino)?;
                let meaning = instance.meaning(ino.entry()).ok_or(Refusal::NoEntry)?;
                Some(&instance.slots[meaning.slot].name)
            }
            _ => None,
        };
        // A version that has just gone: the name leads to a newer one by now.
        let there = self
            .inodes(tree)
            .look_up(ino, name.map(|name| (&self.store, name)));
        if there {
            Ok(())
        } else {
            Err(Refusal::Superseded)
        }
    }

    /// Counts a look-up of what a secret's name leads to. If that version has just gone, that is what
    /// the store has by now: the kernel would say ESTALE to the program the second time.
    fn count_newest(
        &self,
        state: &State,
        instance: &Instance,
        mut attr: Attr,
    ) -> Result<Attr, Refusal> {
        loop {
            match self.count(Tree::Secret, state, attr.ino) {
                Err(Refusal::Superseded) => {}
                counted => return counted.map(|()| attr),
            }
            let entry = attr.ino.entry();
            let meaning = instance.meaning(entry).ok_or(Refusal::NoEntry)?;
            let slot = &instance.slots[meaning.slot];
            if slot.is_previous {
                return Err(Refusal::NoEntry);
            }
            let secret = self.store.secret(standing(slot)?).map_err(refusal)?;
            let newer = instance.version(entry, secret.newest(), meaning.field.as_ref())?;
            if newer.ino == attr.ino {
                return Err(Refusal::Superseded);
            }
            attr = newer;
        }
    }

    /// The kernel gives look-ups back.
    pub(crate) fn forget(&self, tree: Tree, ino: Ino, count: u64) {
        self.inodes(tree).forget(&self.store, ino, count);
    }

    /// What stat(2) shows of an inode.
    pub(crate) fn attr(&self, tree: Tree, ino: Ino) -> Result<Attr, Refusal> {
        self.attr_of(&read(&self.state), tree, ino)
    }

    fn attr_of(&self, state: &State, tree: Tree, ino: Ino) -> Result<Attr, Refusal> {
        if ino == Ino::ROOT || ino == Ino::ALIAS {
            return Ok(master_folder(ino));
        }
        let instance = instance_of(state, ino)?;
        if ino.version() == 0 {
            return Ok(instance.folder(ino));
        }
        if ino.is_link() {
            return Ok(Attr {
                is_folder: false,
                size: ino.instance().to_string().len() as u64,
                mode: 0o777,
                ..master_folder(ino)
            });
        }
        if self.is_sealed() {
            return Err(Refusal::Sealed);
        }
        match tree {
            Tree::Config => {
                let value = instance.config.value(ino.entry(), ino.version());
                let value = value.ok_or(Refusal::Superseded)?;
                Ok(instance.file(ino, value.len() as u64, instance.config.changed()))
            }
            Tree::Secret => {
                let meaning = instance.meaning(ino.entry()).ok_or(Refusal::Superseded)?;
                let slot = &instance.slots[meaning.slot];
                let permit = readable(state, slot, ino.version())?;
                let version = self.version(state, slot, permit, ino.version())?;
                let size = version
                    .size_of(meaning.field.as_ref())
                    .ok_or(Refusal::Superseded)?;
                Ok(instance.secret_file(slot, ino, size, version.created))
            }
        }
    }

    /// A version of a secret that may be an old one.
    pub(super) fn version(
        &self,
        state: &State,
        slot: &Slot,
        permit: &Permit,
        number: u32,
    ) -> Result<VersionMeta, Refusal> {
        match state.newest.get(&slot.name) {
            Some(newest) if newest.version.number == number => Ok(newest.version.clone()),
            _ => self.store.version(permit, number).map_err(refusal),
        }
    }

    fn secret_attr(
        &self,
        state: &State,
        instance: &Instance,
        caller: Caller,
        parent: Ino,
        name: &str,
    ) -> Result<(Attr, Ttl), Refusal> {
        let number = instance.key.number;
        let previous = instance.previous.map(|entry| Ino::new(number, entry, 0));
        if parent == Ino::instance_folder(number) || Some(parent) == previous {
            if let Some(folder) = previous.filter(|_| name == PREVIOUS && Some(parent) != previous)
            {
                return Ok((instance.folder(folder), Ttl::Long));
            }
            let slot = match Some(parent) == previous {
                true => instance.previous_slot(name),
                false => instance.slot(name),
            };
            let slot = &instance.slots[slot.ok_or(Refusal::NoEntry)?];
            let newest = shown(state, slot)?;
            let attr = match newest.version.shape() {
                Shape::Fields => instance.folder(Ino::new(number, slot.entry, 0)),
                Shape::Single => instance.version(slot.entry, &newest.version, None)?,
            };
            return Ok((attr, Ttl::Long));
        }
        let meaning = instance.meaning(parent.entry()).ok_or(Refusal::NoEntry)?;
        if parent.version() != 0 || meaning.field.is_some() {
            return Err(Refusal::NotFolder);
        }
        let slot = &instance.slots[meaning.slot];
        let newest = shown(state, slot)?;
        let field: FieldName = name.parse().map_err(|_| Refusal::NoEntry)?;
        let entry = slot.field(&field).ok_or(Refusal::NoEntry)?;
        // The name leads this one process, for a moment, to an older version.
        let pinned = match slot.is_previous {
            true => None,
            false => self.pinned(caller, number, &slot.name, entry),
        };
        if let Some(older) = pinned.filter(|older| *older != newest.version.number)
            && let Ok(version) = self.version(state, slot, standing(slot)?, older)
            && shows(&version, Some(&field))
        {
            return Ok((instance.version(entry, &version, Some(&field))?, Ttl::Zero));
        }
        Ok((
            instance.version(entry, &newest.version, Some(&field))?,
            Ttl::Long,
        ))
    }

    fn pinned(&self, caller: Caller, instance: u32, name: &SecretName, entry: u16) -> Option<u32> {
        let process = self.membership.thread_group(caller.tid)?;
        self.pins.version(process, instance, name, entry)
    }
}

fn config_attr(instance: &Instance, parent: Ino, name: &str) -> Result<Attr, Refusal> {
    if parent != Ino::instance_folder(instance.key.number) {
        return Err(Refusal::NotFolder);
    }
    let key: ConfigKey = name.parse().map_err(|_| Refusal::NoEntry)?;
    let (entry, version) = instance.config.find(&key).ok_or(Refusal::NoEntry)?;
    let value = instance
        .config
        .value(entry, version)
        .ok_or(Refusal::NoEntry)?;
    let ino = Ino::new(instance.key.number, entry, version);
    Ok(instance.file(ino, value.len() as u64, instance.config.changed()))
}

pub(super) fn instance_of(state: &State, ino: Ino) -> Result<&Instance, Refusal> {
    state.instances.get(&ino.instance()).ok_or(Refusal::NoEntry)
}

fn master_folder(ino: Ino) -> Attr {
    Attr {
        ino,
        is_folder: true,
        size: 0,
        changed: Timestamp(0),
        uid: 0,
        gid: 0,
        mode: 0o700,
    }
}

fn node(attr: Attr, ttl: Ttl) -> Node {
    Node { attr, ttl }
}

/// What a name leads to, if it is shown.
pub(super) fn shown<'a>(state: &'a State, slot: &Slot) -> Result<&'a Newest, Refusal> {
    let versions = match slot.is_previous {
        true => &state.previous,
        false => &state.newest,
    };
    match standing(slot) {
        Ok(_) => versions
            .get(&slot.name)
            .map(Arc::as_ref)
            .ok_or(Refusal::NoEntry),
        Err(Refusal::Sealed) => Err(Refusal::Sealed),
        Err(_) => Err(Refusal::NoEntry),
    }
}

/// The permit, for a version that is open already: of previous ones, that is the one whose grace lasts.
pub(super) fn readable<'a>(
    state: &State,
    slot: &'a Slot,
    version: u32,
) -> Result<&'a Permit, Refusal> {
    let permit = standing(slot)?;
    let is = |previous: &Arc<Newest>| previous.version.number == version;
    if slot.is_previous && !state.previous.get(&slot.name).is_some_and(is) {
        return Err(Refusal::Revoked);
    }
    Ok(permit)
}

/// The permit, for what is open already.
fn standing(slot: &Slot) -> Result<&Permit, Refusal> {
    let permit = slot.permit.as_ref().ok_or(Refusal::Revoked)?;
    match permit.standing() {
        Standing::Valid => Ok(permit),
        Standing::Sealed => Err(Refusal::Sealed),
        Standing::Revoked | Standing::Expired => Err(Refusal::Revoked),
    }
}

pub(super) fn refusal(error: ReadError) -> Refusal {
    match error {
        ReadError::Sealed => Refusal::Sealed,
        // A version that is gone was taken away: `keep` is 0, or the secret was deleted.
        ReadError::Revoked | ReadError::Expired | ReadError::NoVersion(..) => Refusal::Revoked,
        ReadError::NoField(..) => Refusal::Superseded,
        error => {
            log::error!("{error}");
            Refusal::Unreadable
        }
    }
}
