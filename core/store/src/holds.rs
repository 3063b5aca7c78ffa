//! Versions that instances have open, and what becomes of those that nobody has.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use model::SecretName;
use sys::lock::{lock, read, write};

use crate::catalog::{Catalog, Secret, places_of};
use crate::documents;
use crate::error::WriteError;
use crate::live::{Live, Writing};
use crate::place::Place;
use crate::store::Store;
use crate::writers::Name;

/// How often each version is open. Taken while the catalog is locked: a version is doomed under the
/// catalog's write lock, so that it is either held in time or gone.
#[derive(Default)]
pub(crate) struct Holds(Mutex<HashMap<SecretName, HashMap<u32, u64>>>);

impl Holds {
    fn add(&self, name: &SecretName, version: u32) {
        let mut holds = lock(&self.0);
        if let Some(of_name) = holds.get_mut(name) {
            *of_name.entry(version).or_default() += 1;
        } else {
            holds.insert(name.clone(), HashMap::from([(version, 1)]));
        }
    }

    fn sub(&self, name: &SecretName, version: u32) {
        let mut holds = lock(&self.0);
        let Some(of_name) = holds.get_mut(name) else {
            return;
        };
        if let Some(count) = of_name.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                of_name.remove(&version);
            }
        }
        if of_name.is_empty() {
            holds.remove(name);
        }
    }

    /// Dooms what is out of reach and not held.
    pub(crate) fn doom(&self, name: &SecretName, secret: &mut Secret) {
        let holds = lock(&self.0);
        let of_name = holds.get(name);
        secret.doom(|version| of_name.is_some_and(|held| held.contains_key(&version)));
    }

    fn is_held(&self, name: &SecretName, version: u32) -> bool {
        lock(&self.0)
            .get(name)
            .is_some_and(|held| held.contains_key(&version))
    }

    /// Versions that are there only because they are held.
    pub(crate) fn retained(&self, catalog: &Catalog) -> u64 {
        let holds = lock(&self.0);
        let held = holds
            .iter()
            .filter_map(|(name, held)| Some((catalog.secrets.get(name)?, held)));
        held.map(|(secret, held)| {
            secret
                .out_of_reach()
                .iter()
                .filter(|one| held.contains_key(&one.number))
                .count() as u64
        })
        .sum()
    }
}

impl Store {
    /// Keeps a version for one open of an instance, until [`Store::release`], however many newer
    /// ones come: except under `keep` 0, where a newer version takes it away from everyone. False:
    /// there is no such version any more. Counts; never waits for a disk.
    #[must_use]
    pub fn hold(&self, name: &SecretName, version: u32) -> bool {
        let Some(live) = self.live() else {
            return false;
        };
        let catalog = read(&live.catalog);
        let secret = catalog.secrets.get(name).filter(|secret| secret.exists());
        let there = secret.is_some_and(|secret| secret.version(version).is_some());
        if there {
            self.inner.holds.add(name, version);
        }
        there
    }

    /// Ends one [`Store::hold`]. Never commits: what is free now goes with the name's next change,
    /// or by [`Store::sweep`].
    pub fn release(&self, name: &SecretName, version: u32) {
        self.inner.holds.sub(name, version);
    }

    /// Every version that is there, in reach or not, of all secrets; `None` while sealed.
    #[must_use]
    pub fn versions(&self) -> Option<BTreeMap<SecretName, Vec<u32>>> {
        let live = self.live()?;
        let catalog = read(&live.catalog);
        let existing = catalog.secrets.iter().filter(|(_, secret)| secret.exists());
        let of_secret = |secret: &Secret| secret.versions.iter().map(|one| one.number).collect();
        Some(
            existing
                .map(|(name, secret)| (name.clone(), of_secret(secret)))
                .collect(),
        )
    }

    /// Removes versions out of reach that nobody holds; says how many.
    ///
    /// # Errors
    /// The store is sealed, or a commit failed; what was swept until then stays swept.
    pub fn sweep(&self) -> Result<u64, WriteError> {
        let live = self.writable()?;
        let mut swept = 0;
        for name in self.free(&live) {
            let mut writing = live.write(vec![Name::Secret(name.clone())])?;
            if let Some(secret) = write(&live.catalog).secrets.get_mut(&name) {
                self.inner.holds.doom(&name, secret);
            }
            swept += remove_doomed(&live, &mut writing, &name)?;
        }
        Ok(swept)
    }

    /// Names with something to sweep.
    fn free(&self, live: &Live) -> Vec<SecretName> {
        let catalog = read(&live.catalog);
        let free = |(name, secret): &(&SecretName, &Secret)| {
            let mut older = secret.out_of_reach().iter();
            !secret.deleting
                && (!secret.doomed.is_empty()
                    || older.any(|one| !self.inner.holds.is_held(name, one.number)))
        };
        catalog
            .secrets
            .iter()
            .filter(free)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// Commits a head without its doomed versions, and removes their records; says how many.
pub(crate) fn remove_doomed(
    live: &Live,
    writing: &mut Writing<'_>,
    name: &SecretName,
) -> Result<u64, WriteError> {
    let (mut head, doomed) = {
        let catalog = read(&live.catalog);
        match catalog.secrets.get(name) {
            Some(secret) if !secret.doomed.is_empty() => (secret.head(name), secret.doomed.clone()),
            _ => return Ok(0),
        }
    };
    head.versions.retain(|version| !doomed.contains(version));
    let place = Place::Head(name.clone());
    let text = documents::write(&place, &head)?;
    writing.put(place, &text)?;
    for place in doomed.iter().flat_map(|version| places_of(name, version)) {
        writing.remove(place);
    }
    writing.commit()?;
    if let Some(secret) = write(&live.catalog).secrets.get_mut(name) {
        secret.doomed.clear();
    }
    Ok(doomed.len() as u64)
}
