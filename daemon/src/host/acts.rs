//! What an operator does, from the store over the views to the watchers inside the services.

use std::collections::BTreeMap;

use control::inner::NameVersion;
use fuse_fs::Touched;
use model::{ConfigKey, ConfigName, Pins, SecretName, ServiceName, Timestamp};
use store::{
    ConfigMeta, Operator, SecretMeta, SetOptions, Unlock, UnsealError, UnsealReport, Value,
    WriteError,
};
use sys::lock::lock;

use super::{Host, ourselves};
use crate::injector;

/// Why an act was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    /// Nothing has changed.
    #[error(transparent)]
    Store(#[from] WriteError),
    /// It holds, but not on the disk.
    #[error(
        "{what} cannot be read any more, but that is not on the disk ({source}): it holds until \
         secretsd is started again; mend the disk, and repeat the command"
    )]
    NotDurable {
        /// What was taken away.
        what: String,
        /// Why it was not written.
        source: WriteError,
    },
}

/// What a revoke took back.
#[derive(Debug)]
pub(crate) struct Revoked {
    pub revoked: Vec<SecretName>,
    pub not_granted: Vec<SecretName>,
}

/// Instances that a change has not reached in all ways when the command returns.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// They hold a folder of their view locked: old names may still show there, to them alone.
    pub stale: Vec<(u32, ServiceName)>,
    /// Their watchers have not heard of it; they will as soon as that is possible.
    pub unrung: Vec<(u32, ServiceName)>,
}

impl Host {
    /// Makes a secret, and grants it to `allowed`.
    pub fn create(
        &self,
        operator: &Operator,
        name: &SecretName,
        value: Value,
        keep: Option<u32>,
        allowed: &[ServiceName],
    ) -> Result<SecretMeta, WriteError> {
        let meta = self.store.create(operator, name, value, keep, allowed)?;
        self.published(operator, &meta);
        for service in allowed {
            log::info!("{}: granted {name} to {service}", operator.name());
            let touched = self.views.granted(service, std::slice::from_ref(name));
            self.tell(touched, self.secrets_at(std::slice::from_ref(name)));
        }
        Ok(meta)
    }

    /// Makes a secret, or its next version.
    pub fn set(
        &self,
        operator: &Operator,
        name: &SecretName,
        value: Value,
        options: SetOptions,
    ) -> Result<SecretMeta, WriteError> {
        let meta = self.store.set(operator, name, value, options)?;
        self.published(operator, &meta);
        Ok(meta)
    }

    /// Makes the next version of a secret that exists.
    pub fn rotate(
        &self,
        operator: &Operator,
        name: &SecretName,
        value: Value,
    ) -> Result<SecretMeta, WriteError> {
        let meta = self.store.rotate(operator, name, value)?;
        self.published(operator, &meta);
        Ok(meta)
    }

    /// Makes an older version the newest again.
    pub fn rollback(
        &self,
        operator: &Operator,
        name: &SecretName,
        to: u32,
    ) -> Result<SecretMeta, WriteError> {
        let meta = self.store.rollback(operator, name, to)?;
        self.published(operator, &meta);
        Ok(meta)
    }

    fn published(&self, operator: &Operator, meta: &SecretMeta) {
        let (name, version) = (&meta.name, meta.newest().number);
        log::info!("{}: {name} is at version {version}", operator.name());
        let touched = self.views.secret_changed(name);
        self.tell(touched, self.secrets_at(std::slice::from_ref(name)));
    }

    /// Deletes a secret; gives the services that had it.
    pub fn delete(
        &self,
        operator: &Operator,
        name: &SecretName,
    ) -> Result<Vec<ServiceName>, ActError> {
        let deletion = self.store.delete(operator, name)?;
        let services = deletion.services().to_vec();
        let touched = self.views.denied(None, std::slice::from_ref(name));
        let durable = deletion.commit();
        self.tell(touched, Vec::new());
        let what = || format!("secret {name}");
        durable.map_err(|source| ActError::NotDurable {
            what: what(),
            source,
        })?;
        log::info!("{}: deleted {name}", operator.name());
        Ok(services)
    }

    /// Lets a service read secrets, all of them or none.
    pub fn grant(
        &self,
        operator: &Operator,
        service: &ServiceName,
        names: &[SecretName],
        until: Option<Timestamp>,
        pins: Pins,
    ) -> Result<(), WriteError> {
        self.store.grant(operator, service, names, until, pins)?;
        log::info!("{}: granted {} to {service}", operator.name(), list(names));
        if until.is_some() {
            self.housekeeping.wake();
        }
        // An on_change that was skipped for want of one of these is due now.
        self.tell(self.views.granted(service, names), self.secrets_at(names));
        Ok(())
    }

    /// Takes secrets back. When this returns, nobody in the service can read them. The order is the
    /// promise: denied in memory, so that no open gets through; then out of the kernel's caches, so
    /// that nothing that is open reads on; then durable; and only then an answer.
    pub fn revoke(
        &self,
        operator: &Operator,
        service: &ServiceName,
        names: &[SecretName],
    ) -> Result<Revoked, ActError> {
        let revocation = self.store.revoke(operator, service, names)?;
        let revoked = revocation.secrets().to_vec();
        let not_granted = revocation.not_granted().to_vec();
        let touched = self.views.denied(Some(service), &revoked);
        let durable = revocation.commit();
        self.tell(touched, Vec::new());
        let what = || format!("{} of {service}", list(&revoked));
        durable.map_err(|source| ActError::NotDurable {
            what: what(),
            source,
        })?;
        if !revoked.is_empty() {
            log::info!(
                "{}: revoked {} from {service}",
                operator.name(),
                list(&revoked)
            );
        }
        Ok(Revoked {
            revoked,
            not_granted,
        })
    }

    /// Which instances show a secret now, with their services.
    pub fn instances_of(&self, name: &SecretName) -> Vec<(u32, ServiceName)> {
        self.views.instances_of(name)
    }

    /// Takes what has expired out of the views: the kernel's caches know nothing of a grant's end.
    pub fn expired(&self, service: &ServiceName, names: &[SecretName]) {
        log::info!("the grant of {} to {service} has expired", list(names));
        for name in names {
            let found = ourselves().and_then(|us| self.store.list(&us, name.as_str()).ok());
            let secret = found
                .into_iter()
                .flatten()
                .find(|secret| secret.name == *name);
            if let Some(secret) = secret {
                self.views.recall(secret);
            }
        }
        self.tell(self.views.denied(Some(service), names), Vec::new());
    }

    /// Tells the injector what has changed, and the kernel which names are no more. In this order:
    /// a name that is unlinked while the kernel knows it is a DELETE for its watchers.
    /// `versions` are those of what has changed, for services with an on_change. Gives the instances
    /// that are behind.
    pub(super) fn tell(&self, mut touched: Touched, versions: Vec<NameVersion>) -> Behind {
        let gone = std::mem::take(&mut touched.gone);
        let mut stale = std::mem::take(&mut touched.stuck);
        let unrung = self.named(self.injector.pass_on(touched, versions));
        stale.extend(self.views.forget_gone(gone));
        stale.sort();
        stale.dedup();
        let behind = Behind { stale, unrung };
        injector::warn_of_behind(&behind);
        behind
    }

    /// Makes a config.
    pub fn config_create(
        &self,
        operator: &Operator,
        name: &ConfigName,
        data: BTreeMap<ConfigKey, String>,
        immutable: bool,
    ) -> Result<ConfigMeta, WriteError> {
        let meta = self.store.config_create(operator, name, data, immutable)?;
        self.config_changed(operator, name, "made");
        Ok(meta)
    }

    /// Changes keys of a config.
    pub fn config_update(
        &self,
        operator: &Operator,
        name: &ConfigName,
        data: BTreeMap<ConfigKey, String>,
    ) -> Result<ConfigMeta, WriteError> {
        let meta = self.store.config_update(operator, name, data)?;
        self.config_changed(operator, name, "changed");
        Ok(meta)
    }

    /// Deletes a config.
    pub fn config_delete(&self, operator: &Operator, name: &ConfigName) -> Result<(), WriteError> {
        self.store.config_delete(operator, name)?;
        self.config_changed(operator, name, "deleted");
        Ok(())
    }

    fn config_changed(&self, operator: &Operator, name: &ConfigName, what: &str) {
        log::info!("{}: {what} config {name}", operator.name());
        let touched = self.views.configs_changed(std::slice::from_ref(name));
        self.tell(touched, self.config_at(name));
    }

    /// Forgets all keys, and takes what is cached of the views out of the kernel.
    pub fn seal(&self, operator: &Operator) {
        let _sealing = lock(&self.sealing);
        self.store.seal();
        self.views.sealed();
        self.remark(Vec::new());
        log::info!("{}: sealed the store", operator.name());
    }

    /// The end of all views: the connections go with us. Nothing is served from here on, and nothing
    /// stays in the kernel's caches, where nobody could take it back.
    pub(super) fn stopping(&self) {
        let _sealing = lock(&self.sealing);
        self.views.sealed();
        log::info!("stops for good: nothing is served any more");
    }

    /// Unseals, and shows again what is granted.
    pub fn unseal(&self, unlock: Unlock) -> Result<UnsealReport, UnsealError> {
        let _sealing = lock(&self.sealing);
        let report = self.store.unseal(unlock)?;
        for remark in &report.warnings {
            log::warn!("unseal: {remark}");
        }
        if let Some(opened) = &report.opened {
            log::info!("records: {opened}");
        }
        self.remark(report.warnings.clone());
        self.carry_holds();
        self.tell(self.views.unsealed(), Vec::new());
        if let Some(all) = self.all_at() {
            self.injector.tell_all_versions(all);
        }
        self.housekeeping.wake();
        Ok(report)
    }

    /// Makes a new root key; says how far it is. Goes on when nobody listens any more.
    pub fn rotate_root(
        &self,
        operator: &Operator,
        progress: &dyn Fn(u64, u64),
    ) -> Result<u32, WriteError> {
        log::info!("{}: rotates the root key", operator.name());
        let generation = self.store.rotate_root(operator, progress)?;
        log::info!("the root key is of generation {generation}");
        Ok(generation)
    }
}

fn list(names: &[SecretName]) -> String {
    names
        .iter()
        .map(SecretName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}
