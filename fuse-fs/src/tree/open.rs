//! Opening and reading files.

use model::Tree;
use store::Permit;
use sys::lock::read;

use super::Views;
use super::ask::{Caller, OpenAs, Part, instance_of, readable, refusal, shown};
use super::instance::shows;
use super::retries::Second;
use super::witness::Asked;
use crate::errno::Refusal;
use crate::inode::Ino;
use crate::spec::{AccessKind, InstanceKey};

/// What the name of a file that is opened leads to.
struct Shown {
    /// `None`: the newest version has no such file.
    newest: Option<u32>,
    is_previous: bool,
    /// The kernel's second try of this open.
    second: Option<Second>,
}

impl Views {
    /// May `caller` read this version of a secret, and is it what the name leads to?
    pub(crate) fn open(&self, caller: Caller, ino: Ino) -> Result<OpenAs, Refusal> {
        let second = self.retries.end(caller.tid, ino);
        let (key, asked, newest, how, is_previous) = {
            let state = read(&self.state);
            let instance = instance_of(&state, ino).map_err(|_| Refusal::Superseded)?;
            let meaning = instance.meaning(ino.entry()).ok_or(Refusal::Superseded)?;
            let slot = &instance.slots[meaning.slot];
            let newest = match shown(&state, slot) {
                // Looking the name up again says ENOENT, which is what a program expects of a name. A
                // second try is not looked up again.
                Err(Refusal::NoEntry) if second.is_none() => return Err(Refusal::Superseded),
                Err(refusal) => Err(refusal),
                Ok(newest) => {
                    let there = shows(&newest.version, meaning.field.as_ref());
                    Ok(there.then_some(newest.version.number))
                }
            };
            let how = if slot.every_read {
                OpenAs::Direct
            } else {
                OpenAs::Cached
            };
            let asked = Asked::of(instance, slot, meaning.field.as_ref());
            (instance.key.clone(), asked, newest, how, slot.is_previous)
        };
        let answer = if self.is_sealed() {
            Err(Refusal::Sealed)
        } else {
            let shown = newest.map(|newest| Shown {
                newest,
                is_previous,
                second,
            });
            shown.and_then(|shown| self.opens(caller, ino, &key, &asked, &shown))
        };
        if answer == Err(Refusal::Superseded) {
            self.retries.begin(caller.tid, ino);
        }
        self.witnessed(AccessKind::Open, caller, &asked, answer)?;
        Ok(how)
    }

    /// The version that `caller` gets, if the name leads it there.
    fn opens(
        &self,
        caller: Caller,
        ino: Ino,
        key: &InstanceKey,
        asked: &Asked,
        shown: &Shown,
    ) -> Result<u32, Refusal> {
        if !self.membership.belongs(caller.tid, key) {
            return Err(Refusal::Foreign);
        }
        let name = &asked.secret;
        let process = match asked.field {
            Some(_) if !shown.is_previous => self.membership.thread_group(caller.tid),
            _ => None,
        };
        let pinned = process
            .and_then(|process| self.pins.version(process, key.number, name, ino.entry()))
            .filter(|older| self.has_file(ino, *older));
        let leads_here = pinned.or(shown.newest) == Some(ino.version());
        // Nothing is looked up for the second try of a file that a process reopens in /proc/self/fd.
        let was_found = shown
            .second
            .is_some_and(|second| second.found.is_none_or(|found| found == ino));
        // A look-up gives what the store has by now if what is shown here is gone already.
        let is_newer = pinned.is_none() && shown.newest.is_some_and(|shown| shown < ino.version());
        if !leads_here && !((was_found || is_newer) && self.has_file(ino, ino.version())) {
            return Err(Refusal::Superseded);
        }
        if let Some(process) = process {
            let (entry, version) = (ino.entry(), ino.version());
            self.pins
                .opened(&self.store, process, key.number, name, entry, version);
        }
        Ok(ino.version())
    }

    /// May it still be read, and has that version the file? A process is led to another version than
    /// the newest only then.
    fn has_file(&self, ino: Ino, version: u32) -> bool {
        let state = read(&self.state);
        let has = || {
            let instance = instance_of(&state, ino)?;
            let meaning = instance.meaning(ino.entry()).ok_or(Refusal::NoEntry)?;
            let slot = &instance.slots[meaning.slot];
            let version = self.version(&state, slot, readable(&state, slot, version)?, version)?;
            Ok::<_, Refusal>(shows(&version, meaning.field.as_ref()))
        };
        has().unwrap_or(false)
    }

    /// Gives bytes of a file to `give`, which answers.
    pub(crate) fn read(
        &self,
        tree: Tree,
        caller: Caller,
        ino: Ino,
        Part { offset, size }: Part,
        give: impl FnOnce(Result<&[u8], Refusal>),
    ) {
        let part = |all: &[u8]| -> (usize, usize) {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
            (from, from.saturating_add(size as usize).min(all.len()))
        };
        if self.is_sealed() {
            return give(Err(Refusal::Sealed));
        }
        match tree {
            Tree::Config => {
                let state = read(&self.state);
                let value = instance_of(&state, ino).and_then(|instance| {
                    let value = instance.config.value(ino.entry(), ino.version());
                    value.ok_or(Refusal::Superseded)
                });
                drop(state);
                match value {
                    Ok(value) => {
                        let (from, to) = part(value.as_bytes());
                        give(Ok(&value.as_bytes()[from..to]));
                    }
                    Err(refusal) => give(Err(refusal)),
                }
            }
            Tree::Secret => match self.secret_value(caller, ino) {
                Ok(value) => {
                    let (from, to) = part(&value);
                    give(Ok(&value[from..to]));
                }
                Err(refusal) => give(Err(refusal)),
            },
        }
    }

    fn secret_value(&self, caller: Caller, ino: Ino) -> Result<store::Opened, Refusal> {
        let (permit, field, each) = {
            let state = read(&self.state);
            let instance = instance_of(&state, ino).map_err(|_| Refusal::Revoked)?;
            let meaning = instance.meaning(ino.entry()).ok_or(Refusal::Revoked)?;
            let slot = &instance.slots[meaning.slot];
            let permit = readable(&state, slot, ino.version()).cloned();
            // Read by read, a descriptor that was passed on is refused to others.
            let each = slot.every_read.then(|| {
                let asked = Asked::of(instance, slot, meaning.field.as_ref());
                (instance.key.clone(), asked)
            });
            (permit, meaning.field.clone(), each)
        };
        let open = |permit: Permit| {
            let value = self
                .store
                .open_value(&permit, ino.version(), field.as_ref());
            value.map_err(refusal)
        };
        let Some((key, asked)) = each else {
            return open(permit?);
        };
        let mut value = Err(Refusal::Foreign);
        if self.membership.belongs(caller.tid, &key) {
            value = permit.and_then(open);
        }
        let answer = value
            .as_ref()
            .map(|_| ino.version())
            .map_err(|refusal| *refusal);
        self.witnessed(AccessKind::Read, caller, &asked, answer)?;
        value
    }
}
