//! deploy secret history

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls;
use model::SecretName;

use super::joined;
use crate::context::Context;
use crate::names::name;
use crate::table::table;

/// List the versions of a secret that get and rollback reach
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy secret history db_password")]
pub struct History {
    /// The secret
    name: OsString,
}

pub fn history(args: &History, context: &Context) -> Result<()> {
    let name: SecretName = name(&args.name)?;
    let call = calls::History { name: name.clone() };
    let versions = context.call_about_secrets(&call, &[name.as_str()])?;
    context.show(&versions, |versions| {
        table(
            ["VERSION", "CREATED", "BYTES", "FIELDS"],
            versions.versions.iter().rev().map(|version| {
                [
                    version.version.to_string(),
                    version.created.to_string(),
                    version.bytes.to_string(),
                    joined(&version.fields),
                ]
            }),
        )
    })
}
