//! What a store must hold: a model of its own, made of what was acknowledged.

use std::collections::BTreeMap;

use store::DEFAULT_KEEP;

use super::op::{Bytes, Op};

/// Everything of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    secrets: BTreeMap<String, Secret>,
    /// By service and secret: until when.
    grants: BTreeMap<(String, String), Option<u64>>,
    configs: BTreeMap<String, (u32, Option<BTreeMap<String, String>>)>,
    /// By number: the label.
    slots: BTreeMap<u32, String>,
    next_slot: u32,
    generation: u32,
    records: BTreeMap<String, Bytes>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Secret {
    keep: u32,
    /// The last number that was given.
    last: u32,
    oldest: u32,
    /// In reach; empty: deleted.
    versions: BTreeMap<u32, Vec<(String, Bytes)>>,
}

impl Secret {
    fn add(&mut self, value: Vec<(String, Bytes)>, keep: u32) {
        self.last += 1;
        self.keep = keep;
        self.versions.insert(self.last, value);
        self.oldest = self.oldest.max((self.last + 1).saturating_sub(keep.max(1)));
        self.versions = self.versions.split_off(&self.oldest);
    }
}

/// What is said of a store, one line for each thing: its name, and how it is.
pub type Lines = BTreeMap<String, String>;

impl World {
    /// The keys of a new store.
    #[must_use]
    pub fn of_new_store() -> Self {
        Self {
            slots: BTreeMap::from([(1, String::new())]),
            next_slot: 2,
            generation: 1,
            ..Self::default()
        }
    }

    fn there(&self, name: &str) -> Option<&Secret> {
        self.secrets
            .get(name)
            .filter(|secret| !secret.versions.is_empty())
    }

    /// Names of the secrets that exist.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let names = self.secrets.keys();
        names
            .filter(|name| self.there(name).is_some())
            .cloned()
            .collect()
    }

    pub(super) fn keep_of(&self, name: &str) -> Option<u32> {
        self.there(name).map(|secret| secret.keep)
    }

    /// Whether a secret has fields; of one that is not there, whether it will.
    pub(super) fn has_fields(&self, name: &str) -> bool {
        match self
            .there(name)
            .and_then(|secret| secret.versions.values().last())
        {
            Some(value) => !value[0].0.is_empty(),
            None => name.ends_with('3'),
        }
    }

    /// A version that is not the newest.
    pub(super) fn older(&self, name: &str) -> Option<u32> {
        let secret = self.there(name)?;
        let first = *secret.versions.keys().next()?;
        (first != secret.last).then_some(first)
    }

    pub(super) fn granted_to(&self, service: &str) -> Vec<String> {
        let of = self.grants.keys().filter(|(name, _)| name == service);
        of.map(|(_, secret)| secret.clone()).collect()
    }

    pub(super) fn has_config(&self, name: &str) -> bool {
        matches!(self.configs.get(name), Some((_, Some(_))))
    }

    /// The numbers of the key slots.
    #[must_use]
    pub fn slots(&self) -> Vec<u32> {
        self.slots.keys().copied().collect()
    }

    /// What it is after a change that went well.
    #[must_use]
    pub fn after(&self, op: &Op) -> Self {
        let mut next = self.clone();
        next.apply(op);
        next
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Set(name, value, keep) => {
                let before = self.keep_of(name).unwrap_or(DEFAULT_KEEP);
                let secret = self.secrets.entry(name.clone()).or_default();
                secret.add(value.clone(), keep.unwrap_or(before));
            }
            Op::Rotate(name, value) => {
                let secret = self.secrets.entry(name.clone()).or_default();
                secret.add(value.clone(), secret.keep);
            }
            Op::Rollback(name, to) => {
                let secret = self.secrets.entry(name.clone()).or_default();
                if let Some(value) = secret.versions.get(to).cloned() {
                    secret.add(value, secret.keep);
                }
            }
            Op::Create(name, value, services) => {
                let secret = self.secrets.entry(name.clone()).or_default();
                secret.add(value.clone(), DEFAULT_KEEP);
                for service in services {
                    self.grants.insert((service.clone(), name.clone()), None);
                }
            }
            Op::Delete(name) => {
                if let Some(secret) = self.secrets.get_mut(name) {
                    secret.oldest = secret.last + 1;
                    secret.versions.clear();
                }
                self.grants.retain(|(_, secret), _| secret != name);
            }
            Op::Grant(service, secrets, until) => {
                for secret in secrets {
                    let grant = (service.clone(), secret.clone());
                    self.grants.insert(grant, *until);
                }
            }
            Op::Revoke(service, secrets) => self
                .grants
                .retain(|(of, secret), _| of != service || !secrets.contains(secret)),
            Op::ConfigCreate(name, pairs) | Op::ConfigUpdate(name, pairs) => {
                let (version, data) = self.configs.entry(name.clone()).or_default();
                *version += 1;
                data.get_or_insert_default().extend(pairs.iter().cloned());
            }
            Op::ConfigDelete(name) => {
                if let Some((version, data)) = self.configs.get_mut(name) {
                    *version += 1;
                    *data = None;
                }
            }
            Op::RotateRoot => self.generation += 1,
            Op::SlotAdd(path) => {
                self.slots.insert(self.next_slot, path.clone());
                self.next_slot += 1;
            }
            Op::SlotRemove(number) => {
                self.slots.remove(number);
                self.generation += 1;
            }
            Op::Commit(changes) => {
                for (name, bytes) in changes {
                    match bytes {
                        Some(bytes) => self.records.insert(name.clone(), *bytes),
                        None => self.records.remove(name),
                    };
                }
            }
            Op::Snapshot => {}
        }
    }

    /// All of it, as the worker says it of the store.
    #[must_use]
    pub fn lines(&self) -> Lines {
        let mut lines = Lines::new();
        for (name, secret) in &self.secrets {
            if secret.versions.is_empty() {
                continue;
            }
            lines.insert(format!("{name}/keep"), secret.keep.to_string());
            for (number, value) in &secret.versions {
                for (field, bytes) in value {
                    lines.insert(format!("{name}/{number}/{field}"), bytes.text());
                }
            }
        }
        for ((service, secret), until) in &self.grants {
            lines.insert(format!("{service}/{secret}"), format!("{until:?}"));
        }
        for (name, (version, data)) in &self.configs {
            if let Some(data) = data {
                lines.insert(format!("{name}/config"), format!("{version} {data:?}"));
            }
        }
        for (number, label) in &self.slots {
            lines.insert(format!("admin/slot {number}"), label.clone());
        }
        if self.generation > 0 {
            let generation = self.generation.to_string();
            lines.insert("admin/generation".into(), generation);
        }
        for (name, bytes) in &self.records {
            lines.insert(format!("{name}/record"), bytes.text());
        }
        lines
    }
}
