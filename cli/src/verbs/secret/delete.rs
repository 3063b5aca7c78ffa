//! deploy secret delete

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls;
use model::SecretName;

use super::joined;
use crate::context::Context;
use crate::names::name;
use crate::prompt;

/// Delete a secret with all its versions; services lose it as by a revoke
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  deploy secret delete old_key\n  deploy secret delete old_key --yes"
)]
pub struct Delete {
    /// The secret
    name: OsString,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub fn delete(args: &Delete, context: &Context) -> Result<()> {
    let name: SecretName = name(&args.name)?;
    if !args.yes {
        prompt::confirm(
            &format!("Delete {name} with all its versions?"),
            "use --yes",
        )?;
    }
    let call = calls::Delete { name: name.clone() };
    let deleted = context.call_about_secrets(&call, &[name.as_str()])?;
    context.confirm(&deleted, |deleted| match deleted.services.as_slice() {
        [] => format!("{name} is deleted"),
        services => format!("{name} is deleted; taken back from {}", joined(services)),
    })
}
