//! deploy secret

mod delete;
mod get;
mod grant;
mod history;
mod list;
mod readers;
mod revoke;
mod rollback;
mod rotate;
mod set;
mod show;

use anyhow::Result;
use clap::{Args, Subcommand};
use control::calls::{Late, Written};

use crate::context::Context;

/// Keep secrets, and say which service may read them
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  deploy secret set db_password\n  deploy secret grant web db_password"
)]
pub struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Set(set::Set),
    Get(get::Get),
    List(list::List),
    Show(show::Show),
    Rotate(rotate::Rotate),
    Delete(delete::Delete),
    History(history::History),
    Rollback(rollback::Rollback),
    Grant(grant::Grant),
    Revoke(revoke::Revoke),
    Readers(readers::Readers),
}

pub fn secret(args: &Secret, context: &Context) -> Result<()> {
    match &args.verb {
        Verb::Set(args) => set::set(args, context),
        Verb::Get(args) => get::get(args, context),
        Verb::List(args) => list::list(args, context),
        Verb::Show(args) => show::show(args, context),
        Verb::Rotate(args) => rotate::rotate(args, context),
        Verb::Delete(args) => delete::delete(args, context),
        Verb::History(args) => history::history(args, context),
        Verb::Rollback(args) => rollback::rollback(args, context),
        Verb::Grant(args) => grant::grant(args, context),
        Verb::Revoke(args) => revoke::revoke(args, context),
        Verb::Readers(args) => readers::readers(args, context),
    }
}

/// Confirms a new version.
fn confirm_written(written: &Written, context: &Context) -> Result<()> {
    context.confirm(written, |written| {
        format!("{}: version {}", written.name, written.version)
    })?;
    warn_of_late(&written.late);
    Ok(())
}

/// Says which instances a change has not reached in time. It holds, and they are reached later.
pub fn warn_of_late(late: &[Late]) {
    if !late.is_empty() {
        eprintln!(
            "warning: not reached yet: {}; a process there holds the folder's lock, or the injector \
             is away; watchers are told, and the name leads to the new value, as soon as it can be",
            shown(late)
        );
    }
}

fn shown(instances: &[Late]) -> String {
    let one = |late: &Late| format!("instance {} of {}", late.instance, late.service);
    instances.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Names of fields on one line.
fn joined(names: &[impl AsRef<str>]) -> String {
    names
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join(", ")
}
