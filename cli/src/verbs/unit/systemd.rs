//! What systemd says of units, by systemctl(1).

use std::collections::BTreeMap;

use anyhow::Result;
use injector::unit::systemctl::{self, SystemctlError};

use crate::failure::Failure;

/// What a unit is, as far as it matters here.
#[derive(Debug, Default)]
pub struct Shown(BTreeMap<String, String>);

impl Shown {
    pub fn get(&self, property: &str) -> &str {
        self.0.get(property).map_or("", String::as_str)
    }

    pub fn is(&self, property: &str) -> bool {
        self.get(property) == "yes"
    }
}

/// Properties of a unit; of a template those of an instance of it.
pub fn show(unit: &str, properties: &[&str]) -> Result<Shown> {
    let asked = unit.replace("@.", "@x.");
    let text = systemctl(&["show", "--property", &properties.join(","), "--", &asked])?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(Shown(
        pairs
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    ))
}

/// Reads unit files anew.
pub fn reload() -> Result<()> {
    systemctl(&["daemon-reload"]).map(drop)
}

fn systemctl(words: &[&str]) -> Result<String> {
    systemctl::systemctl(words).map_err(|error| match error {
        SystemctlError::Run(error) => {
            anyhow::Error::new(error).context("cannot run systemctl; is this host run by systemd?")
        }
        SystemctlError::Said(text) => {
            Failure::failed(format!("systemctl {}: {text}", words.join(" "))).into()
        }
    })
}
