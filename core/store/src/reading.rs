//! The way out: permits, and values by them.

use std::fmt;

use model::{FieldName, SecretName};
use sys::lock::read;
use sys::memory::LockedBytes;

use crate::error::{Denied, EnvelopeError, ReadError, RecordError, WriteError};
use crate::live::{Found, Live};
use crate::meta::{SecretMeta, VersionMeta};
use crate::operator::Operator;
use crate::permit::{Permit, Reader, Standing};
use crate::pins;
use crate::place::Place;
use crate::store::Store;
use crate::versions::no_secret;

/// A value in clear, in locked memory that no core dump has; wiped when dropped. Derefs to `[u8]`.
pub struct Opened(LockedBytes);

impl std::ops::Deref for Opened {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened([redacted])")
    }
}

impl Store {
    /// Whether `reader` may have the values of a secret: the only way to a [`Permit`].
    ///
    /// # Errors
    /// The store is sealed, there is no such secret, or the reader is not granted it.
    pub fn permit(&self, reader: Reader<'_>, name: &SecretName) -> Result<Permit, Denied> {
        let live = self.live().ok_or(Denied::Sealed)?;
        let catalog = read(&live.catalog);
        // The catalog's own copy of the name: permits are many, and kept.
        let known = catalog.secrets.get_key_value(name);
        let known = known.filter(|(_, secret)| secret.exists());
        let (name, secret) = known.ok_or(Denied::UnknownSecret)?;
        let (cell, pinned) = match reader {
            Reader::Operator(_) => (secret.cell.clone(), None),
            Reader::Instance {
                service, identity, ..
            } => {
                let service = catalog.services.get(service).ok_or(Denied::NotGranted)?;
                let granted = service.grants.get(name).ok_or(Denied::NotGranted)?;
                let pins = Some(&granted.pins).filter(|pins| !pins.is_empty());
                let pinned = pins.map(|pins| (pins.clone(), identity));
                (granted.cell.clone(), pinned)
            }
        };
        let permit = Permit::new(name.clone(), reader, cell);
        drop(catalog);
        // The name service may take its time, so nobody waits for the catalog meanwhile. Should the
        // grant get other pins now, its cell is denied, and the permit with it.
        if let Some((pins, identity)) = pinned {
            pins::check(&pins, identity)?;
        }
        match permit.standing() {
            Standing::Valid => Ok(permit),
            Standing::Expired => Err(Denied::Expired),
            Standing::Sealed => Err(Denied::Sealed),
            Standing::Revoked => Err(Denied::NotGranted),
        }
    }

    /// The secret of a permit, with the versions in reach.
    ///
    /// # Errors
    /// The permit is not valid any more.
    pub fn secret(&self, permit: &Permit) -> Result<SecretMeta, ReadError> {
        let live = self.admit(permit)?;
        let catalog = read(&live.catalog);
        let secret = catalog
            .secrets
            .get(permit.secret())
            .filter(|secret| secret.exists());
        Ok(secret.ok_or(ReadError::Revoked)?.meta(permit.secret()))
    }

    /// One version, also one that is out of reach and still there because an instance holds it.
    ///
    /// # Errors
    /// The permit is not valid any more, or there is no such version.
    pub fn version(&self, permit: &Permit, number: u32) -> Result<VersionMeta, ReadError> {
        let live = self.admit(permit)?;
        version(&live, permit.secret(), number)
    }

    /// Decrypts one field of one version (`None`: the single value). Takes microseconds, and never
    /// waits for a writer.
    ///
    /// # Errors
    /// The permit is not valid any more, there is no such version or field, or its record does not
    /// open.
    pub fn open_value(
        &self,
        permit: &Permit,
        number: u32,
        field: Option<&FieldName>,
    ) -> Result<Opened, ReadError> {
        let live = self.admit(permit)?;
        let name = permit.secret();
        if version(&live, name, number)?.size_of(field).is_none() {
            return Err(ReadError::NoField(name.clone(), number));
        }
        let place = Place::Version(name.clone(), number, field.cloned());
        let found = live.find(&place).or_else(|error| {
            // A seal closes the records under whoever was reading.
            check(permit)?;
            Err(ReadError::from(error))
        })?;
        let Some(found) = found else {
            // Records go only after the catalog has stopped to list them: if it lists this one
            // still, it is lost.
            version(&live, name, number)?;
            let why = EnvelopeError::Missing;
            return Err(RecordError {
                what: place.describe(),
                why,
            }
            .into());
        };
        let opened = decrypt(&place, &found)?;
        // What was revoked while it was being decrypted is not given away either.
        check(permit)?;
        Ok(opened)
    }

    /// The sealed record of a secret's newest version, as it is on disk; of one with fields, theirs
    /// one after the other, in the order of names.
    ///
    /// # Errors
    /// The store is sealed, there is no such secret, or its records cannot be read.
    pub fn raw_record(&self, _: &Operator, name: &SecretName) -> Result<Vec<u8>, WriteError> {
        let live = self.writable()?;
        loop {
            let newest = {
                let catalog = read(&live.catalog);
                let secret = catalog.secrets.get(name).filter(|secret| secret.exists());
                secret
                    .and_then(|secret| secret.newest().cloned())
                    .ok_or_else(|| no_secret(name))?
            };
            let mut records = Vec::new();
            let mut missing = None;
            for (field, _) in &newest.sizes {
                let place = Place::Version(name.clone(), newest.number, field.clone());
                let found = live.find(&place).map_err(|error| match live.is_closing() {
                    true => WriteError::Sealed,
                    false => error.into(),
                })?;
                match found {
                    Some(found) => records.extend_from_slice(&found.record),
                    None => missing = Some(place),
                }
            }
            let Some(place) = missing else {
                return Ok(records);
            };
            if version(&live, name, newest.number).is_ok() {
                let why = EnvelopeError::Missing;
                return Err(RecordError {
                    what: place.describe(),
                    why,
                }
                .into());
            }
        }
    }

    pub(crate) fn admit(&self, permit: &Permit) -> Result<std::sync::Arc<Live>, ReadError> {
        check(permit)?;
        self.live().ok_or(ReadError::Sealed)
    }
}

fn check(permit: &Permit) -> Result<(), ReadError> {
    match permit.standing() {
        Standing::Valid => Ok(()),
        Standing::Revoked => Err(ReadError::Revoked),
        Standing::Expired => Err(ReadError::Expired),
        Standing::Sealed => Err(ReadError::Sealed),
    }
}

fn version(live: &Live, name: &SecretName, number: u32) -> Result<VersionMeta, ReadError> {
    let catalog = read(&live.catalog);
    let secret = catalog.secrets.get(name).filter(|secret| secret.exists());
    let version = secret.ok_or(ReadError::Revoked)?.version(number);
    version
        .cloned()
        .ok_or_else(|| ReadError::NoVersion(name.clone(), number))
}

fn decrypt(place: &Place, found: &Found) -> Result<Opened, ReadError> {
    let failed = |why| RecordError {
        what: place.describe(),
        why,
    };
    let checked = found
        .generation
        .sealer
        .check(place, &found.record)
        .map_err(failed)?;
    let mut memory = LockedBytes::new_zeroed(checked.len()).map_err(ReadError::Memory)?;
    checked.open_into(memory.as_mut_slice()).map_err(failed)?;
    Ok(Opened(memory))
}
