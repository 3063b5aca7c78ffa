//! deploy config

mod create;
mod delete;
mod get;
mod list;
mod set;
mod update;

use anyhow::Result;
use clap::{Args, Subcommand};
use control::calls::ConfigInfo;

use super::secret::warn_of_late;
use crate::context::Context;

/// Keep stored configs, which manifests take by `config_from`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  deploy config create app.settings log_level=info\n  \
    deploy config set app.settings log_level=debug"
)]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::Create),
    Get(get::Get),
    Set(set::Set),
    Update(update::Update),
    List(list::List),
    Delete(delete::Delete),
}

pub fn config(args: &Config, context: &Context) -> Result<()> {
    match &args.verb {
        Verb::Create(args) => create::create(args, context),
        Verb::Get(args) => get::get(args, context),
        Verb::Set(args) => set::set(args, context),
        Verb::Update(args) => update::update(args, context),
        Verb::List(args) => list::list(args, context),
        Verb::Delete(args) => delete::delete(args, context),
    }
}

/// Confirms a change.
fn confirm_changed(info: &ConfigInfo, context: &Context) -> Result<()> {
    context.confirm(info, |info| {
        let keys = if info.keys == 1 { "key" } else { "keys" };
        format!(
            "{}: version {}, {} {keys}",
            info.name, info.version, info.keys
        )
    })?;
    warn_of_late(&info.late);
    Ok(())
}
