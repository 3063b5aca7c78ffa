//! What operators' acts do to the views.
//!
//! Each change goes in one order (see the crate's head). None of this runs on a thread that serves
//! requests, and no lock that a handler takes is held while the kernel is told.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use model::{ConfigKey, ConfigName, SecretName, ServiceName, Tree};
use store::{Permit, SecretMeta, VersionMeta};
use sys::lock::{lock, read, write};

use super::config::{Merged, Sources};
use super::forget::{Stale, names_of, ring, ring_alias, unlinks_of};
use super::instance::Instance;
use super::{Newest, State, Views};
use crate::inode::Ino;
use crate::spec::Touched;

/// How long an operator waits for names to be forgotten everywhere.
const PATIENCE: Duration = Duration::from_secs(1);

impl Views {
    /// A secret has a new version: its names lead to that one when this returns.
    pub fn secret_changed(&self, name: &SecretName) -> Touched {
        let changing = lock(&self.changing);
        let Some(meta) = self.meta(name) else {
            return Touched::default();
        };
        let mut touched = Touched::default();
        let mut stale = Vec::new();
        let mut taken_away = Vec::new();
        {
            let mut state = write(&self.state);
            let old = put_newest(&mut state, meta.clone());
            for instance in state.instances.values_mut() {
                let Some(slot) = instance.slot(name.as_str()) else {
                    continue;
                };
                let number = instance.key.number;
                match instance.number_fields(slot, meta.newest()) {
                    Ok(true) => touched.new_entries.push((number, instance.entries())),
                    Ok(false) => {}
                    Err(error) => log::error!("instance {number}: {error}"),
                }
                if instance.slots[slot].is_shown() {
                    stale.extend(names_of(instance, slot));
                    self.ring_secret(instance, slot, meta.newest(), &mut touched);
                    if meta.keep == 0
                        && let Some(old) = &old
                    {
                        taken_away.extend(self.live_versions(instance, slot, old.number));
                    }
                }
            }
        }
        self.wait_for_handlers();
        // Under `keep` 0 an old version is treated as revoked.
        self.forget_inodes(Tree::Secret, &taken_away);
        let instances = self.forget_names(stale);
        drop(changing);
        touched.stuck = self.wait_for_names(&instances, PATIENCE);
        touched
    }

    /// The grace of the version before a secret's newest one has begun or ended: when this returns,
    /// the name among the previous ones leads there, or nobody reads it any more by that name.
    pub fn previous_changed(&self, name: &SecretName) -> Touched {
        let changing = lock(&self.changing);
        let previous = self.previous(name);
        let mut touched = Touched::default();
        let (mut stale, mut inodes) = (Vec::new(), Vec::new());
        {
            let mut state = write(&self.state);
            let newest = state.newest.get(name).map_or(0, |one| one.version.number);
            let before = match &previous {
                Some(version) => state.previous.insert(name.clone(), Arc::clone(version)),
                None => state.previous.remove(name),
            };
            for instance in state.instances.values_mut() {
                let Some(slot) = instance.previous_slot(name.as_str()) else {
                    continue;
                };
                let number = instance.key.number;
                // Whatever it led to before: of another grace, or of this one that has ended.
                let live = self.live_versions(instance, slot, newest).into_iter();
                let now = previous.as_ref().map(|one| one.version.number);
                inodes.extend(live.filter(|ino| Some(ino.version()) != now));
                let Some(previous) = &previous else {
                    if let Some(before) = &before {
                        self.going.begin(instance, slot, &before.version);
                    }
                    touched.gone.0.extend(names_of(instance, slot));
                    touched.unlinks.extend(unlinks_of(instance, slot));
                    continue;
                };
                match instance.number_fields(slot, &previous.version) {
                    Ok(true) => touched.new_entries.push((number, instance.entries())),
                    Ok(false) => {}
                    Err(error) => log::error!("instance {number}: {error}"),
                }
                stale.extend(names_of(instance, slot));
                self.ring_secret(instance, slot, &previous.version, &mut touched);
            }
        }
        self.wait_for_handlers();
        self.forget_inodes(Tree::Secret, &inodes);
        let instances = self.forget_names(stale);
        drop(changing);
        touched.stuck = self.wait_for_names(&instances, PATIENCE);
        touched
    }

    /// What the store says of the version before the newest, by the permit of any instance.
    fn previous(&self, name: &SecretName) -> Option<Arc<Newest>> {
        let permit = self.any_permit(name)?;
        let version = self.store.previous(&permit).ok()??;
        Some(Arc::new(Newest { version }))
    }

    fn any_permit(&self, name: &SecretName) -> Option<Permit> {
        read(&self.state).instances.values().find_map(|instance| {
            let slot = &instance.slots[instance.slot(name.as_str())?];
            slot.permit.clone().filter(Permit::is_valid)
        })
    }

    /// What the store says of a secret now, by the permit of any instance.
    fn meta(&self, name: &SecretName) -> Option<SecretMeta> {
        let permit = self.any_permit(name)?;
        match self.store.secret(&permit) {
            Ok(meta) => Some(meta),
            Err(error) => {
                log::error!("the newest version of {name} is not shown: {error}");
                None
            }
        }
    }

    /// Secrets were granted to a service: running instances that ask for them see them now.
    pub fn granted(&self, service: &ServiceName, secrets: &[SecretName]) -> Touched {
        let _changing = lock(&self.changing);
        let mut touched = Touched::default();
        for name in secrets {
            for number in self.asking(service, name) {
                self.show_secret(number, name, &mut touched);
            }
        }
        touched
    }

    /// Secrets that a running instance of a service had, and has no more although they are granted:
    /// the grant is pinned now to something that it is not.
    pub fn fallen(&self, service: &ServiceName, secrets: &[SecretName]) -> Vec<SecretName> {
        let state = read(&self.state);
        let has_lost = |name: &&SecretName| {
            let mut own = state
                .instances
                .values()
                .filter(|one| one.service == *service);
            own.any(|instance| {
                let slot = instance
                    .slot(name.as_str())
                    .map(|slot| &instance.slots[slot]);
                slot.is_some_and(|slot| slot.permit.is_some() && !slot.is_shown())
            })
        };
        secrets.iter().filter(has_lost).cloned().collect()
    }

    /// Running instances of a service that ask for a secret and do not have it.
    fn asking(&self, service: &ServiceName, name: &SecretName) -> Vec<u32> {
        let state = read(&self.state);
        let asks = |instance: &&Instance| {
            let slot = instance.slot(name.as_str());
            instance.service == *service
                && slot.is_some_and(|slot| !instance.slots[slot].is_shown())
        };
        state
            .instances
            .values()
            .filter(asks)
            .map(|instance| instance.key.number)
            .collect()
    }

    /// Gives one instance one secret, if it may have it.
    fn show_secret(&self, number: u32, name: &SecretName, touched: &mut Touched) -> Option<()> {
        let permit = self
            .permit(read(&self.state).instances.get(&number)?, name)
            .ok()?;
        let meta = self.store.secret(&permit).ok()?;
        let mut state = write(&self.state);
        let instance = state.instances.get_mut(&number)?;
        let slot = instance.slot(name.as_str())?;
        if instance.number_fields(slot, meta.newest()).ok()? {
            touched.new_entries.push((number, instance.entries()));
        }
        for slot in instance.slots_of(name.as_str()) {
            instance.slots[slot].permit = Some(permit.clone());
        }
        self.ring_secret(instance, slot, meta.newest(), touched);
        put_newest(&mut state, meta);
        Some(())
    }

    /// What the store says of a secret that no instance may read any more: those that an earlier
    /// secretsd served may have it open, and a denial has to know how many versions there are.
    pub fn recall(&self, secret: SecretMeta) {
        let mut state = write(&self.state);
        if !state.newest.contains_key(&secret.name) {
            put_newest(&mut state, secret);
        }
    }

    /// Secrets were revoked from a service (`None`: deleted, for everyone), and the store denies them
    /// already. When this returns nobody reads them any more: not by a name, a descriptor, or a
    /// mapping. The names themselves go by [`Touched::unlinks`] and [`Touched::gone`].
    pub fn denied(&self, service: Option<&ServiceName>, secrets: &[SecretName]) -> Touched {
        let _changing = lock(&self.changing);
        for name in secrets {
            self.pins.end(&self.store, name);
        }
        self.wait_for_handlers();
        let mut inodes = Vec::new();
        let mut touched = Touched::default();
        {
            let state = read(&self.state);
            for name in secrets {
                for instance in state.instances.values() {
                    if service.is_some_and(|service| instance.service != *service) {
                        continue;
                    }
                    let newest = state.newest.get(name).map_or(0, |one| one.version.number);
                    for slot in instance.slots_of(name.as_str()) {
                        // Granted to it all the same, by a grant that others fall out of.
                        if service.is_some() && instance.slots[slot].is_shown() {
                            continue;
                        }
                        let versions = match instance.slots[slot].is_previous {
                            true => &state.previous,
                            false => &state.newest,
                        };
                        if let Some(led_to) = versions.get(name) {
                            self.going.begin(instance, slot, &led_to.version);
                        }
                        inodes.extend(self.live_versions(instance, slot, newest));
                        touched.gone.0.extend(names_of(instance, slot));
                        touched.unlinks.extend(unlinks_of(instance, slot));
                    }
                }
            }
        }
        self.forget_inodes(Tree::Secret, &inodes);
        if service.is_none() {
            let mut state = write(&self.state);
            for name in secrets {
                state.newest.remove(name);
                state.previous.remove(name);
            }
        }
        touched
    }

    /// Stored configs have changed: what they say is shown when this returns.
    pub fn configs_changed(&self, names: &[ConfigName]) -> Touched {
        let changing = lock(&self.changing);
        let asking: Vec<(u32, Sources)> = {
            let state = read(&self.state);
            let asking = state.instances.values();
            asking
                .filter(|instance| instance.config.sources.any_of(names))
                .map(|one| (one.key.number, one.config.sources.clone()))
                .collect()
        };
        let mut merged = Vec::new();
        for (number, sources) in asking {
            match sources.merge_what_is_there(&self.store) {
                Ok(one) => merged.push((number, one)),
                Err(error) => {
                    log::error!("configs of instance {number} stay as they were: {error}")
                }
            }
        }
        self.show_configs(merged, changing)
    }

    /// Gives `changing` back once nothing is left but to wait.
    pub(super) fn show_configs(
        &self,
        merged: Vec<(u32, Merged)>,
        changing: MutexGuard<'_, ()>,
    ) -> Touched {
        let mut touched = Touched::default();
        let mut changed = Vec::new();
        {
            let mut state = write(&self.state);
            for (number, merged) in merged {
                let Some(instance) = state.instances.get_mut(&number) else {
                    continue;
                };
                let live = self.config_inodes.of_instance(number);
                let is_live = |version| live.iter().any(|ino| ino.version() == version);
                let (names, grew) = instance.config.show(merged, is_live);
                if grew {
                    touched.new_entries.push((number, instance.entries()));
                }
                changed.push((number, names));
            }
        }
        self.tell_configs(changed, touched, changing)
    }

    /// Has the kernel forget what it knows of keys, by instance.
    pub(super) fn tell_configs(
        &self,
        changed: Vec<(u32, Vec<ConfigKey>)>,
        mut touched: Touched,
        changing: MutexGuard<'_, ()>,
    ) -> Touched {
        let mut stale = Vec::new();
        let mut inodes = Vec::new();
        {
            let state = read(&self.state);
            for (number, names) in changed {
                let Some(instance) = state.instances.get(&number) else {
                    continue;
                };
                for name in names {
                    let own = ring(Tree::Config, number, name.as_str());
                    let name_there = Stale {
                        tree: Tree::Config,
                        instance: number,
                        folder: Ino::instance_folder(number),
                        name: name.as_str().into(),
                    };
                    let Some((entry, version)) = instance.config.find(&name) else {
                        touched.unlinks.push(own);
                        touched.gone.0.push(name_there);
                        continue;
                    };
                    // A version that came again, after a config was deleted, must not show what it
                    // was before.
                    inodes.push(Ino::new(number, entry, version));
                    stale.push(name_there);
                    touched.rings.push(own);
                    // As a watch stays with its inode.
                    let known = self.config_inodes.versions(number, entry);
                    let older = known.into_iter().filter(|ino| ino.version() != version);
                    older.for_each(|ino| ring_alias(Tree::Config, ino, &mut touched));
                }
            }
        }
        self.wait_for_handlers();
        self.forget_inodes(Tree::Config, &inodes);
        let instances = self.forget_names(stale);
        drop(changing);
        touched.stuck = self.wait_for_names(&instances, PATIENCE);
        touched
    }

    /// The store was sealed: nothing is served from the moment this is called, and nothing is in the
    /// kernel's caches when it returns.
    pub fn sealed(&self) {
        self.sealed.store(true, Ordering::SeqCst);
        let changing = lock(&self.changing);
        self.wait_for_handlers();
        let mut stale = Vec::new();
        let (secret, config) = {
            let state = read(&self.state);
            for instance in state.instances.values() {
                let number = instance.key.number;
                for slot in 0..instance.slots.len() {
                    stale.extend(names_of(instance, slot));
                }
                stale.extend(instance.config.list().map(|key| Stale {
                    tree: Tree::Config,
                    instance: number,
                    folder: Ino::instance_folder(number),
                    name: key.as_str().into(),
                }));
            }
            (
                self.all_live(&state, Tree::Secret),
                self.all_live(&state, Tree::Config),
            )
        };
        self.forget_inodes(Tree::Secret, &secret);
        self.forget_inodes(Tree::Config, &config);
        let instances = self.forget_names(stale);
        drop(changing);
        self.wait_for_names(&instances, PATIENCE);
    }

    /// The store was unsealed: every instance has again what it may have.
    pub fn unsealed(&self) -> Touched {
        let _changing = lock(&self.changing);
        let mut touched = Touched::default();
        let numbers: Vec<u32> = read(&self.state).instances.keys().copied().collect();
        for number in numbers {
            // Nobody is answered while sealed, so that the lock may be held for as long as this takes.
            let mut state = write(&self.state);
            if let Some(mut instance) = state.instances.remove(&number) {
                let before = instance.entries().len();
                let given = self.fill(&mut instance);
                let entries = instance.entries();
                if entries.len() > before {
                    touched.new_entries.push((number, entries));
                }
                state.instances.insert(number, instance);
                given.into_iter().for_each(|one| one.put(&mut state));
            }
        }
        self.sealed.store(false, Ordering::SeqCst);
        touched
    }

    /// Running instances that see a secret.
    pub fn instances_of(&self, secret: &SecretName) -> Vec<(u32, ServiceName)> {
        let state = read(&self.state);
        let sees = |instance: &&Instance| {
            let slot = instance.slot(secret.as_str());
            slot.is_some_and(|slot| instance.slots[slot].is_shown())
        };
        let seeing = state.instances.values().filter(sees);
        let mut found: Vec<_> = seeing
            .map(|one| (one.key.number, one.service.clone()))
            .collect();
        found.sort();
        found
    }
}

/// A secret's name leads to its newest version from now on; gives the one before.
pub(super) fn put_newest(state: &mut State, meta: SecretMeta) -> Option<VersionMeta> {
    let newest = Arc::new(Newest {
        version: meta.newest().clone(),
    });
    let old = state.newest.insert(meta.name, newest)?;
    Some(old.version.clone())
}
