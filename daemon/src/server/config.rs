//! io.deploy.Configs

use std::collections::BTreeMap;

use control::ControlError;
use control::calls::{
    ConfigCreate, ConfigData, ConfigDelete, ConfigGet, ConfigInfo, ConfigList, ConfigListed,
    ConfigUpdate, Done, Scalar,
};
use model::ConfigKey;
use store::{ConfigMeta, Operator};

use super::refusal;
use crate::host::Host;
use crate::host::acts::Late;

pub(super) fn create(
    host: &Host,
    operator: &Operator,
    asked: ConfigCreate,
) -> Result<ConfigInfo, ControlError> {
    host.config_create(operator, &asked.name, text(asked.data), asked.immutable)
        .map(changed)
        .map_err(refusal::of_act)
}

pub(super) fn get(
    host: &Host,
    operator: &Operator,
    asked: ConfigGet,
) -> Result<ConfigData, ControlError> {
    let config = host
        .store
        .config_get(operator, &asked.name)
        .map_err(refusal::of_config)?;
    let data = config
        .data
        .into_iter()
        .map(|(key, value)| (key, Scalar(value)));
    Ok(ConfigData {
        immutable: config.meta.immutable,
        version: config.meta.version,
        changed: config.meta.changed,
        data: data.collect(),
        name: config.meta.name,
    })
}

pub(super) fn update(
    host: &Host,
    operator: &Operator,
    asked: ConfigUpdate,
) -> Result<ConfigInfo, ControlError> {
    host.config_update(operator, &asked.name, text(asked.data))
        .map(changed)
        .map_err(refusal::of_act)
}

pub(super) fn delete(
    host: &Host,
    operator: &Operator,
    asked: ConfigDelete,
) -> Result<Done, ControlError> {
    host.config_delete(operator, &asked.name)
        .map(|()| Done {})
        .map_err(refusal::of_act)
}

pub(super) fn list(
    host: &Host,
    operator: &Operator,
    asked: ConfigList,
) -> Result<ConfigListed, ControlError> {
    let prefix = asked.prefix.unwrap_or_default();
    let configs = host
        .store
        .config_list(operator, &prefix)
        .map_err(refusal::of_write)?;
    Ok(ConfigListed {
        configs: configs.into_iter().map(info).collect(),
    })
}

fn text(data: BTreeMap<ConfigKey, Scalar>) -> BTreeMap<ConfigKey, String> {
    data.into_iter()
        .map(|(key, value)| (key, value.0))
        .collect()
}

fn changed((meta, late): (ConfigMeta, Late)) -> ConfigInfo {
    ConfigInfo {
        late: super::secret::late(late),
        ..info(meta)
    }
}

fn info(meta: ConfigMeta) -> ConfigInfo {
    ConfigInfo {
        name: meta.name,
        immutable: meta.immutable,
        version: meta.version,
        changed: meta.changed,
        keys: meta.keys as u64,
        late: Vec::new(),
    }
}
