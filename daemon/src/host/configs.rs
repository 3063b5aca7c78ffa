//! What an operator does to configs.

use std::collections::BTreeMap;

use model::{ConfigKey, ConfigName, Tree};
use store::{ConfigMeta, Operator, WriteError};

use super::Host;
use super::acts::{ActError, Late};
use crate::audit::Act;

impl Host {
    /// Makes a config.
    pub fn config_create(
        &self,
        operator: &Operator,
        name: &ConfigName,
        data: BTreeMap<ConfigKey, String>,
        immutable: bool,
    ) -> Result<(ConfigMeta, Late), ActError> {
        let act = Act::new("config.create", name.as_str());
        self.change_config(operator, act, name, || {
            self.store.config_create(operator, name, data, immutable)
        })
    }

    /// Changes keys of a config.
    pub fn config_update(
        &self,
        operator: &Operator,
        name: &ConfigName,
        data: BTreeMap<ConfigKey, String>,
    ) -> Result<(ConfigMeta, Late), ActError> {
        let keys: Vec<_> = data.keys().map(ConfigKey::as_str).collect();
        let detail = keys.join(", ");
        let act = Act::new("config.update", name.as_str()).detail(&detail);
        self.change_config(operator, act, name, || {
            self.store.config_update(operator, name, data)
        })
    }

    /// Deletes a config.
    pub fn config_delete(&self, operator: &Operator, name: &ConfigName) -> Result<(), ActError> {
        let act = Act::new("config.delete", name.as_str());
        self.change_config(operator, act, name, || {
            self.store.config_delete(operator, name)
        })?;
        Ok(())
    }

    fn change_config<T>(
        &self,
        operator: &Operator,
        act: Act<'_>,
        name: &ConfigName,
        change: impl FnOnce() -> Result<T, WriteError>,
    ) -> Result<(T, Late), ActError> {
        let _noted = self.untold.note(Tree::Config, [name]);
        let changed = self
            .audit
            .act(operator, act, || change().map_err(ActError::from))?;
        log::info!("{}: {} {name}", operator.name(), act.name);
        let touched = self.views.configs_changed(std::slice::from_ref(name));
        let late = self.tell(touched, self.config_at(name));
        Ok((changed, late))
    }
}
