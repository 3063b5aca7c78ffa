//! What is known without decrypting a value: heads, grants, and configs without their data.
//!
//! Kept in memory while unsealed, so that a permit costs two look-ups. A change that takes away
//! (revoke, delete) is made here first and on disk later; one that gives is made on disk first.

mod secret;
mod service;

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use model::{ConfigName, SecretName, ServiceName};
use records::NameHash;

use crate::clock::{Clock, Reading};
use crate::documents::{self, ConfigDocument, Grants, Head};
use crate::envelope;
use crate::error::{EnvelopeError, RecordError, UnsealError};
use crate::live::{Generation, Sealer};
use crate::meta::{ConfigMeta, VersionMeta};
use crate::place::{Kind, Place};

pub(crate) use self::secret::Secret;
pub(crate) use self::service::{Service, names};

#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) secrets: BTreeMap<SecretName, Secret>,
    pub(crate) services: BTreeMap<ServiceName, Service>,
    pub(crate) configs: BTreeMap<ConfigName, StoredConfig>,
    pub(crate) clock: Clock,
}

/// A config, or what is left of one that was deleted: its version counts on.
pub(crate) struct StoredConfig {
    pub(crate) meta: ConfigMeta,
    pub(crate) there: bool,
}

/// The names from `prefix` on, for a map by name.
pub(crate) fn from_name(prefix: &str) -> (Bound<&str>, Bound<&str>) {
    (Bound::Included(prefix), Bound::Unbounded)
}

/// The records of one version.
pub(crate) fn places_of(name: &SecretName, version: &VersionMeta) -> Vec<Place> {
    version
        .sizes
        .iter()
        .map(|(field, _)| Place::Version(name.clone(), version.number, field.clone()))
        .collect()
}

impl Catalog {
    /// Reads all heads, grants and configs, and checks that each version's records are there.
    /// Whatever is not understood is refused; grants alone are only denied.
    pub(crate) fn load(generation: &Generation) -> Result<(Self, Vec<String>), UnsealError> {
        let mut catalog = Self {
            clock: clock(generation)?,
            ..Self::default()
        };
        let mut warnings = Vec::new();
        let mut parts = HashSet::new();
        for (hash, _) in generation.records.entries() {
            let record = generation.records.get(&hash)?.ok_or_else(|| RecordError {
                what: "something that is listed".into(),
                why: EnvelopeError::Missing,
            })?;
            let kind = envelope::kind_of(&record).map_err(unnamed)?;
            if kind == Kind::Version {
                parts.insert(hash);
            } else {
                let more = catalog.take_in(&generation.sealer, kind, &hash, &record)?;
                warnings.extend(more.warning);
            }
        }
        for (name, secret) in &catalog.secrets {
            for version in secret.versions.iter().chain(&secret.doomed) {
                for place in places_of(name, version) {
                    if !parts.remove(&place.hash(&generation.sealer.keys)) {
                        let what = place.describe();
                        return Err(RecordError {
                            what,
                            why: EnvelopeError::Missing,
                        }
                        .into());
                    }
                }
            }
        }
        if !parts.is_empty() {
            warnings.push(format!(
                "{} sealed records belong to no secret",
                parts.len()
            ));
        }
        Ok((catalog, warnings))
    }

    /// Takes in a record that was found by listing, of any kind but a version's.
    pub(crate) fn take_in(
        &mut self,
        sealer: &Sealer,
        kind: Kind,
        hash: &NameHash,
        record: &[u8],
    ) -> Result<TakenIn, RecordError> {
        let text = sealer.open_listed(kind, hash, record).map_err(unnamed)?;
        let mut warning = None;
        let found = match kind {
            Kind::Head => {
                let (name, secret) = Head::parse(&text)
                    .map(|head| Secret::from_head(head, &self.clock))
                    .map_err(unnamed)?;
                let place = Place::Head(name.clone());
                self.secrets.insert(name, secret);
                place
            }
            Kind::Grants => {
                let grants: Grants = documents::parse(&text).map_err(unnamed)?;
                let place = Place::Grants(grants.service.clone());
                warning = self.take_in_grants(grants);
                place
            }
            Kind::Config => {
                let config: ConfigDocument = documents::parse(&text).map_err(unnamed)?;
                let place = Place::Config(config.name.clone());
                self.configs.insert(config.name.clone(), config.stored());
                place
            }
            // Read before all others.
            Kind::Clock => Place::Clock,
            Kind::Version | Kind::SlotKeys | Kind::Passphrase => {
                return Err(unnamed(EnvelopeError::Kind(kind.code())));
            }
        };
        // The record is bound to its name on disk, and that must be the name inside.
        if found.hash(&sealer.keys) == *hash {
            let place = found;
            Ok(TakenIn { place, warning })
        } else {
            Err(RecordError {
                what: found.describe(),
                why: EnvelopeError::Tag,
            })
        }
    }

    fn take_in_grants(&mut self, grants: Grants) -> Option<String> {
        let name = grants.service.clone();
        let (known, unknown) = grants.sort_out();
        let warning = (!unknown.is_empty()).then(|| {
            format!(
                "{} grants of service {name} say more than this version understands: denied",
                unknown.len()
            )
        });
        let mut service = Service {
            unknown,
            ..Service::default()
        };
        for grant in &known {
            service.take_in(grant, &self.clock);
        }
        self.services.insert(name, service);
        warning
    }

    /// Every record that there is, by its place.
    ///
    /// The store's own time comes first, and a secret's versions right behind its head: so they can
    /// be read in one go.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        places.extend(self.clock.is_kept.then_some(Place::Clock));
        for (name, secret) in &self.secrets {
            places.push(Place::Head(name.clone()));
            for version in secret.versions.iter().chain(&secret.doomed) {
                places.extend(places_of(name, version));
            }
        }
        places.extend(self.services.keys().cloned().map(Place::Grants));
        places.extend(self.configs.keys().cloned().map(Place::Config));
        places
    }

    /// Whether there must be a record at a place.
    pub(crate) fn lists(&self, place: &Place) -> bool {
        match place {
            Place::Head(name) => self.secrets.contains_key(name),
            Place::Version(name, number, field) => self.secrets.get(name).is_some_and(|secret| {
                let mut all = secret.versions.iter().chain(&secret.doomed);
                all.any(|one| one.number == *number && one.size_of(field.as_ref()).is_some())
            }),
            Place::Grants(name) => self.services.contains_key(name),
            Place::Config(name) => self.configs.contains_key(name),
            Place::Clock => self.clock.is_kept,
        }
    }

    /// Makes every permit say that the store is sealed.
    pub(crate) fn seal(&self) {
        for secret in self.secrets.values() {
            secret.cell.seal();
        }
        for granted in self
            .services
            .values()
            .flat_map(|service| service.grants.values())
        {
            granted.cell.seal();
        }
    }
}

/// What came of taking a record in.
pub(crate) struct TakenIn {
    pub(crate) place: Place,
    /// What an operator should know.
    pub(crate) warning: Option<String>,
}

fn unnamed(why: EnvelopeError) -> RecordError {
    RecordError {
        what: "something that is not known yet".into(),
        why,
    }
}

/// The store's own time, which goes on from what was kept.
fn clock(generation: &Generation) -> Result<Clock, UnsealError> {
    let record = generation.get(&Place::Clock)?;
    Ok(clock_of(&generation.sealer, record.as_deref())?)
}

/// The same from its record, if there is one.
pub(crate) fn clock_of(sealer: &Sealer, record: Option<&[u8]>) -> Result<Clock, RecordError> {
    let place = Place::Clock;
    let kept = match record {
        Some(record) => {
            let text = sealer.open(&place, record)?;
            let kept = documents::parse(&text).map_err(|why| RecordError {
                what: place.describe(),
                why,
            })?;
            Some(kept)
        }
        None => None,
    };
    Ok(Clock::resume(kept.as_ref(), Reading::take()))
}
