//! deploy config delete

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls::ConfigDelete;
use model::ConfigName;

use crate::context::Context;
use crate::names::name;
use crate::prompt;

/// Delete a config
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy config delete app.settings\n  \
    deploy config delete app.settings --yes")]
pub struct Delete {
    /// The config
    name: OsString,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub fn delete(args: &Delete, context: &Context) -> Result<()> {
    let name: ConfigName = name(&args.name)?;
    if !args.yes {
        prompt::confirm(&format!("Delete {name}?"), "use --yes")?;
    }
    let call = ConfigDelete { name: name.clone() };
    let done = context.call_about_config(&call, name.as_str())?;
    context.confirm(&done, |_| format!("{name} is deleted"))
}
