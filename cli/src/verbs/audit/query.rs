//! deploy audit query

use anyhow::Result;
use clap::Args;
use control::calls::AuditQuery;

use super::{Which, show};
use crate::context::Context;

/// Print all entries that are asked for, a line of JSON each
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy audit query --secret db_password --from 2026-12-01T00:00:00Z\n  \
    deploy audit query --kind change --operator alice")]
pub struct Query {
    #[command(flatten)]
    which: Which,
    /// The newest so many alone
    #[arg(long, value_name = "N")]
    last: Option<u32>,
}

pub fn query(args: &Query, context: &Context) -> Result<()> {
    let query = AuditQuery {
        last: args.last,
        ..args.which.query()
    };
    show(&query, context)
}
