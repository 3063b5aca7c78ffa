//! What a restore would change: the store of a backup beside the one that it is to replace.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;

use records::Records;
use serde_json::Value;

use super::read::Reader;
use crate::catalog::{Catalog, Service};
use crate::hierarchy::{KEY, Keys};
use crate::keys_file::KeysFile;
use crate::layout::{Layout, folder_name};
use crate::live::{Generation, Sealer};
use crate::meta::StoreId;
use crate::slots::Slot;
use crate::unseal::{by_files, keyring_description};

/// How the store was found that a backup is to replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is none: nothing can be replaced.
    Nothing,
    /// There is something, and what it holds is not known; why.
    Unreadable(String),
    /// A store that can be read.
    Store {
        /// The generation of its root key.
        generation: u32,
        /// Its last transaction.
        transaction: u64,
    },
}

/// Something that is not in a backup as it is in the store that it is to replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What kind.
    pub kind: DifferenceKind,
    /// What, in words.
    pub what: String,
}

/// What kind of [`Difference`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// The folder holds another store.
    OtherStore,
    /// The root key was rotated since: copies of the older one open the store again.
    OlderGeneration,
    /// A key slot that was removed opens the store again.
    SlotBack,
    /// A service may read again what was taken back from it.
    GrantBack,
    /// Something that was deleted is there again.
    DeletedBack,
    /// An older version is the newest again.
    Older,
    /// Something that was made since is gone.
    Lost,
}

impl DifferenceKind {
    /// One word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherStore => "other-store",
            Self::OlderGeneration => "older-generation",
            Self::SlotBack => "slot-back",
            Self::GrantBack => "grant-back",
            Self::DeletedBack => "deleted-back",
            Self::Older => "older",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The store in `current`, as far as it can be read, against the restored one.
pub(super) fn with(
    current: &Path,
    backup: &Reader<impl Read>,
    catalog: &Catalog,
) -> (Found, Vec<Difference>) {
    let is_empty = match fs::read_dir(current) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if is_empty {
        return (Found::Nothing, Vec::new());
    }
    match read(current, backup) {
        Ok(Current::Other(id)) => {
            let what = format!(
                "{} holds another store ({id}); the backup is of {}",
                current.display(),
                backup.moment.store
            );
            let kind = DifferenceKind::OtherStore;
            let why = "it is another store".to_owned();
            (Found::Unreadable(why), vec![Difference { kind, what }])
        }
        Ok(Current::Same(generation, slots, found)) => {
            let mut list = List::default();
            list.generation(backup.moment.generation, generation.number());
            list.slots(backup.keys_file.slots(), &slots);
            list.grants(&catalog.services, &found.services);
            list.secrets(catalog, &found);
            list.configs(catalog, &found);
            list.0.sort_by_key(|one| one.kind);
            let found = Found::Store {
                generation: generation.number(),
                transaction: generation.records.last_seq(),
            };
            (found, list.0)
        }
        Err(why) => (Found::Unreadable(why), Vec::new()),
    }
}

enum Current {
    Other(StoreId),
    Same(Generation, Vec<Slot>, Box<Catalog>),
}

/// Opens the store to be read alone: by the backup's own root key, if it is still the same, else by
/// the keyring or a key file.
fn read(current: &Path, backup: &Reader<impl Read>) -> Result<Current, String> {
    fn why(error: impl fmt::Display) -> String {
        error.to_string()
    }
    let (id, cipher, number) = Layout::peek(current).map_err(why)?;
    if id != backup.moment.store {
        return Ok(Current::Other(id));
    }
    let folder = current.join(folder_name(number));
    let file = KeysFile::read(&folder.join("keys"), id, number).map_err(why)?;
    let own = Keys::from_root(id, backup.sealer.keys.root()).map_err(why)?;
    let keys = if file.verify(&own).is_ok() {
        own
    } else if let Some(keys) = in_keyring(&file, id, number) {
        keys
    } else {
        by_files(&file, id, current).map_err(why)?.keys
    };
    let slots = file.slots().to_vec();
    let journal_key = keys.journal_key().map_err(why)?;
    let records = Records::open_read_only(&folder, id.0, &journal_key).map_err(why)?;
    let sealer = Sealer {
        number,
        cipher,
        keys,
    };
    let generation = Generation { sealer, records };
    let (catalog, _) = Catalog::load(&generation).map_err(why)?;
    Ok(Current::Same(generation, slots, Box::new(catalog)))
}

fn in_keyring(file: &KeysFile, id: StoreId, number: u32) -> Option<Keys> {
    let root = sys::keyring::get(&keyring_description(id, number)).ok()??;
    let keys = (root.len() == KEY).then(|| Keys::from_root(id, root.as_slice()).ok())??;
    file.verify(&keys).is_ok().then_some(keys)
}

#[derive(Default)]
struct List(Vec<Difference>);

impl List {
    fn add(&mut self, kind: DifferenceKind, what: String) {
        self.0.push(Difference { kind, what });
    }

    fn generation(&mut self, backup: u32, now: u32) {
        if backup < now {
            self.add(
                DifferenceKind::OlderGeneration,
                format!(
                    "the root key goes back from generation {now} to {backup}: whoever kept the older \
                     one can open the store again; make a new one with `deploy key rotate`"
                ),
            );
        }
    }

    fn slots(&mut self, backup: &[Slot], now: &[Slot]) {
        let lacks = |slots: &[Slot], one: &Slot| {
            !slots.iter().any(|other| other.recipient == one.recipient)
        };
        for slot in backup.iter().filter(|slot| lacks(now, slot)) {
            let what = format!("key slot {} is back, which was removed", named(slot));
            self.add(DifferenceKind::SlotBack, what);
        }
        for slot in now.iter().filter(|slot| lacks(backup, slot)) {
            let what = format!("key slot {} is lost, which was added since", named(slot));
            self.add(DifferenceKind::Lost, what);
        }
    }

    fn grants<N: Ord + fmt::Display>(
        &mut self,
        backup: &BTreeMap<N, Service>,
        now: &BTreeMap<N, Service>,
    ) {
        let none = Service::default();
        for (name, service) in backup {
            let other = now.get(name).unwrap_or(&none);
            for grant in service.list() {
                let secret = &grant.secret;
                // What has ended by itself gives nothing back.
                if service.left(secret) == Some(0) {
                    continue;
                }
                match other.list().find(|one| one.secret == *secret) {
                    Some(same) if same == grant => {}
                    Some(_) => self.add(
                        DifferenceKind::GrantBack,
                        format!("{name} may read {secret} on other terms than now"),
                    ),
                    None => self.add(
                        DifferenceKind::GrantBack,
                        format!("{name} may read {secret} again, which it may not now"),
                    ),
                }
            }
            for value in &service.unknown {
                if !other.unknown.contains(value) {
                    let secret = value.get("secret").and_then(Value::as_str);
                    let secret = secret.unwrap_or("something");
                    let what =
                        format!("{name} has a grant of {secret} again that needs a later version");
                    self.add(DifferenceKind::GrantBack, what);
                }
            }
        }
        for (name, service) in now {
            let other = backup.get(name).unwrap_or(&none);
            for grant in service.list() {
                let secret = &grant.secret;
                if !other.grants.contains_key(secret) && service.left(secret) != Some(0) {
                    let what = format!("{name} may not read {secret} any more, granted since");
                    self.add(DifferenceKind::Lost, what);
                }
            }
        }
    }

    fn secrets(&mut self, backup: &Catalog, now: &Catalog) {
        let newest = |catalog: &Catalog, name: &model::SecretName| {
            let secret = catalog.secrets.get(name).filter(|one| one.exists())?;
            secret.newest().map(|version| version.number)
        };
        let names = backup.secrets.keys().chain(now.secrets.keys());
        let names: std::collections::BTreeSet<_> = names.collect();
        for name in names {
            self.version(
                "secret",
                name.as_str(),
                newest(backup, name),
                newest(now, name),
            );
        }
    }

    fn configs(&mut self, backup: &Catalog, now: &Catalog) {
        let version = |catalog: &Catalog, name: &model::ConfigName| {
            let config = catalog.configs.get(name).filter(|one| one.there)?;
            Some(config.meta.version)
        };
        let names = backup.configs.keys().chain(now.configs.keys());
        let names: std::collections::BTreeSet<_> = names.collect();
        for name in names {
            self.version(
                "config",
                name.as_str(),
                version(backup, name),
                version(now, name),
            );
        }
    }

    fn version(&mut self, what: &str, name: &str, backup: Option<u32>, now: Option<u32>) {
        match (backup, now) {
            (Some(backup), Some(now)) if backup != now => self.add(
                DifferenceKind::Older,
                format!("{what} {name} goes back from version {now} to {backup}"),
            ),
            (Some(_), None) => self.add(
                DifferenceKind::DeletedBack,
                format!("{what} {name} is back, which was deleted"),
            ),
            (None, Some(_)) => self.add(
                DifferenceKind::Lost,
                format!("{what} {name} is lost, which was made since"),
            ),
            _ => {}
        }
    }
}

fn named(slot: &Slot) -> String {
    if slot.label.is_empty() {
        slot.id.to_string()
    } else {
        format!("{} ({})", slot.id, slot.label)
    }
}
