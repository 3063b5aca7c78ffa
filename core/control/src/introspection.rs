//! org.varlink.service: what any varlink client may ask of any server.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ControlError;
use crate::calls::Method;
use crate::frame::Call;

const SERVICE: &str = include_str!("../interfaces/org.varlink.service.varlink");

/// Every interface that secretsd serves, with its description.
pub const INTERFACES: &[(&str, &str)] = &[
    ("org.varlink.service", SERVICE),
    (
        "io.deploy.Secrets",
        include_str!("../interfaces/io.deploy.Secrets.varlink"),
    ),
    (
        "io.deploy.Configs",
        include_str!("../interfaces/io.deploy.Configs.varlink"),
    ),
    (
        "io.deploy.Keys",
        include_str!("../interfaces/io.deploy.Keys.varlink"),
    ),
    (
        "io.deploy.Audit",
        include_str!("../interfaces/io.deploy.Audit.varlink"),
    ),
    (
        "io.deploy.Backups",
        include_str!("../interfaces/io.deploy.Backups.varlink"),
    ),
    (
        "io.deploy.Daemon",
        include_str!("../interfaces/io.deploy.Daemon.varlink"),
    ),
];

/// The description of an interface, in varlink's own language.
pub fn interface(name: &str) -> Option<&'static str> {
    INTERFACES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GetInfo {}

impl Method for GetInfo {
    const NAME: &'static str = "org.varlink.service.GetInfo";
    const SHORT: &'static str = Self::NAME;
    type Reply = Value;
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GetInterfaceDescription {
    interface: String,
}

impl Method for GetInterfaceDescription {
    const NAME: &'static str = "org.varlink.service.GetInterfaceDescription";
    const SHORT: &'static str = Self::NAME;
    type Reply = Value;
}

/// Answers a call of org.varlink.service; `None` if `call` is for another interface.
pub fn introspect(call: &Call<'_>) -> Option<Result<Value, ControlError>> {
    match call.method.as_str() {
        GetInfo::NAME => Some(call.parameters::<GetInfo>().map(|_| info())),
        GetInterfaceDescription::NAME => Some(describe(call)),
        _ => None,
    }
}

fn info() -> Value {
    let interfaces: Vec<&str> = INTERFACES.iter().map(|(name, _)| *name).collect();
    serde_json::json!({
        "vendor": "deploy-secrets",
        "product": "secretsd",
        "version": env!("CARGO_PKG_VERSION"),
        "url": "https://varlink.org",
        "interfaces": interfaces,
    })
}

fn describe(call: &Call<'_>) -> Result<Value, ControlError> {
    let asked: GetInterfaceDescription = call.parameters()?;
    match interface(&asked.interface) {
        Some(description) => Ok(serde_json::json!({ "description": description })),
        None => Err(ControlError::no_interface(&asked.interface)),
    }
}

#[cfg(test)]
mod tests;
