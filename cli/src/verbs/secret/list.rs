//! deploy secret list

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls;

use super::joined;
use crate::context::Context;
use crate::names::prefix;
use crate::table::table;

/// List secrets: names, versions and times, never values
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy secret list\n  deploy secret list db. --json")]
pub struct List {
    /// Only names that start so
    prefix: Option<OsString>,
}

pub fn list(args: &List, context: &Context) -> Result<()> {
    let prefix = args.prefix.as_deref().map(prefix).transpose()?;
    let listed = context.call(&calls::List { prefix })?;
    context.show(&listed, |listed| {
        table(
            ["NAME", "VERSION", "CREATED", "FIELDS"],
            listed.secrets.iter().map(|secret| {
                [
                    secret.name.to_string(),
                    secret.version.to_string(),
                    secret.created.to_string(),
                    joined(&secret.fields),
                ]
            }),
        )
    })
}
