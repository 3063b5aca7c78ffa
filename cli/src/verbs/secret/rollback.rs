//! deploy secret rollback

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls;
use model::SecretName;

use super::confirm_written;
use crate::context::Context;
use crate::names::name;

/// Make an older version the newest again, as a version of its own
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  deploy secret history db_password\n  deploy secret rollback db_password 6"
)]
pub struct Rollback {
    /// The secret
    name: OsString,
    /// The version to go back to
    version: u32,
}

pub fn rollback(args: &Rollback, context: &Context) -> Result<()> {
    let name: SecretName = name(&args.name)?;
    let call = calls::Rollback {
        name: name.clone(),
        version: args.version,
    };
    let written = context.call_about_secrets(&call, &[name.as_str()])?;
    confirm_written(&written, context)
}
