//! Deleting a secret: gone for everyone first, on disk later.

use std::fmt;
use std::sync::{Arc, Weak};

use model::{SecretName, ServiceName};
use sys::lock::{read, write};

use crate::catalog::{Service, places_of};
use crate::documents::{self, Head};
use crate::error::WriteError;
use crate::grants::{Change, stage};
use crate::live::Live;
use crate::operator::Operator;
use crate::place::Place;
use crate::store::Store;
use crate::versions::no_secret;
use crate::writers::Name;

impl Store {
    /// Deletes a secret, with all versions and all grants of it: gone for everyone when this
    /// returns, which waits for no disk and no other writer; durable when [`Deletion::commit`] has
    /// returned. A new secret of this name starts without grants, at a version number that was
    /// never given.
    ///
    /// # Errors
    /// The store is sealed, or there is no such secret.
    pub fn delete(&self, _: &Operator, name: &SecretName) -> Result<Deletion, WriteError> {
        let live = self.writable()?;
        let mut catalog = write(&live.catalog);
        let secret = catalog
            .secrets
            .get_mut(name)
            .filter(|secret| !secret.versions.is_empty());
        let secret = secret.ok_or_else(|| no_secret(name))?;
        secret.deleting = true;
        secret.cell.revoke();
        let mut services = Vec::new();
        for (service, given) in &catalog.services {
            if let Some(granted) = given.grants.get(name) {
                granted.cell.revoke();
                services.push(service.clone());
            }
        }
        Ok(Deletion {
            store: self.clone(),
            live: Arc::downgrade(&live),
            name: name.clone(),
            services,
        })
    }
}

/// A secret that is gone in memory already; [`Deletion::commit`] makes it durable. Dropped without
/// it, the name cannot be used until it is deleted again, or the store is sealed.
#[must_use = "a deletion that is not committed is forgotten with the process"]
pub struct Deletion {
    store: Store,
    live: Weak<Live>,
    name: SecretName,
    services: Vec<ServiceName>,
}

impl Deletion {
    /// Makes it durable.
    ///
    /// # Errors
    /// The store was sealed meanwhile, or the commit failed: whether the secret is back after the
    /// next unseal is open then.
    pub fn commit(self) -> Result<(), WriteError> {
        let live = self.store.still(&self.live)?;
        // The secret first: with it locked, no service gets a grant of it any more.
        let secret = live.lock_names(vec![Name::Secret(self.name.clone())]);
        let services = self.granted(&live);
        let guards = live.lock_names(services.iter().cloned().map(Name::Service).collect());
        let mut writing = live.write_more(vec![secret, guards])?;
        let Some(gone) = self.head(&live) else {
            // Committed by another deletion of the same secret.
            return Ok(());
        };
        let mut staged = Vec::new();
        for service in &services {
            staged.push(stage(
                &live,
                &mut writing,
                service,
                Change::Take(self.name.clone()),
            )?);
        }
        for place in gone
            .versions
            .iter()
            .flat_map(|version| places_of(&self.name, version))
        {
            writing.remove(place);
        }
        let place = Place::Head(self.name.clone());
        let tombstone = Head {
            oldest: gone.next,
            versions: Vec::new(),
            ..gone
        };
        let text = documents::write(&place, &tombstone)?;
        writing.put(place, &text)?;
        writing.commit()?;
        let mut catalog = write(&live.catalog);
        staged
            .into_iter()
            .for_each(|staged| staged.publish(&mut catalog));
        if let Some(secret) = catalog.secrets.get_mut(&self.name) {
            secret.oldest = secret.next;
            secret.versions.clear();
            secret.doomed.clear();
            secret.deleting = false;
        }
        Ok(())
    }

    /// Services that have a grant of it, one that is not understood too.
    fn granted(&self, live: &Live) -> Vec<ServiceName> {
        let has = |service: &Service| {
            service.grants.contains_key(&self.name) || service.has_unknown(&self.name)
        };
        let catalog = read(&live.catalog);
        let granted = catalog.services.iter().filter(|(_, service)| has(service));
        granted.map(|(name, _)| name.clone()).collect()
    }

    /// The head as it is on disk; `None`: nobody is deleting it any more.
    fn head(&self, live: &Live) -> Option<Head> {
        let catalog = read(&live.catalog);
        let secret = catalog
            .secrets
            .get(&self.name)
            .filter(|secret| secret.deleting)?;
        Some(secret.head(&self.name))
    }

    /// Services that had it granted.
    #[must_use]
    pub fn services(&self) -> &[ServiceName] {
        &self.services
    }
}

impl fmt::Debug for Deletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deletion")
            .field("name", &self.name)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}
