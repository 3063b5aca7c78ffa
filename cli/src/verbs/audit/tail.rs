//! deploy audit tail

use anyhow::Result;
use clap::Args;
use control::calls::AuditQuery;

use super::{Which, show};
use crate::context::Context;

/// Print the newest entries, a line of JSON each
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy audit tail --follow --verdict denied")]
pub struct Tail {
    #[command(flatten)]
    which: Which,
    /// How many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    lines: u32,
    /// Go on with those that come
    #[arg(long, short)]
    follow: bool,
}

pub fn tail(args: &Tail, context: &Context) -> Result<()> {
    let query = AuditQuery {
        last: Some(args.lines),
        follow: args.follow,
        ..args.which.query()
    };
    show(&query, context)
}
