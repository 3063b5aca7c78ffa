//! deploy unit disable

use std::fs;

use anyhow::{Context as _, Result};
use clap::Args;
use injector::unit::drop_in;
use serde_json::json;

use super::{Place, require_ours, systemd, unit_name, written};
use crate::context::Context;
use crate::failure::Failure;

/// Take a unit's drop-in away
///
/// A unit that runs keeps its view until it stops.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy unit disable nginx.service")]
pub struct Disable {
    /// The unit
    #[arg(value_parser = unit_name)]
    unit: String,
    #[command(flatten)]
    place: Place,
}

pub fn disable(args: &Disable, context: &Context) -> Result<()> {
    let unit = &args.unit;
    let place = drop_in::place(&args.place.system_dir, unit);
    let Some(text) = written(&place)? else {
        return Err(Failure::not_found(format!("{unit} is not enabled"))
            .hint("see all: deploy unit status")
            .into());
    };
    require_ours(&place, &text)?;
    fs::remove_file(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    // Others may have drop-ins of theirs in it.
    if let Some(folder) = place.parent() {
        let _ = fs::remove_dir(folder);
    }
    systemd::reload()?;
    context.confirm(&json!({"unit": unit}), |_| {
        format!("{unit} has no view from its next start")
    })
}
