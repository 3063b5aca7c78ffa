//! Which inodes the kernel holds: a revocation has to reach every one of them.
//!
//! The kernel counts its look-ups of an inode and gives the count back with FORGET when it drops
//! the inode. A version that it holds may be mapped or open, so the store is told to keep it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use model::SecretName;
use store::Store;
use sys::lock::lock;

use crate::inode::Ino;

#[derive(Debug, Default)]
struct Lookups {
    count: u64,
    /// The secret of which the store keeps this version for us.
    held: Option<SecretName>,
}

/// The inodes of one tree that the kernel holds, as far as this process has given them out.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<BTreeMap<Ino, Lookups>>);

impl Live {
    /// The kernel is about to be told of `ino`. For a version of a secret: false if there is no such
    /// version any more, and nothing is counted.
    pub fn look_up(&self, ino: Ino, version_of: Option<(&Store, &SecretName)>) -> bool {
        let mut table = lock(&self.0);
        if let Some(lookups) = table.get_mut(&ino)
            && (lookups.held.is_some() || version_of.is_none())
        {
            lookups.count += 1;
            return true;
        }
        let held = match version_of {
            Some((store, name)) => {
                if !store.hold(name, ino.version()) {
                    return false;
                }
                Some(name.clone())
            }
            None => None,
        };
        let lookups = table.entry(ino).or_default();
        lookups.count += 1;
        lookups.held = held;
        true
    }

    /// The kernel gives `count` look-ups back. An inode that another secretsd gave out is not in
    /// the table, and then there is nothing to do.
    pub fn forget(&self, store: &Store, ino: Ino, count: u64) {
        let mut table = lock(&self.0);
        let Some(lookups) = table.get_mut(&ino) else {
            return;
        };
        lookups.count = lookups.count.saturating_sub(count);
        if lookups.count == 0
            && let Some(gone) = table.remove(&ino)
        {
            release(store, ino, gone);
        }
    }

    /// Versions of one entry that the kernel holds, the older ones first.
    pub fn versions(&self, instance: u32, entry: u16) -> Vec<Ino> {
        let first = Ino::new(instance, entry, 0);
        let last = Ino::new(instance, entry, u32::MAX);
        lock(&self.0)
            .range(first..=last)
            .map(|(ino, _)| *ino)
            .collect()
    }

    /// All of an instance.
    pub fn of_instance(&self, instance: u32) -> Vec<Ino> {
        let (first, last) = range_of(instance);
        lock(&self.0)
            .range(first..=last)
            .map(|(ino, _)| *ino)
            .collect()
    }

    /// Forgets an instance that has ended.
    pub fn end(&self, store: &Store, instance: u32) {
        let (first, last) = range_of(instance);
        let mut table = lock(&self.0);
        let gone: Vec<Ino> = table.range(first..=last).map(|(ino, _)| *ino).collect();
        for ino in gone {
            if let Some(lookups) = table.remove(&ino) {
                release(store, ino, lookups);
            }
        }
    }

    /// Everything of a connection that is gone.
    pub fn clear(&self, store: &Store) {
        for (ino, lookups) in std::mem::take(&mut *lock(&self.0)) {
            release(store, ino, lookups);
        }
    }

    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

fn range_of(instance: u32) -> (Ino, Ino) {
    (
        Ino::new(instance, 0, 0),
        Ino::new(instance, u16::MAX, u32::MAX),
    )
}

fn release(store: &Store, ino: Ino, lookups: Lookups) {
    if let Some(name) = lookups.held {
        store.release(&name, ino.version());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Cipher;

    #[test]
    fn an_inode_lives_until_every_look_up_is_given_back() {
        let (live, store) = (Live::default(), Store::in_memory(Cipher::default()));
        let ino = Ino::new(3, 1, 0);
        assert!(live.look_up(ino, None) && live.look_up(ino, None));
        live.forget(&store, ino, 1);
        assert_eq!(live.versions(3, 1), [ino]);
        live.forget(&store, ino, 1);
        assert_eq!(live.len(), 0);
        live.forget(&store, ino, 1);
    }

    #[test]
    fn instances_do_not_reach_into_each_other() {
        let (live, store) = (Live::default(), Store::in_memory(Cipher::default()));
        for instance in [2, 3, 4] {
            live.look_up(Ino::new(instance, 1, 7), None);
            live.look_up(Ino::new(instance, u16::MAX, 9), None);
        }
        live.end(&store, 3);
        assert_eq!(live.of_instance(3), []);
        assert_eq!(live.of_instance(2).len(), 2);
        assert_eq!(live.of_instance(4).len(), 2);
    }

    #[test]
    fn a_version_that_is_not_there_is_not_given_out() {
        let (live, store) = (Live::default(), Store::in_memory(Cipher::default()));
        let name = "nothing".parse().unwrap_or_else(|_| unreachable!());
        assert!(!live.look_up(Ino::new(1, 1, 1), Some((&store, &name))));
        assert_eq!(live.len(), 0);
    }
}
