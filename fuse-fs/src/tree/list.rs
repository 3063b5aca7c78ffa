//! Listings of folders.

use std::sync::Arc;

use model::Tree;
use store::Shape;
use sys::lock::read;

use super::Views;
use super::ask::{Caller, instance_of, shown};
use super::instance::PREVIOUS;
use crate::errno::Refusal;
use crate::inode::Ino;

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub name: Arc<str>,
    pub ino: Ino,
    pub is_folder: bool,
    /// Where a listing goes on after this one.
    pub next: u64,
}

/// The first two places of a listing are `.` and `..`.
const DOTS: u64 = 2;

impl Views {
    /// Names of a folder from place `from` on. `.` and `..` are not among them, and have the places
    /// before the first.
    pub(crate) fn list(
        &self,
        tree: Tree,
        caller: Caller,
        folder: Ino,
        from: u64,
    ) -> Result<Vec<Listed>, Refusal> {
        let state = read(&self.state);
        if folder == Ino::ROOT || folder == Ino::ALIAS {
            if caller.uid != 0 {
                return Err(Refusal::Foreign);
            }
            return Ok(Vec::new());
        }
        if self.is_sealed() {
            return Err(Refusal::Sealed);
        }
        let instance = instance_of(&state, folder)?;
        let after = usize::try_from(from.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        let listed = |(at, name, ino): (usize, &str, Ino)| Listed {
            name: name.into(),
            ino,
            is_folder: ino.version() == 0,
            next: DOTS + at as u64 + 1,
        };
        if tree == Tree::Config {
            let keys = instance.config.list().enumerate().skip(after);
            let found = keys.filter_map(|(at, key)| {
                let (entry, version) = instance.config.find(key)?;
                Some((
                    at,
                    key.as_str(),
                    Ino::new(instance.key.number, entry, version),
                ))
            });
            return Ok(found.map(listed).collect());
        }
        let number = instance.key.number;
        let previous = instance.previous.map(|entry| Ino::new(number, entry, 0));
        if folder == Ino::instance_folder(number) || Some(folder) == previous {
            let is_previous = Some(folder) == previous;
            let slots = instance.slots.iter().enumerate();
            let found = slots.filter_map(|(at, slot)| {
                let version = &shown(&state, slot).ok()?.version;
                // The folder of previous ones is listed with the first of them that it holds.
                if slot.is_previous && !is_previous {
                    return previous.map(|folder| (at, PREVIOUS, folder));
                }
                let version = match version.shape() {
                    Shape::Fields => 0,
                    Shape::Single => version.number,
                };
                let ino = Ino::new(number, slot.entry, version);
                (slot.is_previous == is_previous).then_some((at, slot.name.as_str(), ino))
            });
            let mut found: Vec<_> = found.collect();
            found.dedup_by(|one, other| one.2 == other.2);
            let rest = found.into_iter().filter(|(at, ..)| *at >= after);
            return Ok(rest.map(listed).collect());
        }
        let meaning = instance.meaning(folder.entry()).ok_or(Refusal::NoEntry)?;
        let slot = &instance.slots[meaning.slot];
        let version = &shown(&state, slot)?.version;
        let fields = version.sizes.iter().enumerate().skip(after);
        let found = fields.filter_map(|(at, (field, _))| {
            let field = field.as_ref()?;
            let entry = slot.field(field)?;
            Some((
                at,
                field.as_str(),
                Ino::new(instance.key.number, entry, version.number),
            ))
        });
        Ok(found.map(listed).collect())
    }
}
