//! Grants: one sealed record for each service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};

use model::{Grant, Pins, SecretName, ServiceName, Timestamp};
use sys::lock::{read, write};

use crate::catalog::{Catalog, Secret, Service, names};
use crate::documents::{self, Grants};
use crate::error::WriteError;
use crate::live::{Live, Writing};
use crate::meta::GrantMeta;
use crate::operator::Operator;
use crate::place::Place;
use crate::store::Store;
use crate::time;
use crate::writers::Name;

/// The most grants of one service; as many as a manifest may ask for.
const MAX_GRANTS: usize = 4096;

impl Store {
    /// Lets a service read secrets, or changes until when it may. All or none of them.
    ///
    /// # Errors
    /// A secret does not exist ([`WriteError::NotFound`]), or the service has too many grants.
    pub fn grant(
        &self,
        _: &Operator,
        service: &ServiceName,
        secrets: &[SecretName],
        until: Option<Timestamp>,
        pins: Pins,
    ) -> Result<(), WriteError> {
        let live = self.writable()?;
        let secrets: BTreeSet<_> = secrets.iter().cloned().collect();
        if secrets.is_empty() {
            return Ok(());
        }
        pins.check()
            .map_err(|error| WriteError::Invalid(error.to_string()))?;
        let names = secrets.iter().cloned().map(Name::Secret);
        let mut writing = live.write(names.chain([Name::Service(service.clone())]).collect())?;
        all_exist(&live, &secrets)?;
        let deadline = until.map(|until| read(&live.catalog).clock.deadline(until));
        let grants: Vec<_> = secrets
            .into_iter()
            .map(|secret| Grant {
                secret,
                until,
                deadline,
                pins: pins.clone(),
            })
            .collect();
        let staged = stage(&live, &mut writing, service, Change::Give(grants))?;
        if until.is_some() {
            time::keep(&live, &mut writing)?;
        }
        writing.commit()?;
        let mut catalog = write(&live.catalog);
        catalog.clock.is_kept |= until.is_some();
        staged.publish(&mut catalog);
        Ok(())
    }

    /// Takes grants away: denied for everyone when this returns, which waits for no disk and no
    /// other writer; durable when [`Revocation::commit`] has returned.
    ///
    /// # Errors
    /// The store is sealed.
    pub fn revoke(
        &self,
        _: &Operator,
        service: &ServiceName,
        secrets: &[SecretName],
    ) -> Result<Revocation, WriteError> {
        let live = self.writable()?;
        let secrets: BTreeSet<_> = secrets.iter().cloned().collect();
        let mut catalog = write(&live.catalog);
        let mut given = catalog.services.get_mut(service);
        let (secrets, not_granted) = secrets
            .into_iter()
            .partition(|secret| given.as_mut().is_some_and(|given| given.take(secret)));
        Ok(Revocation {
            store: self.clone(),
            live: Arc::downgrade(&live),
            service: service.clone(),
            secrets,
            not_granted,
        })
    }

    /// All grants, or those of one service, in the order of names. A grant that this version does
    /// not understand is not among them: it allows nothing.
    ///
    /// # Errors
    /// The store is sealed.
    pub fn grants(
        &self,
        _: &Operator,
        service: Option<&ServiceName>,
    ) -> Result<Vec<GrantMeta>, WriteError> {
        let live = self.writable()?;
        let catalog = read(&live.catalog);
        let asked = catalog
            .services
            .iter()
            .filter(|(name, _)| service.is_none_or(|one| one == *name));
        let exists = |grant: &Grant| {
            catalog
                .secrets
                .get(&grant.secret)
                .is_some_and(Secret::exists)
        };
        Ok(asked
            .flat_map(|(name, service)| {
                let grants = service.list().filter(exists);
                grants.map(|grant| GrantMeta {
                    service: name.clone(),
                    left: service.left(&grant.secret),
                    had_ended: grant
                        .until
                        .is_some_and(|until| catalog.clock.had_ended(until, grant.deadline)),
                    grant,
                })
            })
            .collect())
    }
}

fn all_exist(live: &Live, secrets: &BTreeSet<SecretName>) -> Result<(), WriteError> {
    let catalog = read(&live.catalog);
    let exists = |name: &&SecretName| catalog.secrets.get(*name).is_some_and(Secret::exists);
    let missing: Vec<_> = secrets
        .iter()
        .filter(|name| !exists(name))
        .map(SecretName::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(WriteError::NotFound(format!(
        "there is no secret {}; make it with `deploy secret set` before granting it",
        missing.join(", ")
    )))
}

/// What becomes of a service's grants.
pub(crate) enum Change {
    /// These come, or take the place of what is there.
    Give(Vec<Grant>),
    /// The grant of a secret that is being deleted goes.
    Take(SecretName),
    /// They become on disk what they are in memory.
    None,
}

/// A service's record in the next commit; [`Staged::publish`] follows the commit.
pub(crate) struct Staged {
    service: ServiceName,
    change: Change,
    takes: u64,
}

/// Puts a service's record into the next commit; without grants it goes.
pub(crate) fn stage(
    live: &Live,
    writing: &mut Writing<'_>,
    service: &ServiceName,
    change: Change,
) -> Result<Staged, WriteError> {
    let (mut grants, mut unknown, mut takes) = (BTreeMap::new(), Vec::new(), 0);
    if let Some(given) = read(&live.catalog).services.get(service) {
        grants.extend(given.list().map(|grant| (grant.secret.clone(), grant)));
        unknown.clone_from(&given.unknown);
        takes = given.takes;
    }
    match &change {
        Change::Give(more) => {
            for grant in more {
                unknown.retain(|value| !names(value, &grant.secret));
                grants.insert(grant.secret.clone(), grant.clone());
            }
        }
        Change::Take(secret) => {
            unknown.retain(|value| !names(value, secret));
            grants.remove(secret);
        }
        Change::None => {}
    }
    if grants.len() + unknown.len() > MAX_GRANTS {
        return Err(WriteError::TooLarge(format!(
            "service {service} would have more than {MAX_GRANTS} grants"
        )));
    }
    let place = Place::Grants(service.clone());
    if grants.is_empty() && unknown.is_empty() {
        writing.remove(place);
    } else {
        let known = grants
            .into_values()
            .filter_map(|grant| serde_json::to_value(grant).ok());
        let grants = known.chain(unknown).collect();
        let text = documents::write(
            &place,
            &Grants {
                service: service.clone(),
                grants,
            },
        )?;
        writing.put(place, &text)?;
    }
    Ok(Staged {
        service: service.clone(),
        change,
        takes,
    })
}

impl Staged {
    /// Changes the catalog as the disk was. What was taken away meanwhile stays away, and is not on
    /// disk yet.
    pub(crate) fn publish(self, catalog: &mut Catalog) {
        let service = catalog.services.entry(self.service.clone()).or_default();
        match self.change {
            Change::Give(grants) => {
                let clock = &catalog.clock;
                grants.iter().for_each(|grant| service.give(grant, clock));
            }
            Change::Take(secret) => {
                service.drop_grant(&secret);
            }
            Change::None => {}
        }
        service.committed = self.takes;
        if !service.any() && service.committed == service.takes {
            catalog.services.remove(&self.service);
        }
    }
}

/// Grants that are denied in memory already; [`Revocation::commit`] makes it durable. Dropped
/// without it, they are denied until the store is sealed or its process ends.
#[must_use = "a revocation that is not committed is forgotten with the process"]
pub struct Revocation {
    store: Store,
    live: Weak<Live>,
    service: ServiceName,
    secrets: Vec<SecretName>,
    not_granted: Vec<SecretName>,
}

impl Revocation {
    /// Makes it durable.
    ///
    /// # Errors
    /// The store was sealed meanwhile, or the commit failed: whether the grants are back after the
    /// next unseal is open then.
    pub fn commit(self) -> Result<(), WriteError> {
        let live = self.store.still(&self.live)?;
        let mut writing = live.write(vec![Name::Service(self.service.clone())])?;
        // Another commit may have made it durable; one that failed may have left more than ours.
        let differs = |service: &Service| service.takes != service.committed;
        if !read(&live.catalog)
            .services
            .get(&self.service)
            .is_some_and(differs)
        {
            return Ok(());
        }
        let staged = stage(&live, &mut writing, &self.service, Change::None)?;
        writing.commit()?;
        staged.publish(&mut write(&live.catalog));
        Ok(())
    }

    /// Names that were denied.
    #[must_use]
    pub fn secrets(&self) -> &[SecretName] {
        &self.secrets
    }

    /// Names that were not granted.
    #[must_use]
    pub fn not_granted(&self) -> &[SecretName] {
        &self.not_granted
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation")
            .field("service", &self.service)
            .field("secrets", &self.secrets)
            .field("not_granted", &self.not_granted)
            .finish_non_exhaustive()
    }
}
