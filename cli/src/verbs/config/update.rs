//! deploy config update

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls::ConfigUpdate;
use model::ConfigName;

use super::confirm_changed;
use crate::context::Context;
use crate::failure::Failure;
use crate::names::name;
use crate::pairs::Pairs;

/// Set several keys of a config in one commit; those that are not named stay
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy config update app.settings log_level=debug max_conn=100\n  \
    deploy config update app.settings --from-env settings.env")]
pub struct Update {
    /// The config
    name: OsString,
    #[command(flatten)]
    pairs: Pairs,
}

pub fn update(args: &Update, context: &Context) -> Result<()> {
    let name: ConfigName = name(&args.name)?;
    let data = args.pairs.read()?;
    if data.is_empty() {
        return Err(Failure::usage("there is no key to set")
            .hint("name some: KEY=VALUE")
            .into());
    }
    let call = ConfigUpdate {
        name: name.clone(),
        data,
    };
    let info = context.call_about_config(&call, name.as_str())?;
    confirm_changed(&info, context)
}
