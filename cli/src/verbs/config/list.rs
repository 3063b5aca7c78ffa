//! deploy config list

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls::ConfigList;

use crate::context::Context;
use crate::names::prefix;
use crate::table::table;

/// List configs: names, versions and times
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy config list\n  deploy config list app. --json")]
pub struct List {
    /// Only names that start so
    prefix: Option<OsString>,
}

pub fn list(args: &List, context: &Context) -> Result<()> {
    let prefix = args.prefix.as_deref().map(prefix).transpose()?;
    let listed = context.call(&ConfigList { prefix })?;
    context.show(&listed, |listed| {
        table(
            ["NAME", "VERSION", "CHANGED", "KEYS", ""],
            listed.configs.iter().map(|config| {
                [
                    config.name.to_string(),
                    config.version.to_string(),
                    config.changed.to_string(),
                    config.keys.to_string(),
                    if config.immutable {
                        "immutable".to_owned()
                    } else {
                        String::new()
                    },
                ]
            }),
        )
    })
}
