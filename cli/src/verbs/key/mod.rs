//! deploy key

mod rotate;
mod slot;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::Context;

/// Care for the root key, from which all other keys derive
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy key rotate\n  deploy key slot list")]
pub struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Rotate(rotate::Rotate),
    Slot(slot::Slot),
}

pub fn key(args: &Key, context: &Context) -> Result<()> {
    match &args.verb {
        Verb::Rotate(args) => rotate::rotate(args, context),
        Verb::Slot(args) => slot::slot(args, context),
    }
}

/// Something that moves on a terminal while secretsd works; nothing elsewhere.
fn progress(context: &Context, what: &'static str) -> ProgressBar {
    let target = if context.shows_progress() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
