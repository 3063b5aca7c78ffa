//! The beginning and the end of instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{ConfigKey, ConfigName, Entry, SecretName, Tree};
use store::{Denied, Permit, Reader, SecretMeta, VersionMeta};
use sys::lock::{lock, write};

use super::change::put_newest;
use super::config::Sources;
use super::instance::Instance;
use super::{Newest, State, Views};
use crate::spec::{InstanceSpec, MakeError, Touched};

impl Views {
    /// Shows a new instance: all that it asks for, or nothing. Gives the numbers of its names.
    ///
    /// # Errors
    /// See [`MakeError`].
    pub fn make(&self, spec: InstanceSpec) -> Result<Vec<Entry>, MakeError> {
        let _changing = lock(&self.changing);
        let mut instance = Instance::new(&spec, false)?;
        let mut missing = Vec::new();
        let mut given = Vec::new();
        for name in names(&instance) {
            let slot = instance.slot(name.as_str());
            let is_optional = slot.is_some_and(|slot| instance.slots[slot].optional);
            match self.permit(&instance, &name) {
                Ok(permit) => given.push(self.give(&mut instance, permit)?),
                Err(Denied::Sealed) => return Err(MakeError::Sealed),
                // Not shown now; shown once it is granted.
                Err(_) if is_optional => {}
                Err(denied) => missing.push((name, denied)),
            }
        }
        if !missing.is_empty() {
            return Err(MakeError::Missing(missing));
        }
        let merged = instance.config.sources.merge(&self.store)?;
        instance.config.show(merged, |_| false);
        if instance.config.len() > usize::from(u16::MAX) {
            return Err(MakeError::TooMany);
        }
        Ok(self.show(instance, given))
    }

    /// Shows an instance that ran before this process did: what it may not have any more is left
    /// out, and while the store is sealed nothing is answered. Gives the numbers of its names.
    ///
    /// # Errors
    /// The specification has more names than there is room for.
    pub fn restore(&self, spec: InstanceSpec) -> Result<Vec<Entry>, MakeError> {
        let _changing = lock(&self.changing);
        let mut instance = Instance::new(&spec, true)?;
        let given = self.fill(&mut instance);
        Ok(self.show(instance, given))
    }

    /// Shows an instance from now on; gives the numbers of its names.
    fn show(&self, instance: Instance, given: Vec<Given>) -> Vec<Entry> {
        let entries = instance.entries();
        let mut state = write(&self.state);
        given.into_iter().for_each(|one| one.put(&mut state));
        state.instances.insert(instance.key.number, instance);
        entries
    }

    /// Gives an instance all that it may have now.
    pub(super) fn fill(&self, instance: &mut Instance) -> Vec<Given> {
        let mut given = Vec::new();
        for name in names(instance) {
            let Ok(permit) = self.permit(instance, &name) else {
                continue;
            };
            match self.give(instance, permit) {
                Ok(one) => given.push(one),
                Err(error) => log::error!("secret {name} is not shown: {error}"),
            }
        }
        match instance.config.sources.merge_what_is_there(&self.store) {
            Ok(merged) => drop(instance.config.show(merged, |_| false)),
            Err(store::ConfigError::Sealed) => {}
            Err(error) => log::error!("configs of {} are not shown: {error}", instance.service),
        }
        given
    }

    /// Gives an instance a secret, with the version before if it asks for that and there is one.
    fn give(&self, instance: &mut Instance, permit: Permit) -> Result<Given, MakeError> {
        let meta = self.store.secret(&permit)?;
        let mut previous = None;
        for slot in instance.slots_of(meta.name.as_str()) {
            if !instance.slots[slot].is_previous {
                instance.number_fields(slot, meta.newest())?;
            } else if let Some(version) = self.store.previous(&permit)? {
                instance.number_fields(slot, &version)?;
                previous = Some(version);
            }
            // The text of the name is one for all instances.
            instance.slots[slot].name = meta.name.clone();
            instance.slots[slot].permit = Some(permit.clone());
        }
        Ok(Given { meta, previous })
    }

    pub(super) fn permit(&self, instance: &Instance, name: &SecretName) -> Result<Permit, Denied> {
        let reader = Reader::Instance {
            service: &instance.service,
            number: instance.key.number,
            identity: &instance.identity,
        };
        self.store.permit(reader, name)
    }

    /// Replaces the manifest's own settings, and the list of stored configs, of a running instance.
    ///
    /// # Errors
    /// There is no such instance, or a stored config is not there; nothing changes then.
    pub fn reload(
        &self,
        number: u32,
        config: BTreeMap<ConfigKey, String>,
        config_from: Vec<ConfigName>,
        reloads: u32,
    ) -> Result<Touched, MakeError> {
        let changing = lock(&self.changing);
        let sources = Sources {
            inline: config,
            from: config_from,
            reloads,
        };
        let merged = sources.merge(&self.store)?;
        match write(&self.state).instances.get_mut(&number) {
            Some(instance) => instance.config.sources = sources,
            None => return Err(MakeError::Unknown(number)),
        }
        Ok(self.show_configs(vec![(number, merged)], changing))
    }

    /// Lets go of old versions that processes were kept to for a moment, so that a sweep of the store
    /// may take them.
    pub fn let_go(&self) {
        self.pins.expire(&self.store);
    }

    /// An instance has ended. Somebody else may have been given a descriptor of its: no later revoke
    /// knows of that, so nothing stays in the kernel's caches.
    pub fn end(&self, number: u32) {
        let _changing = lock(&self.changing);
        let live = {
            let mut state = write(&self.state);
            let Some(instance) = state.instances.remove(&number) else {
                return;
            };
            [Tree::Secret, Tree::Config].map(|tree| (tree, self.live_of(&state, &instance, tree)))
        };
        self.wait_for_handlers();
        for (tree, inodes) in &live {
            self.forget_inodes(*tree, inodes);
        }
        self.going.end_all(number);
        for tree in [Tree::Secret, Tree::Config] {
            self.inodes(tree).end(&self.store, number);
        }
    }
}

/// The secrets that an instance asks for.
fn names(instance: &Instance) -> Vec<SecretName> {
    let newest = instance.slots.iter().filter(|slot| !slot.is_previous);
    newest.map(|slot| slot.name.clone()).collect()
}

/// What an instance was given, to be shown from now on.
pub(super) struct Given {
    meta: SecretMeta,
    previous: Option<VersionMeta>,
}

impl Given {
    pub fn put(self, state: &mut State) {
        if let Some(version) = self.previous {
            let previous = Arc::new(Newest { version });
            state.previous.insert(self.meta.name.clone(), previous);
        }
        put_newest(state, self.meta);
    }
}
