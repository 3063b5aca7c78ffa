//! The config tree of one instance: stored configs, merged in order, and the manifest's own keys.
//!
//! All keys share one version, the sum of all changes that made them what they are; it only grows,
//! and it comes out the same after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{ConfigKey, ConfigName, Timestamp};
use store::{ConfigError, MergedConfigs, Store};

const VERSION_MASK: u32 = (1 << 28) - 1;

type Values = BTreeMap<ConfigKey, Arc<str>>;

/// Where an instance's configuration comes from.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub inline: BTreeMap<ConfigKey, String>,
    pub from: Vec<ConfigName>,
    pub reloads: u32,
}

impl Sources {
    /// Are any of these stored configs among them?
    pub fn any_of(&self, names: &[ConfigName]) -> bool {
        self.from.iter().any(|from| names.contains(from))
    }

    /// Merges what is stored now with the manifest's own; a later one wins.
    pub fn merge(&self, store: &Store) -> Result<Merged, ConfigError> {
        let stored = self.stored(store)?;
        if stored.missing.is_empty() {
            Ok(self.merged(stored))
        } else {
            Err(ConfigError::Missing(stored.missing))
        }
    }

    /// As [`Sources::merge`], without those stored configs that are gone. Their versions count on, so
    /// that no state of the tree has the number of another one.
    pub fn merge_what_is_there(&self, store: &Store) -> Result<Merged, ConfigError> {
        Ok(self.merged(self.stored(store)?))
    }

    fn stored(&self, store: &Store) -> Result<MergedConfigs, ConfigError> {
        match self.from.is_empty() {
            // Sealed or not.
            true => Ok(MergedConfigs::default()),
            false => store.configs_for(&self.from),
        }
    }

    fn merged(&self, stored: MergedConfigs) -> Merged {
        let mut values = stored.data;
        values.extend(self.inline.clone());
        // Never 0, which is a folder's.
        let version = (stored.version.wrapping_add(self.reloads) & (VERSION_MASK >> 1)) + 1;
        let values = values
            .into_iter()
            .map(|(key, value)| (key, value.into()))
            .collect();
        Merged { version, values }
    }
}

/// One state of the tree.
#[derive(Debug, Default)]
pub(super) struct Merged {
    version: u32,
    values: Values,
}

impl Merged {
    /// The number of this state; a later one has a greater one.
    pub fn version(&self) -> u32 {
        self.version
    }
}

/// The tree as it is shown.
#[derive(Debug)]
pub(super) struct ConfigTree {
    pub sources: Sources,
    /// By their entry numbers, less one. A key that is gone keeps its number.
    keys: Vec<ConfigKey>,
    now: Merged,
    changed: Timestamp,
    /// That somebody has open, or watches.
    old: Vec<Merged>,
}

impl ConfigTree {
    /// With the numbers that keys have already.
    pub fn new(sources: Sources, keys: Vec<ConfigKey>) -> ConfigTree {
        ConfigTree {
            sources,
            keys,
            now: Merged::default(),
            changed: super::now(),
            old: Vec::new(),
        }
    }

    /// Shows another state, and keeps old ones of which the kernel has an inode, as `is_live` says;
    /// gives every name of which the kernel has to forget something, and whether there are new ones.
    pub fn show(
        &mut self,
        merged: Merged,
        is_live: impl Fn(u32) -> bool,
    ) -> (Vec<ConfigKey>, bool) {
        if merged.values == self.now.values && merged.version == self.now.version {
            return (Vec::new(), false);
        }
        let mut names: Vec<ConfigKey> = self.now.values.keys().cloned().collect();
        let before = self.keys.len();
        for key in merged.values.keys() {
            if !self.now.values.contains_key(key) {
                names.push(key.clone());
            }
            if !self.keys.contains(key) {
                self.keys.push(key.clone());
            }
        }
        let old = std::mem::replace(&mut self.now, merged);
        self.changed = super::now();
        self.old.push(old);
        self.old.retain(|old| is_live(old.version));
        (names, self.keys.len() > before)
    }

    /// When what is shown was put here.
    pub fn changed(&self) -> Timestamp {
        self.changed
    }

    /// The entry and version of a key that is shown.
    pub fn find(&self, key: &ConfigKey) -> Option<(u16, u32)> {
        self.now.values.contains_key(key).then_some(())?;
        let at = self.keys.iter().position(|other| other == key)?;
        Some((u16::try_from(at + 1).ok()?, self.now.version))
    }

    /// The value of one version of an entry.
    pub fn value(&self, entry: u16, version: u32) -> Option<Arc<str>> {
        let key = self.keys.get(usize::from(entry).checked_sub(1)?)?;
        std::iter::once(&self.now)
            .chain(&self.old)
            .find(|merged| merged.version == version)
            .and_then(|merged| merged.values.get(key).cloned())
    }

    /// Keys that are shown.
    pub fn list(&self) -> impl Iterator<Item = &ConfigKey> {
        self.now.values.keys()
    }

    /// All keys, by their entry numbers, less one.
    pub fn keys(&self) -> &[ConfigKey] {
        &self.keys
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}
