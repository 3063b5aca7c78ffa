//! deploy config create

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls::ConfigCreate;
use model::ConfigName;

use super::confirm_changed;
use crate::context::Context;
use crate::names::name;
use crate::pairs::Pairs;

/// Make a config
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy config create app.settings --from-json settings.json\n  \
    deploy config create app.release build=1234 --immutable")]
pub struct Create {
    /// The config
    name: OsString,
    #[command(flatten)]
    pairs: Pairs,
    /// It can only be deleted afterwards
    #[arg(long)]
    immutable: bool,
}

pub fn create(args: &Create, context: &Context) -> Result<()> {
    let name: ConfigName = name(&args.name)?;
    let data = args.pairs.read()?;
    let info = context.call(&ConfigCreate {
        name,
        data,
        immutable: args.immutable,
    })?;
    confirm_changed(&info, context)
}
