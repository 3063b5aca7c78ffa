//! The versions that services with an `on_change` are told of, by way of the injector: of the names
//! that they ask for, and of no others.

use std::collections::BTreeSet;

use control::inner::{self, ChangeOutcome, InstanceRecord, NameVersion};
use model::{ConfigName, SecretName, ServiceName, Tree};
use sys::lock::lock;

use super::{Host, ourselves};
use crate::audit::Act;

/// A secret or a stored config.
pub(super) type Followed = (Tree, String);

/// What is known of an instance that is served.
pub(super) struct Known {
    pub service: ServiceName,
    /// The names whose versions it is told.
    pub follows: Vec<Followed>,
}

impl Known {
    pub fn new(record: &InstanceRecord) -> Known {
        Known {
            service: record.service.clone(),
            follows: followed(record),
        }
    }
}

/// What an instance follows: nothing without an `on_change`.
fn followed(record: &InstanceRecord) -> Vec<Followed> {
    let manifest = &record.manifest;
    if manifest.on_change.is_none() {
        return Vec::new();
    }
    let secrets = manifest.secrets.iter();
    let secrets = secrets.map(|secret| (Tree::Secret, secret.name.to_string()));
    let configs = manifest.config_from.iter();
    let configs = configs.map(|name| (Tree::Config, name.to_string()));
    secrets.chain(configs).collect()
}

impl Host {
    /// Instances with their services; those that have ended are left out.
    pub(super) fn named(&self, numbers: impl IntoIterator<Item = u32>) -> Vec<(u32, ServiceName)> {
        let served = lock(&self.served);
        let service = |number| Some((number, served.instances.get(&number)?.service.clone()));
        numbers.into_iter().filter_map(service).collect()
    }

    /// What a supervisor did after a change.
    pub(super) fn acted_on(&self, outcome: &ChangeOutcome) {
        let ChangeOutcome {
            number,
            service,
            act,
            outcome,
            why,
        } = outcome;
        let words = format!("instance {number} of {service}: on_change, {act}: {outcome}");
        match why.as_str() {
            "" => log::info!("{words}"),
            why => log::info!("{words}: {why}"),
        }
        let detail = format!("instance {number}: {act}, {outcome}");
        let done = match outcome {
            inner::Outcome::Done => audit::Outcome::Done,
            inner::Outcome::Failed | inner::Outcome::Skipped => audit::Outcome::Failed,
        };
        if let Some(us) = ourselves() {
            let act = Act::new("on_change", service.as_str()).detail(&detail);
            self.audit.happened(&us, act, done, why);
        }
    }

    /// Where some secrets are now.
    pub(super) fn secrets_at(&self, names: &[SecretName]) -> Vec<NameVersion> {
        let names = names.iter().map(|name| (Tree::Secret, name.to_string()));
        self.at(names).unwrap_or_default()
    }

    /// Where a config is now.
    pub(super) fn config_at(&self, name: &ConfigName) -> Vec<NameVersion> {
        let name = (Tree::Config, name.to_string());
        self.at(std::iter::once(name)).unwrap_or_default()
    }

    /// Where everything is that an instance follows; `None` while the store is sealed.
    pub(super) fn all_at(&self) -> Option<Vec<NameVersion>> {
        let followed: BTreeSet<Followed> = {
            let served = lock(&self.served);
            let all = served.instances.values();
            all.flat_map(|one| one.follows.iter().cloned()).collect()
        };
        self.at(followed)
    }

    /// `None` while the store is sealed. What is not there is at 0.
    pub(super) fn at(&self, names: impl IntoIterator<Item = Followed>) -> Option<Vec<NameVersion>> {
        let us = ourselves()?;
        let mut versions = Vec::new();
        for (tree, name) in names {
            let version = match tree {
                Tree::Secret => {
                    let found = self.store.list(&us, &name).ok()?;
                    let found = found.iter().find(|one| one.name.as_str() == name);
                    found.map_or(0, |one| one.newest().number.into())
                }
                Tree::Config => {
                    let found = self.store.config_list(&us, &name).ok()?;
                    let found = found.iter().find(|one| one.name.as_str() == name);
                    found.map_or(0, |one| one.version.into())
                }
            };
            versions.push(NameVersion {
                tree,
                name,
                version,
            });
        }
        Some(versions)
    }
}
