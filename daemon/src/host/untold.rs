//! Changes that the kernel, and the watchers, have not been told of yet, in memory that outlives this
//! process.
//!
//! A secretsd may die when a change is on the disk, and before the kernel was told. So the names that
//! are about to change are noted first; the next secretsd finds them, and tells of what they are now.
//! Each tree has its own notes, in the memfd that is handed over with its connection: if that is lost,
//! so is what the kernel had cached of it.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 131072 | 8 | the length of what follows, in the host's byte order |
//! | 131080 | | the names as JSON; `null`, or anything that is none of both: there may be any number |

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use model::{ConfigName, SecretName, Tree};
use sys::lock::lock;

use super::{Host, ourselves};

/// Beyond what fuse-fs keeps there.
const OFFSET: u64 = 128 * 1024;
/// More is noted as "any".
const ROOM: usize = 64 * 1024;

/// Names that are being changed.
#[derive(Debug, Default)]
pub(super) struct Untold {
    secret: Mutex<Notes>,
    config: Mutex<Notes>,
    /// What a process before us has left.
    left: Mutex<Vec<Left>>,
}

#[derive(Debug, Default)]
struct Notes {
    memfd: Option<OwnedFd>,
    /// By the number of each note.
    under_way: BTreeMap<u64, Names>,
    next: u64,
}

/// Names of secrets, or of configs; `None`: any of them.
type Names = Option<Vec<String>>;

/// The change is under way until this is dropped, or the process ends.
#[must_use = "the change is not under way any more when this is dropped"]
pub(super) struct Noted<'a> {
    notes: &'a Mutex<Notes>,
    number: u64,
}

/// What is to be told again; noted until that is done.
#[derive(Debug, PartialEq)]
struct Left {
    tree: Tree,
    names: Names,
    number: u64,
}

impl Untold {
    fn of(&self, tree: Tree) -> &Mutex<Notes> {
        match tree {
            Tree::Secret => &self.secret,
            Tree::Config => &self.config,
        }
    }

    /// Names are about to change.
    pub fn note<'a, T: ToString + 'a>(
        &self,
        tree: Tree,
        names: impl IntoIterator<Item = &'a T>,
    ) -> Noted<'_> {
        let names = names.into_iter().map(ToString::to_string).collect();
        let notes = self.of(tree);
        let number = lock(notes).begin(Some(names));
        Noted { notes, number }
    }

    /// Keeps notes in a connection's memfd from now on, and those that the process before has left
    /// there.
    pub fn take_over(&self, tree: Tree, memfd: OwnedFd) {
        let names = load(&memfd);
        let notes = self.of(tree);
        let mut notes = lock(notes);
        notes.memfd = Some(memfd);
        if names.as_ref().is_none_or(|names| !names.is_empty()) {
            let number = notes.begin(names.clone());
            let left = Left {
                tree,
                names,
                number,
            };
            lock(&self.left).push(left);
        } else {
            // What is under way already, if this connection is in place of one that was lost.
            notes.write();
        }
    }
}

impl Host {
    /// Tells the kernel, and watchers, of changes that a secretsd before us has left; while the store
    /// is sealed nobody knows what became of them.
    pub(super) fn tell_what_is_untold(&self) {
        let Some([secrets, configs]) = self.all_names() else {
            return;
        };
        let left = std::mem::take(&mut *lock(&self.untold.left));
        for one in left {
            let touched = match one.tree {
                Tree::Secret => {
                    let names: Vec<SecretName> =
                        parsed(one.names.unwrap_or_else(|| secrets.clone()));
                    log::info!("tells of {} secrets that were being changed", names.len());
                    self.views.secrets_may_have_changed(&names)
                }
                Tree::Config => {
                    let names: Vec<ConfigName> =
                        parsed(one.names.unwrap_or_else(|| configs.clone()));
                    log::info!("tells of {} configs that were being changed", names.len());
                    self.views.configs_may_have_changed(&names)
                }
            };
            self.tell(touched, Vec::new());
            lock(self.untold.of(one.tree)).end(one.number);
        }
    }

    /// Of all secrets and of all configs; `None` while the store is sealed.
    fn all_names(&self) -> Option<[Vec<String>; 2]> {
        let us = ourselves()?;
        let secrets = self.store.list(&us, "").ok()?.into_iter();
        let configs = self.store.config_list(&us, "").ok()?.into_iter();
        Some([
            secrets.map(|one| one.name.to_string()).collect(),
            configs.map(|one| one.name.to_string()).collect(),
        ])
    }
}

fn parsed<T: std::str::FromStr>(names: Vec<String>) -> Vec<T> {
    let names = names.into_iter();
    names.filter_map(|name| name.parse().ok()).collect()
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        lock(self.notes).end(self.number);
    }
}

impl Notes {
    fn begin(&mut self, names: Names) -> u64 {
        let number = self.next;
        self.next += 1;
        self.under_way.insert(number, names);
        self.write();
        number
    }

    fn end(&mut self, number: u64) {
        self.under_way.remove(&number);
        self.write();
    }

    fn write(&self) {
        let Some(memfd) = &self.memfd else {
            return;
        };
        let all: Option<Vec<&String>> = self
            .under_way
            .values()
            .map(Option::as_ref)
            .collect::<Option<Vec<_>>>()
            .map(|names| names.into_iter().flatten().collect());
        let text = serde_json::to_vec(&all).ok();
        let text = text.filter(|text| text.len() <= ROOM);
        let text = text.unwrap_or_else(|| b"null".to_vec());
        let kept = [&(text.len() as u64).to_ne_bytes(), &*text].concat();
        // A change goes on without: it is of use only if we die in it.
        if let Err(error) = rustix::io::pwrite(memfd, &kept, OFFSET) {
            log::warn!("what is being changed cannot be noted: {error}");
        }
    }
}

fn load(memfd: &OwnedFd) -> Names {
    let mut kept = vec![0; ROOM + size_of::<u64>()];
    let length = rustix::io::pread(memfd, &mut kept[..], OFFSET).ok()?;
    let Some((size, text)) = kept[..length].split_first_chunk() else {
        // Of a new connection, or of an earlier version.
        return Some(Vec::new());
    };
    match usize::try_from(u64::from_ne_bytes(*size)).ok()? {
        0 => Some(Vec::new()),
        size => serde_json::from_slice(text.get(..size)?).ok()?,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::fs::MemfdFlags;

    fn memfd() -> OwnedFd {
        rustix::fs::memfd_create("t", MemfdFlags::CLOEXEC).unwrap()
    }

    /// What a process finds that dies before it has told of it.
    fn left(memfd: &OwnedFd) -> Option<Names> {
        let next = Untold::default();
        next.take_over(Tree::Secret, memfd.try_clone().unwrap());
        let left = lock(&next.left).pop();
        left.map(|left| left.names)
    }

    fn names(names: &[&str]) -> Option<Names> {
        Some(Some(names.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn the_next_one_finds_what_was_under_way_until_it_has_told() {
        let memfd = memfd();
        assert_eq!(left(&memfd), None);
        let ours = Untold::default();
        ours.take_over(Tree::Secret, memfd.try_clone().unwrap());
        let [first, second] = [&["a", "b"][..], &["c"]].map(|names| ours.note(Tree::Secret, names));
        drop(second);
        let elsewhere = ours.note(Tree::Config, &["d"]);
        assert_eq!(left(&memfd), names(&["a", "b"]));
        // And the one after, if that one dies too.
        assert_eq!(left(&memfd), names(&["a", "b"]));
        drop((first, elsewhere));
        assert_eq!(left(&memfd), None);
    }

    #[test]
    fn what_is_under_way_is_noted_for_a_new_connection_too() {
        let [lost, new] = [memfd(), memfd()];
        let ours = Untold::default();
        ours.take_over(Tree::Secret, lost);
        let noted = ours.note(Tree::Secret, &["a"]);
        ours.take_over(Tree::Secret, new.try_clone().unwrap());
        assert_eq!(left(&new), names(&["a"]));
        drop(noted);
        assert_eq!(left(&new), None);
    }

    #[test]
    fn what_is_too_long_or_damaged_is_any() {
        let memfd = memfd();
        let ours = Untold::default();
        ours.take_over(Tree::Secret, memfd.try_clone().unwrap());
        let long = vec!["a".repeat(64); 1100];
        let noted = ours.note(Tree::Secret, &long);
        assert_eq!(left(&memfd), Some(None));
        drop(noted);
        assert_eq!(left(&memfd), None);
        rustix::io::pwrite(&memfd, &9_u64.to_ne_bytes(), OFFSET).unwrap();
        assert_eq!(left(&memfd), Some(None));
    }
}
