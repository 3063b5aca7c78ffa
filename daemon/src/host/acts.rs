//! What an operator does to secrets and grants, from the store over the views to the watchers inside the services.

use std::time::Duration;

use audit::Outcome;
use control::calls::ReaderInstance;
use control::inner::NameVersion;
use fuse_fs::Touched;
use model::{Pins, SecretName, ServiceName, Timestamp, Tree};
use store::{Operator, SecretMeta, SetOptions, Value, WriteError};

use super::{Host, ourselves};
use crate::audit::{Act, Unaudited};
use crate::injector;

/// Why an act was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    /// Nothing has changed.
    #[error(transparent)]
    Store(#[from] WriteError),
    /// Nothing has changed.
    #[error(transparent)]
    Unaudited(#[from] Unaudited),
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

/// A new version, and the instances that do not have it everywhere yet.
#[derive(Debug)]
pub(crate) struct Published {
    pub meta: SecretMeta,
    pub late: Late,
}

/// Instances that a change has not reached in time.
pub(crate) type Late = Vec<(u32, ServiceName)>;

/// Instances that a change has not reached in all ways when the command returns.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// They hold a folder of their view locked: old names may still show there, to them alone.
    pub stale: Vec<(u32, ServiceName)>,
    /// Their watchers have not heard of it; they will as soon as that is possible.
    pub unrung: Vec<(u32, ServiceName)>,
}

impl Behind {
    /// Both, each instance once.
    fn late(self) -> Late {
        let mut late: Late = self.stale.into_iter().chain(self.unrung).collect();
        late.sort();
        late.dedup();
        late
    }
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
    ) -> Result<Published, ActError> {
        let services: Vec<_> = allowed.iter().map(ServiceName::as_str).collect();
        let detail = services.join(", ");
        let act = Act::new("secret.create", name.as_str()).detail(&detail);
        let _noted = self.untold.note(Tree::Secret, [name]);
        let published = self.publish(operator, act, || {
            self.store.create(operator, name, value, keep, allowed)
        })?;
        for service in allowed {
            log::info!("{}: granted {name} to {service}", operator.name());
            let touched = self.views.granted(service, std::slice::from_ref(name));
            self.tell(touched, self.secrets_at(std::slice::from_ref(name)));
        }
        Ok(published)
    }

    /// Makes a secret, or its next version.
    pub fn set(
        &self,
        operator: &Operator,
        name: &SecretName,
        value: Value,
        options: SetOptions,
    ) -> Result<Published, ActError> {
        let act = Act::new("secret.set", name.as_str());
        let _noted = self.untold.note(Tree::Secret, [name]);
        self.publish(operator, act, || {
            self.store.set(operator, name, value, options)
        })
    }

    /// Makes the next version of a secret that exists; with `grace`, the one before stays readable
    /// for that long.
    pub fn rotate(
        &self,
        operator: &Operator,
        name: &SecretName,
        value: Value,
        grace: Option<Duration>,
    ) -> Result<Published, ActError> {
        let detail = grace.map(|grace| format!("grace of {} s", grace.as_secs()));
        let act = Act::new("secret.rotate", name.as_str());
        let act = act.detail(detail.as_deref().unwrap_or_default());
        let _noted = self.untold.note(Tree::Secret, [name]);
        let published = self.publish(operator, act, || match grace {
            Some(grace) => self.store.rotate_with_grace(operator, name, value, grace),
            None => self.store.rotate(operator, name, value),
        })?;
        if grace.is_some() {
            self.tell(self.views.previous_changed(name), Vec::new());
            self.housekeeping.wake();
        }
        Ok(published)
    }

    /// Makes an older version the newest again.
    pub fn rollback(
        &self,
        operator: &Operator,
        name: &SecretName,
        to: u32,
    ) -> Result<Published, ActError> {
        let detail = format!("to version {to}");
        let act = Act::new("secret.rollback", name.as_str()).detail(&detail);
        let _noted = self.untold.note(Tree::Secret, [name]);
        self.publish(operator, act, || self.store.rollback(operator, name, to))
    }

    /// Whoever calls this has noted the name, for this and for what follows.
    fn publish(
        &self,
        operator: &Operator,
        act: Act<'_>,
        change: impl FnOnce() -> Result<SecretMeta, WriteError>,
    ) -> Result<Published, ActError> {
        let meta = self
            .audit
            .act(operator, act, || change().map_err(ActError::from))?;
        let (name, version) = (&meta.name, meta.newest().number);
        log::info!("{}: {name} is at version {version}", operator.name());
        let touched = self.views.secret_changed(name);
        let late = self.tell(touched, self.secrets_at(std::slice::from_ref(name)));
        if meta.keep == 0 {
            // A grace that ran has ended with that.
            self.tell(self.views.previous_changed(name), Vec::new());
        }
        Ok(Published { meta, late })
    }

    /// Deletes a secret; gives the services that had it.
    pub fn delete(
        &self,
        operator: &Operator,
        name: &SecretName,
    ) -> Result<Vec<ServiceName>, ActError> {
        let act = Act::new("secret.delete", name.as_str()).takes_away();
        let _noted = self.untold.note(Tree::Secret, [name]);
        let services = self.audit.act(operator, act, || {
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
            Ok::<_, ActError>(services)
        })?;
        self.audit
            .adoption(|adoption| adoption.deleted(name.as_str()));
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
    ) -> Result<(), ActError> {
        let mut detail = list(names);
        if let Some(until) = until {
            detail.push_str(&format!(" until {until}"));
        }
        if !pins.is_empty() {
            detail.push_str(&format!(" for {pins} alone"));
        }
        let act = Act::new("secret.grant", service.as_str()).detail(&detail);
        let _noted = self.untold.note(Tree::Secret, names);
        self.audit.act(operator, act, || {
            self.store
                .grant(operator, service, names, until, pins)
                .map_err(ActError::from)
        })?;
        log::info!("{}: granted {} to {service}", operator.name(), list(names));
        if until.is_some() {
            self.housekeeping.wake();
        }
        // An on_change that was skipped for want of one of these is due now.
        self.tell(self.views.granted(service, names), self.secrets_at(names));
        // Instances that run under a grant without these pins, and are something else.
        let fallen = self.views.fallen(service, names);
        if !fallen.is_empty() {
            let touched = self.views.denied(Some(service), &fallen);
            self.tell(touched, Vec::new());
        }
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
        let detail = list(names);
        let act = Act::new("secret.revoke", service.as_str()).detail(&detail);
        let _noted = self.untold.note(Tree::Secret, names);
        let done = self.audit.act(operator, act.takes_away(), || {
            self.take_back(operator, service, names)
        })?;
        if !done.revoked.is_empty() {
            log::info!(
                "{}: revoked {} from {service}",
                operator.name(),
                list(&done.revoked)
            );
        }
        Ok(done)
    }

    fn take_back(
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
        Ok(Revoked {
            revoked,
            not_granted,
        })
    }

    /// Instances that show a secret now, with their services, and what each has read of it.
    pub fn readers_of(&self, name: &SecretName) -> Vec<(ServiceName, ReaderInstance)> {
        let read = self
            .audit
            .adoption(|adoption| adoption.readers(name.as_str()));
        let read = read.unwrap_or_default();
        let held = self.views.held(name);
        let showing = self.views.instances_of(name).into_iter();
        let one = |(number, service): (u32, ServiceName)| {
            let read = read.iter().find(|read| read.instance == number);
            let holds = held.iter().filter(|(holder, _)| *holder == number);
            let instance = ReaderInstance {
                instance: number,
                version: read.map(|read| read.version),
                since: read.map(|read| Timestamp(read.since.seconds())),
                last: read.map(|read| Timestamp(read.last.seconds())),
                holds: holds.map(|(_, version)| *version).collect(),
            };
            (service, instance)
        };
        showing.map(one).collect()
    }

    /// Waits until every instance that shows a secret and has read it has read `version` or a later
    /// one: how many have, and which have not.
    pub fn adopted(&self, name: &SecretName, version: u32, patience: Duration) -> (u64, Late) {
        let showing = self.views.instances_of(name);
        let is_behind = |reader: &audit::Reader| {
            let shows = showing.iter().any(|(number, _)| *number == reader.instance);
            shows && reader.version < version
        };
        let readers = self.audit.adoption(|adoption| {
            let all = |readers: &[audit::Reader]| !readers.iter().any(is_behind);
            adoption.wait(name.as_str(), patience, all)
        });
        let readers = readers.unwrap_or_default();
        let behind = |(number, _): &&(u32, ServiceName)| {
            let mut own = readers.iter().filter(|reader| reader.instance == *number);
            own.any(is_behind)
        };
        let adopted = readers.iter().filter(|reader| reader.version >= version);
        let late = showing.iter().filter(behind).cloned().collect();
        (adopted.count() as u64, late)
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
        let us = ourselves();
        let detail = list(names);
        let act = Act::new("secret.expire", service.as_str()).detail(&detail);
        if let Some(us) = &us {
            self.audit.happened(us, act, Outcome::Done, "");
        }
        self.tell(self.views.denied(Some(service), names), Vec::new());
    }

    /// The grace of a secret's older version is over: it is taken away as by a revoke.
    pub fn grace_ended(&self, name: &SecretName) {
        log::info!("the version before the newest of {name} is not shown any more");
        self.tell(self.views.previous_changed(name), Vec::new());
    }

    /// Tells the injector what has changed, and the kernel which names are no more. In this order:
    /// a name that is unlinked while the kernel knows it is a DELETE for its watchers.
    /// `versions` are those of what has changed, for services with an on_change. Gives the instances
    /// that were not reached in time.
    pub(super) fn tell(&self, mut touched: Touched, versions: Vec<NameVersion>) -> Late {
        let gone = std::mem::take(&mut touched.gone);
        let mut stale = std::mem::take(&mut touched.stuck);
        let unrung = self.named(self.injector.pass_on(touched, versions));
        stale.extend(self.views.forget_gone(gone));
        stale.sort();
        stale.dedup();
        let behind = Behind { stale, unrung };
        injector::warn_of_behind(&behind);
        behind.late()
    }

    /// An operator gets a value, once this is written down.
    pub fn value_read(
        &self,
        operator: &Operator,
        name: &SecretName,
        version: u32,
    ) -> Result<(), Unaudited> {
        let detail = format!("version {version}");
        let act = Act::new("secret.get", name.as_str()).detail(&detail);
        self.audit.witness(operator, act)
    }
}

fn list(names: &[SecretName]) -> String {
    names
        .iter()
        .map(SecretName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}
