//! deploy seal

use anyhow::Result;
use clap::Args;
use control::calls;

use crate::context::Context;

/// Lock the root key: nothing is served until an unseal
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy seal")]
pub struct Seal {}

pub fn seal(_: &Seal, context: &Context) -> Result<()> {
    let done = context.call(&calls::Seal {})?;
    context.confirm(&done, |_| {
        "sealed; services cannot read until: deploy unseal".to_owned()
    })
}
