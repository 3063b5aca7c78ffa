//! Random operations against a model, with a reopen between any two; in memory and on disk.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use model::Pins;
use proptest::prelude::*;
use store::{Denied, MergedConfigs, ReadError, SetOptions, Store, Unlock, WriteError};

#[derive(Debug, Clone)]
enum Op {
    Create(u8, Vec<u8>, Option<u32>, Vec<u8>),
    Set(u8, Vec<u8>, Option<u32>),
    Rotate(u8, Vec<u8>),
    Rollback(u8, u32),
    Delete(u8),
    Grant(u8, Vec<u8>),
    Revoke(u8, Vec<u8>),
    ConfigCreate(u8, u8),
    ConfigUpdate(u8, u8),
    ConfigDelete(u8),
    /// The version so far below the newest.
    Hold(u8, u32),
    Release(usize),
    Sweep,
    RotateRoot,
    Seal,
    /// With a word before, or without.
    Reopen(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0..3_u8;
    let names = prop::collection::vec(0..3_u8, 0..3);
    let value = prop::collection::vec(any::<u8>(), 0..40);
    let keep = prop::option::of(0..4_u32);
    prop_oneof![
        3 => (name.clone(), value.clone(), keep.clone(), names.clone())
            .prop_map(|(name, value, keep, to)| Op::Create(name, value, keep, to)),
        6 => (name.clone(), value.clone(), keep).prop_map(|(n, v, k)| Op::Set(n, v, k)),
        4 => (name.clone(), value).prop_map(|(name, value)| Op::Rotate(name, value)),
        2 => (name.clone(), 1..8_u32).prop_map(|(name, to)| Op::Rollback(name, to)),
        2 => name.clone().prop_map(Op::Delete),
        3 => (name.clone(), names.clone()).prop_map(|(service, names)| Op::Grant(service, names)),
        2 => (name.clone(), names).prop_map(|(service, names)| Op::Revoke(service, names)),
        1 => (name.clone(), any::<u8>()).prop_map(|(name, value)| Op::ConfigCreate(name, value)),
        2 => (name.clone(), any::<u8>()).prop_map(|(name, value)| Op::ConfigUpdate(name, value)),
        1 => name.clone().prop_map(Op::ConfigDelete),
        3 => (name, 0..3_u32).prop_map(|(name, below)| Op::Hold(name, below)),
        2 => any::<usize>().prop_map(Op::Release),
        1 => Just(Op::Sweep),
        1 => Just(Op::RotateRoot),
        1 => Just(Op::Seal),
        2 => any::<bool>().prop_map(Op::Reopen),
    ]
}

#[derive(Default)]
struct Secret {
    keep: u32,
    last: u32,
    oldest: u32,
    /// Empty: deleted.
    versions: BTreeMap<u32, Vec<u8>>,
}

impl Secret {
    fn reach(&self) -> Vec<u32> {
        self.versions
            .range(self.oldest..)
            .map(|(number, _)| *number)
            .collect()
    }

    fn add(&mut self, value: Vec<u8>, keep: u32) {
        self.last += 1;
        self.keep = keep;
        self.versions.insert(self.last, value);
        // What was out of reach never comes back, however large `keep` becomes.
        self.oldest = self.oldest.max((self.last + 1).saturating_sub(keep.max(1)));
    }
}

#[derive(Default)]
struct Model {
    secrets: BTreeMap<u8, Secret>,
    grants: BTreeSet<(u8, u8)>,
    configs: BTreeMap<u8, (u32, Option<u8>)>,
    holds: Vec<(u8, u32)>,
}

impl Model {
    fn exists(&self, name: u8) -> bool {
        self.secrets
            .get(&name)
            .is_some_and(|secret| !secret.versions.is_empty())
    }

    fn apply(&mut self, store: &Store, op: &Op) {
        let who = operator();
        let name = |number: &u8| secret(&format!("s{number}"));
        let of = |number: &u8| service(&format!("w{number}"));
        let value = |bytes: &Vec<u8>| store::Value::Single(bytes.clone().into());
        match op {
            Op::Create(at, bytes, keep, to) => {
                let allowed: Vec<_> = to.iter().map(of).collect();
                let made = store.create(&who, &name(at), value(bytes), *keep, &allowed);
                if self.exists(*at) {
                    assert!(matches!(made, Err(WriteError::Conflict(_))));
                    return;
                }
                let model = self.secrets.entry(*at).or_default();
                model.add(bytes.clone(), keep.unwrap_or(10));
                assert_eq!(made.unwrap().newest().number, model.last);
                self.grants.extend(to.iter().map(|of| (*of, *at)));
            }
            Op::Set(at, bytes, keep) => {
                let new = !self.exists(*at);
                let options = SetOptions {
                    keep: *keep,
                    reshape: false,
                };
                let made = store.set(&who, &name(at), value(bytes), options).unwrap();
                let model = self.secrets.entry(*at).or_default();
                let before = if new { 10 } else { model.keep };
                model.add(bytes.clone(), keep.unwrap_or(before));
                assert_eq!(made.newest().number, model.last);
            }
            Op::Rotate(at, bytes) => {
                let made = store.rotate(&who, &name(at), value(bytes));
                if !self.exists(*at) {
                    assert!(matches!(made, Err(WriteError::NotFound(_))));
                    return;
                }
                let model = self.secrets.entry(*at).or_default();
                model.add(bytes.clone(), model.keep);
                assert_eq!(made.unwrap().newest().number, model.last);
            }
            Op::Rollback(at, to) => {
                let made = store.rollback(&who, &name(at), *to);
                let Some(model) = self.secrets.get_mut(at) else {
                    assert!(matches!(made, Err(WriteError::NotFound(_))));
                    return;
                };
                if !model.reach().contains(to) {
                    assert!(matches!(made, Err(WriteError::NotFound(_))));
                } else if *to == model.last {
                    assert!(matches!(made, Err(WriteError::Conflict(_))));
                } else {
                    model.add(model.versions[to].clone(), model.keep);
                    assert_eq!(made.unwrap().newest().number, model.last);
                }
            }
            Op::Delete(at) => {
                let deleted = store.delete(&who, &name(at));
                if !self.exists(*at) {
                    assert!(matches!(deleted, Err(WriteError::NotFound(_))));
                    return;
                }
                deleted.unwrap().commit().unwrap();
                self.secrets.entry(*at).or_default().versions.clear();
                self.grants.retain(|(_, secret)| secret != at);
                self.holds.retain(|(held, _)| held != at);
            }
            Op::Grant(to, names) => {
                let all: Vec<_> = names.iter().map(name).collect();
                let granted = store.grant(&who, &of(to), &all, None, Pins::default());
                if names.iter().all(|at| self.exists(*at)) {
                    granted.unwrap();
                    self.grants.extend(names.iter().map(|at| (*to, *at)));
                } else {
                    assert!(matches!(granted, Err(WriteError::NotFound(_))));
                }
            }
            Op::Revoke(from, names) => {
                let all: Vec<_> = names.iter().map(name).collect();
                let revocation = store.revoke(&who, &of(from), &all).unwrap();
                let had: BTreeSet<_> = names
                    .iter()
                    .filter(|at| self.grants.remove(&(*from, **at)))
                    .collect();
                assert_eq!(revocation.secrets().len(), had.len());
                revocation.commit().unwrap();
            }
            Op::ConfigCreate(at, byte) => {
                let data = pairs(&[("k", &byte.to_string())]);
                let made = store.config_create(&who, &config(*at), data, false);
                let (version, held) = self.configs.entry(*at).or_default();
                if held.is_some() {
                    assert!(matches!(made, Err(WriteError::Conflict(_))));
                } else {
                    (*version, *held) = (*version + 1, Some(*byte));
                    assert_eq!(made.unwrap().version, *version);
                }
            }
            Op::ConfigUpdate(at, byte) => {
                let data = pairs(&[("k", &byte.to_string())]);
                let made = store.config_update(&who, &config(*at), data);
                match self.configs.get_mut(at) {
                    Some((version, Some(held))) => {
                        (*version, *held) = (*version + 1, *byte);
                        assert_eq!(made.unwrap().version, *version);
                    }
                    _ => assert!(matches!(made, Err(WriteError::NotFound(_)))),
                }
            }
            Op::ConfigDelete(at) => {
                let deleted = store.config_delete(&who, &config(*at));
                match self.configs.get_mut(at) {
                    Some((version, held @ Some(_))) => {
                        (*version, *held) = (*version + 1, None);
                        deleted.unwrap();
                    }
                    _ => assert!(matches!(deleted, Err(WriteError::NotFound(_)))),
                }
            }
            Op::Hold(at, below) => {
                let model = self
                    .secrets
                    .get(at)
                    .filter(|secret| !secret.versions.is_empty());
                let Some(model) = model else {
                    assert!(!store.hold(&name(at), 1));
                    return;
                };
                let version = model.last.saturating_sub(*below);
                let held = store.hold(&name(at), version);
                assert!(held || !model.reach().contains(&version));
                if held {
                    self.holds.push((*at, version));
                }
            }
            Op::Release(which) => {
                if !self.holds.is_empty() {
                    let (at, version) = self.holds.swap_remove(which % self.holds.len());
                    store.release(&name(&at), version);
                }
            }
            Op::Sweep => {
                store.sweep().unwrap();
                for (at, number) in self.out_of_reach(store) {
                    assert!(
                        self.holds.contains(&(at, number)),
                        "s{at} version {number} is left"
                    );
                }
            }
            Op::RotateRoot => {
                store.rotate_root(&who, &|_, _| {}).unwrap();
            }
            Op::Seal => {
                store.seal();
                store.unseal(Unlock::FileSlots).unwrap();
            }
            // Of the one who has the store.
            Op::Reopen(_) => {}
        }
        // A newer version under keep 0 takes old ones from everyone.
        for (at, model) in &self.secrets {
            if model.keep == 0 {
                self.holds
                    .retain(|(held, version)| held != at || *version == model.last);
            }
        }
    }

    /// Versions that the store still has beyond those in reach.
    fn out_of_reach(&self, store: &Store) -> Vec<(u8, u32)> {
        let number = |name: model::SecretName| name.as_str()[1..].parse().unwrap();
        retained(store)
            .into_iter()
            .map(|(name, version)| (number(name), version))
            .collect()
    }

    fn check(&self, store: &Store) {
        let who = operator();
        for at in 0..3_u8 {
            let name = secret(&format!("s{at}"));
            let model = self
                .secrets
                .get(&at)
                .filter(|secret| !secret.versions.is_empty());
            let Some(model) = model else {
                assert!(matches!(
                    store.history(&who, &name),
                    Err(WriteError::NotFound(_))
                ));
                continue;
            };
            assert_eq!(reach(store, name.as_str()), model.reach());
            let permit = all_of(store, name.as_str());
            assert_eq!(store.secret(&permit).unwrap().keep, model.keep);
            for number in 1..=model.last + 1 {
                match store.open_value(&permit, number, None) {
                    // A number that belonged to what was deleted is not among the versions.
                    Ok(value) => assert_eq!(value[..], model.versions[&number][..]),
                    Err(ReadError::NoVersion(..)) => {
                        assert!(!model.reach().contains(&number));
                        assert!(
                            !self.holds.contains(&(at, number)),
                            "{number} of s{at} was held"
                        );
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        for of in 0..3_u8 {
            for at in 0..3_u8 {
                let asked = ask(store, &format!("w{of}"), &format!("s{at}")).map(drop);
                let expected = match (self.exists(at), self.grants.contains(&(of, at))) {
                    (false, _) => Err(Denied::UnknownSecret),
                    (true, false) => Err(Denied::NotGranted),
                    (true, true) => Ok(()),
                };
                assert_eq!(asked, expected);
            }
        }
        assert_eq!(store.grants(&who, None).unwrap().len(), self.grants.len());
        for (at, (version, held)) in &self.configs {
            let name = config(*at);
            let expected = MergedConfigs {
                data: held.map_or_else(|| pairs(&[]), |byte| pairs(&[("k", &byte.to_string())])),
                version: *version,
                missing: held.is_none().then(|| name.clone()).into_iter().collect(),
            };
            assert_eq!(store.configs_for(&[name]).unwrap(), expected);
        }
    }
}

fn config(number: u8) -> model::ConfigName {
    format!("c{number}").parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn in_memory_every_answer_is_the_models(ops in prop::collection::vec(op(), 1..60)) {
        let store = memory();
        let mut model = Model::default();
        for op in &ops {
            model.apply(&store, op);
            model.check(&store);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn on_disk_every_answer_is_the_models(ops in prop::collection::vec(op(), 1..40)) {
        let mut disk = OnDisk::make().unsealed();
        let mut model = Model::default();
        for op in &ops {
            model.apply(disk.store(), op);
            if let Op::Reopen(close) = op {
                if *close {
                    disk.store().close();
                }
                disk.reopen();
                // Holds are of a process.
                model.holds.clear();
            }
            model.check(disk.store());
        }
        disk.reopen();
        model.holds.clear();
        model.check(disk.store());
    }
}
