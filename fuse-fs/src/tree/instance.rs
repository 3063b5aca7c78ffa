//! One instance: what its manifest asks for, what it may have of it, and the numbers of its names.

use model::{
    ConfigKey, Entry, FieldName, Identity, Modes, SecretName, ServiceName, Timestamp, Tree,
};
use store::{Permit, Shape, VersionMeta};

use super::ask::Attr;
use super::config::{ConfigTree, Sources};
use crate::errno::Refusal;
use crate::inode::Ino;
use crate::spec::{InstanceKey, InstanceSpec, MakeError, SecretSpec};

/// The folder of versions before the newest ones.
pub(super) const PREVIOUS: &str = ".previous";

/// A secret that the manifest asks for; or the version before its newest one, if it asks for that too.
pub(super) struct Slot {
    pub name: SecretName,
    /// It leads to the version before the newest, while that has its grace.
    pub is_previous: bool,
    /// `None`: never granted to this instance, as far as this process knows.
    pub permit: Option<Permit>,
    /// Nothing of it is cached: each read comes to us.
    pub every_read: bool,
    /// The instance was made, or might have been, without it.
    pub optional: bool,
    /// Boxed: of a million slots few have one.
    own: Option<Box<Own>>,
    /// The number of its file, or of the folder of its fields.
    pub entry: u16,
    /// The numbers of its fields.
    pub fields: Vec<(FieldName, u16)>,
}

/// What a secret's files have of their own.
struct Own {
    mode: Option<u16>,
    owner: Option<(u32, u32)>,
}

impl Slot {
    /// Its path below the instance's folder, which is its name in the registry too.
    pub fn path(&self) -> String {
        match self.is_previous {
            true => format!("{PREVIOUS}/{}", self.name),
            false => self.name.as_str().to_owned(),
        }
    }

    /// May the instance read it now?
    pub fn is_shown(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_valid)
    }

    pub fn field(&self, name: &FieldName) -> Option<u16> {
        self.fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, entry)| *entry)
    }
}

/// What an entry number means.
#[derive(Clone)]
pub(super) struct Meaning {
    /// Which slot.
    pub slot: usize,
    pub field: Option<FieldName>,
}

pub(super) struct Instance {
    pub key: InstanceKey,
    pub service: ServiceName,
    /// What pinned grants ask for.
    pub identity: Identity,
    pub uid: u32,
    pub gid: u32,
    pub modes: Modes,
    /// By name; behind them those of previous versions, by name too.
    pub slots: Vec<Slot>,
    /// The number of the folder of previous versions; `None`: none is asked for.
    pub previous: Option<u16>,
    /// By entry number, less one.
    meanings: Vec<Meaning>,
    pub config: ConfigTree,
    pub made: Timestamp,
    /// It was there before this process: the kernel may hold inodes that we do not know of.
    pub inherited: bool,
}

impl Instance {
    /// From its specification, without permits. Numbers that it has already stay.
    pub fn new(spec: &InstanceSpec, inherited: bool) -> Result<Instance, MakeError> {
        let mut names = spec.secrets.clone();
        names.sort();
        names.dedup_by(|one, other| one.name == other.name);
        let unnumbered = |is_previous: bool| {
            move |spec: &SecretSpec| Slot {
                name: spec.name.clone(),
                is_previous,
                permit: None,
                every_read: spec.every_read,
                optional: spec.optional,
                own: (spec.mode.is_some() || spec.owner.is_some()).then(|| {
                    Box::new(Own {
                        mode: spec.mode,
                        owner: spec.owner,
                    })
                }),
                entry: 0,
                fields: Vec::new(),
            }
        };
        let mut slots: Vec<Slot> = names.iter().map(unnumbered(false)).collect();
        let previous = names.iter().filter(|spec| spec.previous);
        slots.extend(previous.map(unnumbered(true)));
        let mut meanings = Vec::new();
        let mut keys: Vec<ConfigKey> = Vec::new();
        let mut known = spec.entries.clone();
        known.sort_by_key(|entry| (entry.tree, entry.number));
        for entry in known {
            match entry.tree {
                Tree::Secret => take_number(&mut slots, &mut meanings, entry),
                Tree::Config => keys.extend(entry.name.parse::<ConfigKey>().ok()),
            }
        }
        let sources = Sources {
            inline: spec.config.clone(),
            from: spec.config_from.clone(),
            reloads: spec.reloads,
        };
        let mut instance = Instance {
            key: InstanceKey {
                number: spec.number,
                cgroup: spec.cgroup.clone(),
            },
            service: spec.service.clone(),
            identity: Identity {
                uid: spec.uid,
                unit: spec.unit.clone(),
                image: spec.image.clone(),
            },
            uid: spec.uid,
            gid: spec.gid,
            modes: spec.modes,
            slots,
            previous: None,
            meanings,
            config: ConfigTree::new(sources, keys),
            made: super::now(),
            inherited,
        };
        for slot in 0..instance.slots.len() {
            if instance.slots[slot].entry == 0 {
                instance.slots[slot].entry = instance.number(slot, None)?;
            }
        }
        if instance.slots.iter().any(|slot| slot.is_previous) {
            instance.previous = Some(match instance.previous_folder() {
                Some(entry) => entry,
                None => instance.number(PREVIOUS_FOLDER, None)?,
            });
        }
        Ok(instance)
    }

    fn previous_folder(&self) -> Option<u16> {
        let at = self
            .meanings
            .iter()
            .position(|meaning| meaning.slot == PREVIOUS_FOLDER)?;
        u16::try_from(at + 1).ok()
    }

    /// The folder that a slot's name is in.
    pub fn folder_of(&self, slot: &Slot) -> Ino {
        let entry = self.previous.filter(|_| slot.is_previous);
        Ino::new(self.key.number, entry.unwrap_or(0), 0)
    }

    /// Both slots of a secret, or the one that there is.
    pub fn slots_of(&self, name: &str) -> impl Iterator<Item = usize> + use<> {
        let both = [self.slot(name), self.previous_slot(name)];
        both.into_iter().flatten()
    }

    /// Gives the fields of a version numbers; true if one is new.
    pub fn number_fields(&mut self, slot: usize, version: &VersionMeta) -> Result<bool, MakeError> {
        let mut new = false;
        for (field, _) in &version.sizes {
            let Some(field) = field else { continue };
            if self.slots[slot].field(field).is_none() {
                let entry = self.number(slot, Some(field.clone()))?;
                self.slots[slot].fields.push((field.clone(), entry));
                new = true;
            }
        }
        Ok(new)
    }

    fn number(&mut self, slot: usize, field: Option<FieldName>) -> Result<u16, MakeError> {
        self.meanings.push(Meaning { slot, field });
        u16::try_from(self.meanings.len()).map_err(|_| MakeError::TooMany)
    }

    pub fn slot(&self, name: &str) -> Option<usize> {
        find(&self.slots, false, name)
    }

    /// The slot of the version before the newest.
    pub fn previous_slot(&self, name: &str) -> Option<usize> {
        find(&self.slots, true, name)
    }

    pub fn meaning(&self, entry: u16) -> Option<&Meaning> {
        let meaning = self.meanings.get(usize::from(entry).checked_sub(1)?)?;
        (meaning.slot < self.slots.len()).then_some(meaning)
    }

    /// Every entry number that belongs to a secret.
    pub fn entries_of(&self, slot: usize) -> impl Iterator<Item = u16> {
        let slot = &self.slots[slot];
        std::iter::once(slot.entry).chain(slot.fields.iter().map(|(_, entry)| *entry))
    }

    /// All numbers, for the registry.
    pub fn entries(&self) -> Vec<Entry> {
        let number = |at: usize| u16::try_from(at + 1).unwrap_or(u16::MAX);
        let secrets = self
            .meanings
            .iter()
            .enumerate()
            .filter_map(|(at, meaning)| {
                Some(Entry {
                    number: number(at),
                    tree: Tree::Secret,
                    name: match meaning.slot {
                        PREVIOUS_FOLDER => PREVIOUS.to_owned(),
                        slot => self.slots.get(slot)?.path(),
                    },
                    field: meaning.field.clone(),
                })
            });
        let keys = self
            .config
            .keys()
            .iter()
            .enumerate()
            .map(|(at, key)| Entry {
                number: number(at),
                tree: Tree::Config,
                name: key.as_str().to_owned(),
                field: None,
            });
        secrets.chain(keys).collect()
    }
}

impl Instance {
    /// What a folder of it looks like.
    pub fn folder(&self, ino: Ino) -> Attr {
        // A folder of a secret's fields; all others have no entry that means a secret.
        let slot = self.meaning(ino.entry());
        let slot = slot.map(|meaning| &self.slots[meaning.slot]);
        let (uid, gid) = self.owner_of(slot);
        Attr {
            ino,
            is_folder: true,
            size: 0,
            changed: self.made,
            uid,
            gid,
            mode: self.modes.folder,
        }
    }

    fn owner_of(&self, slot: Option<&Slot>) -> (u32, u32) {
        let own = slot.and_then(|slot| slot.own.as_ref()?.owner);
        own.unwrap_or((self.uid, self.gid))
    }

    /// What one file of a secret looks like.
    pub fn secret_file(&self, slot: &Slot, ino: Ino, size: u64, changed: Timestamp) -> Attr {
        let (uid, gid) = self.owner_of(Some(slot));
        Attr {
            uid,
            gid,
            mode: slot
                .own
                .as_ref()
                .and_then(|own| own.mode)
                .unwrap_or(self.modes.file),
            ..self.file(ino, size, changed)
        }
    }

    /// What a file of its configuration looks like.
    pub fn file(&self, ino: Ino, size: u64, changed: Timestamp) -> Attr {
        Attr {
            ino,
            is_folder: false,
            size,
            changed,
            uid: self.uid,
            gid: self.gid,
            mode: self.modes.file,
        }
    }

    /// What one file of a version looks like.
    pub fn version(
        &self,
        entry: u16,
        version: &VersionMeta,
        field: Option<&FieldName>,
    ) -> Result<Attr, Refusal> {
        let size = version.size_of(field).ok_or(Refusal::NoEntry)?;
        let ino = Ino::new(self.key.number, entry, version.number);
        let meaning = self.meaning(entry).ok_or(Refusal::NoEntry)?;
        let slot = &self.slots[meaning.slot];
        Ok(self.secret_file(slot, ino, size, version.created))
    }
}

/// In place of a slot: no name that is known.
const NOBODY: usize = usize::MAX;
/// In place of a slot: the folder of previous versions.
const PREVIOUS_FOLDER: usize = usize::MAX - 1;

fn find(slots: &[Slot], is_previous: bool, name: &str) -> Option<usize> {
    slots
        .binary_search_by(|slot| (slot.is_previous, slot.name.as_str()).cmp(&(is_previous, name)))
        .ok()
}

/// A number that a name had in the registry. Numbers without a gap are what we write; for one that
/// cannot be understood the place is kept, so that all others stay right.
fn take_number(slots: &mut [Slot], meanings: &mut Vec<Meaning>, entry: Entry) {
    let at = usize::from(entry.number);
    while meanings.len() + 1 < at {
        meanings.push(Meaning {
            slot: NOBODY,
            field: None,
        });
    }
    if entry.name == PREVIOUS {
        let (slot, field) = (PREVIOUS_FOLDER, None);
        return meanings.push(Meaning { slot, field });
    }
    let slot = match entry
        .name
        .strip_prefix(PREVIOUS)
        .map(|rest| rest.strip_prefix('/'))
    {
        Some(Some(name)) => find(slots, true, name),
        Some(None) => None,
        None => find(slots, false, &entry.name),
    };
    if let Some(slot) = slot {
        match &entry.field {
            None => slots[slot].entry = entry.number,
            Some(field) => slots[slot].fields.push((field.clone(), entry.number)),
        }
    }
    meanings.push(Meaning {
        slot: slot.unwrap_or(NOBODY),
        field: entry.field,
    });
}

/// Does this entry show a file of `version`?
pub(super) fn shows(version: &VersionMeta, field: Option<&FieldName>) -> bool {
    match version.shape() {
        Shape::Single => field.is_none(),
        Shape::Fields => field.is_some_and(|field| version.size_of(Some(field)).is_some()),
    }
}
