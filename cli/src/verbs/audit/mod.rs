//! deploy audit

mod query;
mod tail;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use control::calls::{AuditEntries, AuditQuery};
use model::Timestamp;

use crate::context::{Context, print};
use crate::times;

/// See who opened which secret, who was refused, and who changed what
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy audit tail --follow\n  \
    deploy audit query --secret db_password --verdict denied")]
pub struct Audit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Tail(tail::Tail),
    Query(query::Query),
    Verify(verify::Verify),
}

pub fn audit(args: &Audit, context: &Context) -> Result<ExitCode> {
    match &args.verb {
        Verb::Tail(args) => tail::tail(args, context)?,
        Verb::Query(args) => query::query(args, context)?,
        Verb::Verify(args) => return verify::verify(args, context),
    }
    Ok(ExitCode::SUCCESS)
}

/// Which entries; what is left out is of no interest
#[derive(Debug, Args)]
struct Which {
    /// Whose view
    #[arg(long)]
    service: Option<String>,
    /// Which secret, or what else was changed
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// open, read, change, seal, unseal, start, stop, segment or merged
    #[arg(long)]
    kind: Option<String>,
    /// allowed, denied or failed; of a change: begun, done, denied or failed
    #[arg(long)]
    verdict: Option<String>,
    /// Which operator's
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Which process's
    #[arg(long)]
    pid: Option<u32>,
    /// Not before this time, such as 2026-12-01T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = times::time)]
    from: Option<Timestamp>,
    /// Not after this time
    #[arg(long, value_name = "TIME", value_parser = times::time)]
    to: Option<Timestamp>,
}

impl Which {
    fn query(&self) -> AuditQuery {
        AuditQuery {
            service: self.service.clone(),
            secret: self.secret.clone(),
            kind: self.kind.clone(),
            verdict: self.verdict.clone(),
            operator: self.operator.clone(),
            pid: self.pid,
            from: self.from,
            to: self.to,
            last: None,
            follow: false,
        }
    }
}

/// Prints entries as they come, a line of JSON each: they are that for people too.
fn show(query: &AuditQuery, context: &Context) -> Result<()> {
    let mut failed = None;
    let lines = |told: &AuditEntries| -> Result<()> {
        let lines = told.entries.iter().map(|entry| format!("{entry}\n"));
        print(&lines.collect::<String>())
    };
    let last = context.client()?.call_more(query, |told| {
        if failed.is_none() {
            failed = lines(&told).err();
        }
        if failed.is_some() {
            // Whoever reads us has gone; nothing else would end a tail that is followed.
            std::process::exit(1);
        }
    })?;
    lines(&last)
}
