//! Configs: plain pairs, sealed as one record each.

use std::collections::BTreeMap;

use model::{ConfigKey, ConfigName, Timestamp};
use sys::lock::{read, write};

use crate::catalog::{StoredConfig, from_name};
use crate::documents::{self, ConfigDocument};
use crate::error::{ConfigError, EnvelopeError, RecordError, WriteError};
use crate::live::{Live, Writing};
use crate::meta::ConfigMeta;
use crate::operator::Operator;
use crate::permit::now;
use crate::place::Place;
use crate::store::Store;
use crate::writers::Name;

/// The most keys of one config.
const MAX_CONFIG_KEYS: usize = 4096;
/// The most bytes of one config, keys and values together.
const MAX_CONFIG_BYTES: usize = 1 << 20;

/// A config with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// All but the data.
    pub meta: ConfigMeta,
    /// The data.
    pub data: BTreeMap<ConfigKey, String>,
}

/// The data of several configs, merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergedConfigs {
    /// The data.
    pub data: BTreeMap<ConfigKey, String>,
    /// The sum of their versions: another one after each change of one of them.
    pub version: u32,
    /// Those that are not there (any more).
    pub missing: Vec<ConfigName>,
}

impl ConfigDocument {
    fn meta(&self) -> ConfigMeta {
        ConfigMeta {
            name: self.name.clone(),
            immutable: self.immutable,
            version: self.version,
            changed: self.changed,
            keys: self.data.as_ref().map_or(0, BTreeMap::len),
        }
    }

    pub(crate) fn stored(&self) -> StoredConfig {
        StoredConfig {
            meta: self.meta(),
            there: self.data.is_some(),
        }
    }
}

impl Store {
    /// Makes a config.
    ///
    /// # Errors
    /// There is one of this name ([`WriteError::Conflict`]), or it is too large.
    pub fn config_create(
        &self,
        _: &Operator,
        name: &ConfigName,
        data: BTreeMap<ConfigKey, String>,
        immutable: bool,
    ) -> Result<ConfigMeta, WriteError> {
        let live = self.writable()?;
        let writing = live.write(vec![Name::Config(name.clone())])?;
        let before = read(&live.catalog)
            .configs
            .get(name)
            .map(|one| (one.there, one.meta.version));
        if before.is_some_and(|(there, _)| there) {
            return Err(WriteError::Conflict(format!(
                "config {name} exists; `deploy config update {name}` changes it"
            )));
        }
        let document = ConfigDocument {
            name: name.clone(),
            immutable,
            version: before.map_or(1, |(_, version)| version.saturating_add(1)),
            changed: now(),
            data: Some(data),
        };
        put(&live, writing, &document)
    }

    /// Sets keys of a config that must exist, all in one commit; other keys stay.
    ///
    /// # Errors
    /// There is no such config, it is immutable ([`WriteError::Conflict`]), or it would be too
    /// large.
    pub fn config_update(
        &self,
        _: &Operator,
        name: &ConfigName,
        data: BTreeMap<ConfigKey, String>,
    ) -> Result<ConfigMeta, WriteError> {
        let live = self.writable()?;
        let writing = live.write(vec![Name::Config(name.clone())])?;
        let mut document = existing(&writing, name)?;
        if document.immutable {
            return Err(WriteError::Conflict(format!(
                "config {name} is immutable; it can only be deleted"
            )));
        }
        document.data.get_or_insert_default().extend(data);
        document.version = document.version.saturating_add(1);
        document.changed = now();
        put(&live, writing, &document)
    }

    /// A config with its data.
    ///
    /// # Errors
    /// There is no such config, or it cannot be read.
    pub fn config_get(&self, _: &Operator, name: &ConfigName) -> Result<Config, ConfigError> {
        let live = self.live().ok_or(ConfigError::Sealed)?;
        let mut document = load(&live, name)?;
        let meta = document.meta();
        let data = document
            .data
            .take()
            .ok_or_else(|| ConfigError::Missing(vec![name.clone()]))?;
        Ok(Config { meta, data })
    }

    /// The configs whose names begin with `prefix`, in the order of names.
    ///
    /// # Errors
    /// The store is sealed.
    pub fn config_list(&self, _: &Operator, prefix: &str) -> Result<Vec<ConfigMeta>, WriteError> {
        let live = self.writable()?;
        let catalog = read(&live.catalog);
        let from = catalog.configs.range::<str, _>(from_name(prefix));
        Ok(from
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .filter(|(_, config)| config.there)
            .map(|(_, config)| config.meta.clone())
            .collect())
    }

    /// Deletes a config, which counts its version too. One of the same name that is made later goes
    /// on counting.
    ///
    /// # Errors
    /// There is no such config.
    pub fn config_delete(&self, _: &Operator, name: &ConfigName) -> Result<(), WriteError> {
        let live = self.writable()?;
        let writing = live.write(vec![Name::Config(name.clone())])?;
        let document = existing(&writing, name)?;
        let tombstone = ConfigDocument {
            immutable: false,
            version: document.version.saturating_add(1),
            changed: now(),
            data: None,
            ..document
        };
        put(&live, writing, &tombstone).map(drop)
    }

    /// The data of several configs merged in their order: a later one wins. Asks nobody who reads.
    ///
    /// # Errors
    /// The store is sealed, or one of them cannot be read.
    pub fn configs_for(&self, names: &[ConfigName]) -> Result<MergedConfigs, ConfigError> {
        let live = self.live().ok_or(ConfigError::Sealed)?;
        let mut merged = MergedConfigs::default();
        for name in names {
            let document = load(&live, name)?;
            merged.version = merged.version.wrapping_add(document.version);
            match document.data {
                Some(data) => merged.data.extend(data),
                None => merged.missing.push(name.clone()),
            }
        }
        Ok(merged)
    }
}

fn put(
    live: &Live,
    mut writing: Writing<'_>,
    document: &ConfigDocument,
) -> Result<ConfigMeta, WriteError> {
    let name = &document.name;
    let pairs = document.data.iter().flatten();
    let bytes: usize = pairs
        .map(|(key, value)| key.as_str().len() + value.len())
        .sum();
    let meta = document.meta();
    if meta.keys > MAX_CONFIG_KEYS || bytes > MAX_CONFIG_BYTES {
        return Err(WriteError::TooLarge(format!(
            "config {name} would have {} keys and {bytes} bytes; at most {MAX_CONFIG_KEYS} and \
             {MAX_CONFIG_BYTES} are accepted",
            meta.keys
        )));
    }
    let place = Place::Config(name.clone());
    let text = documents::write(&place, document)?;
    writing.put(place, &text)?;
    writing.commit()?;
    write(&live.catalog)
        .configs
        .insert(name.clone(), document.stored());
    Ok(meta)
}

/// The config of this name, which the caller has locked.
fn existing(writing: &Writing<'_>, name: &ConfigName) -> Result<ConfigDocument, WriteError> {
    let place = Place::Config(name.clone());
    let text = writing.read(&place)?.ok_or_else(|| no_config(name))?;
    let document: ConfigDocument = documents::parse(&text).map_err(|why| RecordError {
        what: place.describe(),
        why,
    })?;
    if document.data.is_some() {
        Ok(document)
    } else {
        Err(no_config(name))
    }
}

/// The config of this name as it is on disk; one that does not exist, or does no more, has no data.
fn load(live: &Live, name: &ConfigName) -> Result<ConfigDocument, ConfigError> {
    let place = Place::Config(name.clone());
    let failed = |why| RecordError {
        what: place.describe(),
        why,
    };
    let found = live.find(&place).map_err(|error| match live.is_closing() {
        true => ConfigError::Sealed,
        false => error.into(),
    })?;
    let Some(found) = found else {
        if read(&live.catalog).configs.contains_key(name) {
            return Err(failed(EnvelopeError::Missing).into());
        }
        let (immutable, version, changed) = (false, 0, Timestamp(0));
        return Ok(ConfigDocument {
            name: name.clone(),
            immutable,
            version,
            changed,
            data: None,
        });
    };
    let text = found.generation.sealer.open(&place, &found.record)?;
    Ok(documents::parse(&text).map_err(failed)?)
}

fn no_config(name: &ConfigName) -> WriteError {
    WriteError::NotFound(format!(
        "there is no config {name}; `deploy config list` shows those there are"
    ))
}
