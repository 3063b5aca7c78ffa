//! Secrets and their versions: create, set, rotate, roll back, list.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Grant, Pins, SecretName, ServiceName};
use sys::lock::{read, write};

use crate::catalog::{Secret, from_name, places_of};
use crate::clock::End;
use crate::documents::{self, Grace, Head};
use crate::error::{EnvelopeError, RecordError, WriteError};
use crate::grants::{Change, Staged, stage};
use crate::holds::remove_doomed;
use crate::live::{Live, Writing};
use crate::meta::{DEFAULT_KEEP, MAX_KEEP, MAX_VERSION, SecretMeta, Shape, VersionMeta};
use crate::operator::Operator;
use crate::permit::{Cell, now};
use crate::place::Place;
use crate::store::Store;
use crate::time::{self, MAX_GRACE};
use crate::value::{MAX_FIELDS, MAX_VERSION_BYTES, SecretBytes, Value};
use crate::writers::Name;

/// What [`Store::set`] does beside making a version.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetOptions {
    /// How many versions stay in reach; `None`: as before, or [`DEFAULT_KEEP`].
    pub keep: Option<u32>,
    /// One value may become fields, or the other way round.
    pub reshape: bool,
}

impl Store {
    /// Makes a secret, and grants it to `allowed` in the same transaction.
    ///
    /// # Errors
    /// There is one of this name ([`WriteError::Conflict`]), or the value is not acceptable.
    pub fn create(
        &self,
        _: &Operator,
        name: &SecretName,
        value: Value,
        keep: Option<u32>,
        allowed: &[ServiceName],
    ) -> Result<SecretMeta, WriteError> {
        check(&value, keep)?;
        let live = self.writable()?;
        let services = allowed.iter().cloned().map(Name::Service);
        let mut writing = live.write(services.chain([Name::Secret(name.clone())]).collect())?;
        if existing(&live, name)?.is_some() {
            return Err(WriteError::Conflict(format!(
                "secret {name} exists; `deploy secret set {name}` makes a new version of it"
            )));
        }
        let mut staged = Vec::new();
        for service in allowed.iter().collect::<BTreeSet<_>>() {
            let grant = Grant {
                secret: name.clone(),
                until: None,
                deadline: None,
                pins: Pins::default(),
            };
            staged.push(stage(
                &live,
                &mut writing,
                service,
                Change::Give(vec![grant]),
            )?);
        }
        let keep = keep.unwrap_or(DEFAULT_KEEP);
        self.add(&mut writing, name, &value, keep, None, staged)
    }

    /// The first version of a new secret, or the next one of a secret that exists.
    ///
    /// # Errors
    /// The value is not acceptable, or has another shape and `reshape` is not set.
    pub fn set(
        &self,
        _: &Operator,
        name: &SecretName,
        value: Value,
        options: SetOptions,
    ) -> Result<SecretMeta, WriteError> {
        check(&value, options.keep)?;
        let live = self.writable()?;
        let mut writing = live.write(vec![Name::Secret(name.clone())])?;
        let before = existing(&live, name)?;
        if let Some(before) = before.as_ref().filter(|_| !options.reshape) {
            same_shape(name, before.shape, value.shape())?;
        }
        let keep = options
            .keep
            .or(before.map(|before| before.keep))
            .unwrap_or(DEFAULT_KEEP);
        self.add(&mut writing, name, &value, keep, None, Vec::new())
    }

    /// The next version of a secret that must exist.
    ///
    /// # Errors
    /// There is no such secret, or the value is not acceptable or of another shape.
    pub fn rotate(
        &self,
        _: &Operator,
        name: &SecretName,
        value: Value,
    ) -> Result<SecretMeta, WriteError> {
        self.next_version(name, &value, None)
    }

    /// As [`Store::rotate`], and the version before stays readable as the previous one for `lasts`.
    /// Without a grace of its own, a later rotation leaves one that runs as it is.
    ///
    /// # Errors
    /// As there; or the grace is too long, or the secret keeps no old versions.
    pub fn rotate_with_grace(
        &self,
        _: &Operator,
        name: &SecretName,
        value: Value,
        lasts: Duration,
    ) -> Result<SecretMeta, WriteError> {
        if lasts < Duration::from_secs(1) || lasts > MAX_GRACE {
            return Err(WriteError::Invalid(
                "a grace lasts a second to 366 days".into(),
            ));
        }
        self.next_version(name, &value, Some(lasts))
    }

    fn next_version(
        &self,
        name: &SecretName,
        value: &Value,
        grace: Option<Duration>,
    ) -> Result<SecretMeta, WriteError> {
        check(value, None)?;
        let live = self.writable()?;
        let mut writing = live.write(vec![Name::Secret(name.clone())])?;
        let before = existing(&live, name)?.ok_or_else(|| no_secret(name))?;
        same_shape(name, before.shape, value.shape())?;
        if before.keep == 0 && grace.is_some() {
            return Err(WriteError::Invalid(format!(
                "secret {name} keeps no old versions, so there can be no grace; `deploy secret set \
                 --keep 1 {name}` changes that"
            )));
        }
        let grace = grace.map(|lasts| time::grace(&live, before.newest().number, lasts));
        self.add(&mut writing, name, value, before.keep, grace, Vec::new())
    }

    /// Makes a new version with what an older one holds.
    ///
    /// # Errors
    /// There is no such secret or version in reach, it is the newest, or it has another shape.
    pub fn rollback(
        &self,
        _: &Operator,
        name: &SecretName,
        to: u32,
    ) -> Result<SecretMeta, WriteError> {
        let live = self.writable()?;
        let mut writing = live.write(vec![Name::Secret(name.clone())])?;
        let before = existing(&live, name)?.ok_or_else(|| no_secret(name))?;
        let version = before.version(to).ok_or_else(|| {
            WriteError::NotFound(format!(
                "secret {name} has no version {to}; `deploy secret history {name}` shows those it \
                 has"
            ))
        })?;
        if to == before.newest().number {
            return Err(WriteError::Conflict(format!(
                "version {to} is the newest of secret {name} already"
            )));
        }
        same_shape(name, before.shape, version.shape())?;
        let value = read_back(&writing, name, version)?;
        self.add(&mut writing, name, &value, before.keep, None, Vec::new())
    }

    /// The secrets whose names begin with `prefix`, in the order of names.
    ///
    /// # Errors
    /// The store is sealed.
    pub fn list(&self, _: &Operator, prefix: &str) -> Result<Vec<SecretMeta>, WriteError> {
        let live = self.writable()?;
        let catalog = read(&live.catalog);
        let from = catalog.secrets.range::<str, _>(from_name(prefix));
        Ok(from
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .filter(|(_, secret)| secret.exists())
            .map(|(name, secret)| secret.meta(name))
            .collect())
    }

    /// The versions in reach, oldest first.
    ///
    /// # Errors
    /// There is no such secret.
    pub fn history(&self, _: &Operator, name: &SecretName) -> Result<Vec<VersionMeta>, WriteError> {
        let live = self.writable()?;
        let catalog = read(&live.catalog);
        let secret = catalog.secrets.get(name).filter(|secret| secret.exists());
        Ok(secret.ok_or_else(|| no_secret(name))?.in_reach().to_vec())
    }

    /// Adds a version; the caller has the name to itself. What nobody holds any more of versions
    /// that were out of reach before goes in the same transaction. What was newest until now stays:
    /// it may be opened up to the moment in which the new one shows.
    fn add(
        &self,
        writing: &mut Writing<'_>,
        name: &SecretName,
        value: &Value,
        keep: u32,
        grace: Option<Grace>,
        grants: Vec<Staged>,
    ) -> Result<SecretMeta, WriteError> {
        let live = writing.live();
        let (mut head, doomed) = self.plan(live, name, keep);
        head.grace = grace.or(head.grace);
        if keep == 0 {
            head.grace = None;
        }
        let number = head.next;
        if number > MAX_VERSION {
            return Err(WriteError::Conflict(format!(
                "secret {name} has used up its {MAX_VERSION} versions; choose another name"
            )));
        }
        let sizes = value
            .parts()
            .map(|(field, bytes)| (field.cloned(), bytes.len() as u64));
        let version = VersionMeta {
            number,
            created: now(),
            sizes: sizes.collect(),
        };
        head.versions.push(version.clone());
        head.next += 1;
        let reach = head.versions.iter().rev().nth(keep.max(1) as usize - 1);
        head.oldest = reach.map_or(head.oldest, |oldest| head.oldest.max(oldest.number));
        for (field, bytes) in value.parts() {
            writing.put(
                Place::Version(name.clone(), number, field.cloned()),
                bytes.expose(),
            )?;
        }
        let place = Place::Head(name.clone());
        let text = documents::write(&place, &head)?;
        writing.put(place, &text)?;
        if grace.is_some() {
            time::keep(live, writing)?;
        }
        for place in doomed.iter().flat_map(|version| places_of(name, version)) {
            writing.remove(place);
        }
        writing.commit()?;
        let meta = {
            let mut catalog = write(&live.catalog);
            catalog.clock.is_kept |= grace.is_some();
            let catalog = &mut *catalog;
            let secret = catalog
                .secrets
                .entry(name.clone())
                .or_insert_with(Secret::absent);
            if secret.versions.is_empty() {
                // Permits of one that was deleted stay revoked.
                secret.cell = Cell::new(End::NEVER);
            }
            secret.keep = keep;
            secret.next = head.next;
            secret.oldest = head.oldest;
            let end = |grace: Grace| {
                let end = catalog.clock.end(grace.until, Some(grace.deadline));
                (grace, end)
            };
            secret.grace = head.grace.map(end);
            secret.versions.push(version);
            secret.doomed.clear();
            if keep == 0 {
                secret.doom(|_| false);
            }
            let meta = secret.meta(name);
            grants
                .into_iter()
                .for_each(|staged| staged.publish(catalog));
            meta
        };
        if keep == 0 {
            remove_doomed(live, writing, name)?;
        }
        Ok(meta)
    }

    /// Dooms what can go, and gives the head without it.
    fn plan(&self, live: &Live, name: &SecretName, keep: u32) -> (Head, Vec<VersionMeta>) {
        let mut catalog = write(&live.catalog);
        let Some(secret) = catalog.secrets.get_mut(name) else {
            let head = Secret::absent().head(name);
            return (Head { keep, ..head }, Vec::new());
        };
        self.inner.holds.doom(name, secret);
        let mut head = secret.head(name);
        head.keep = keep;
        head.versions
            .retain(|version| !secret.doomed.contains(version));
        (head, secret.doomed.clone())
    }
}

/// The secret of this name, if there is one.
fn existing(live: &Live, name: &SecretName) -> Result<Option<SecretMeta>, WriteError> {
    let catalog = read(&live.catalog);
    let Some(secret) = catalog.secrets.get(name) else {
        return Ok(None);
    };
    if secret.deleting {
        return Err(WriteError::Busy(format!(
            "secret {name} is being deleted; `deploy secret delete {name}` ends that"
        )));
    }
    Ok(secret.exists().then(|| secret.meta(name)))
}

fn read_back(
    writing: &Writing<'_>,
    name: &SecretName,
    version: &VersionMeta,
) -> Result<Value, WriteError> {
    let mut single = None;
    let mut fields = BTreeMap::new();
    for (field, _) in &version.sizes {
        let place = Place::Version(name.clone(), version.number, field.clone());
        let text = writing.read(&place)?.ok_or_else(|| RecordError {
            what: place.describe(),
            why: EnvelopeError::Missing,
        })?;
        match field {
            None => single = Some(SecretBytes::from(text)),
            Some(field) => {
                fields.insert(field.clone(), SecretBytes::from(text));
            }
        }
    }
    Ok(single.map_or(Value::Fields(fields), Value::Single))
}

fn check(value: &Value, keep: Option<u32>) -> Result<(), WriteError> {
    let bytes = value.total_bytes();
    if bytes > MAX_VERSION_BYTES {
        return Err(WriteError::TooLarge(format!(
            "the value has {bytes} bytes; a version holds at most {MAX_VERSION_BYTES}"
        )));
    }
    if let Value::Fields(fields) = value {
        if fields.is_empty() {
            return Err(WriteError::Invalid(
                "a secret with fields has at least one".into(),
            ));
        }
        if fields.len() > MAX_FIELDS {
            return Err(WriteError::TooLarge(format!(
                "the value has {} fields; a version has at most {MAX_FIELDS}",
                fields.len()
            )));
        }
    }
    match keep {
        Some(keep) if keep > MAX_KEEP => Err(WriteError::Invalid(format!(
            "keep is {keep}; at most {MAX_KEEP} versions can be kept"
        ))),
        _ => Ok(()),
    }
}

fn same_shape(name: &SecretName, before: Shape, now: Shape) -> Result<(), WriteError> {
    let (has, given) = match (before, now) {
        (Shape::Single, Shape::Fields) => ("one value", "fields"),
        (Shape::Fields, Shape::Single) => ("fields", "one value"),
        _ => return Ok(()),
    };
    Err(WriteError::Shape(format!(
        "secret {name} has {has}, and this is {given}, which turns a file into a folder or back for \
         every reader; `deploy secret set --reshape {name}` does so"
    )))
}

pub(crate) fn no_secret(name: &SecretName) -> WriteError {
    WriteError::NotFound(format!(
        "there is no secret {name}; `deploy secret list` shows those there are"
    ))
}
