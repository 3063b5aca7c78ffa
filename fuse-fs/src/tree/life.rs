//! The beginning and the end of instances.

use std::collections::BTreeMap;

use model::{ConfigKey, ConfigName, Entry, SecretName, Tree};
use store::{Denied, Permit, Reader, SecretMeta};
use sys::lock::{lock, write};

use super::Views;
use super::change::put_newest;
use super::config::Sources;
use super::instance::Instance;
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
        let mut metas = Vec::new();
        for slot in 0..instance.slots.len() {
            let name = instance.slots[slot].name.clone();
            match self.permit(&instance, &name) {
                Ok(permit) => {
                    let meta = self.store.secret(&permit)?;
                    instance.number_fields(slot, meta.newest())?;
                    instance.slots[slot].permit = Some(permit);
                    metas.push(meta);
                }
                Err(Denied::Sealed) => return Err(MakeError::Sealed),
                Err(denied) => missing.push((name, denied)),
            }
        }
        if !missing.is_empty() {
            return Err(MakeError::Missing(missing));
        }
        let merged = instance.config.sources.merge(&self.store)?;
        instance.config.show(merged);
        if instance.config.len() > usize::from(u16::MAX) {
            return Err(MakeError::TooMany);
        }
        Ok(self.show(instance, metas))
    }

    /// Shows an instance that ran before this process did: what it may not have any more is left
    /// out, and while the store is sealed nothing is answered. Gives the numbers of its names.
    ///
    /// # Errors
    /// The specification has more names than there is room for.
    pub fn restore(&self, spec: InstanceSpec) -> Result<Vec<Entry>, MakeError> {
        let _changing = lock(&self.changing);
        let mut instance = Instance::new(&spec, true)?;
        let metas = self.fill(&mut instance);
        Ok(self.show(instance, metas))
    }

    /// Shows an instance from now on; gives the numbers of its names.
    fn show(&self, instance: Instance, metas: Vec<SecretMeta>) -> Vec<Entry> {
        let entries = instance.entries();
        let mut state = write(&self.state);
        for meta in metas {
            put_newest(&mut state, meta);
        }
        state.instances.insert(instance.key.number, instance);
        entries
    }

    /// Gives an instance all that it may have now.
    pub(super) fn fill(&self, instance: &mut Instance) -> Vec<SecretMeta> {
        let mut metas = Vec::new();
        for slot in 0..instance.slots.len() {
            let name = instance.slots[slot].name.clone();
            let Ok(permit) = self.permit(instance, &name) else {
                continue;
            };
            match self.store.secret(&permit) {
                Ok(meta) => {
                    if instance.number_fields(slot, meta.newest()).is_ok() {
                        instance.slots[slot].permit = Some(permit);
                        metas.push(meta);
                    }
                }
                Err(error) => log::error!("secret {name} is not shown: {error}"),
            }
        }
        match instance.config.sources.merge_what_is_there(&self.store) {
            Ok(merged) => drop(instance.config.show(merged)),
            Err(store::ConfigError::Sealed) => {}
            Err(error) => log::error!("configs of {} are not shown: {error}", instance.service),
        }
        metas
    }

    pub(super) fn permit(&self, instance: &Instance, name: &SecretName) -> Result<Permit, Denied> {
        let reader = Reader::Instance {
            service: &instance.service,
            number: instance.key.number,
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
        let _changing = lock(&self.changing);
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
        Ok(self.show_configs(vec![(number, merged)]))
    }

    /// An instance has ended.
    pub fn end(&self, number: u32) {
        let _changing = lock(&self.changing);
        write(&self.state).instances.remove(&number);
        self.wait_for_handlers();
        for tree in [Tree::Secret, Tree::Config] {
            self.inodes(tree).end(&self.store, number);
        }
    }
}
