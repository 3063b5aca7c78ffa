//! deploy doctor

mod daemon;
mod files;
mod finding;
mod host;
mod mounts;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use self::finding::{Finding, Severity};
use crate::arguments::StateDir;
use crate::context::Context;

/// Look for what is wrong, and print the command that mends it
///
/// Looks at secretsd and its store, key slots and audit log; at mounts and instances; at sockets,
/// folders and who may read them; at the kernel, security modules, the clock and free space. Ends
/// with 0 if nothing is wrong, 1 after a warning, 2 after an error. Waits for nothing that is dead.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  deploy doctor\n  deploy doctor --repair\n  deploy doctor --json"
)]
pub struct Doctor {
    /// Do what is safe: take away rights to files that nobody should have, and mounts that a keeper
    /// which is gone has left while no service runs
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    store: StateDir,
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Report {
    worst: Severity,
    findings: Vec<Finding>,
}

pub fn doctor(args: &Doctor, context: &Context) -> Result<ExitCode> {
    let mut findings = look(args, context);
    if args.repair {
        let repaired: Vec<Finding> = findings.iter_mut().filter_map(Finding::repair).collect();
        findings = look(args, context);
        findings.extend(repaired);
    }
    let worst = findings.iter().map(|one| one.severity).max();
    let report = Report {
        worst: worst.unwrap_or(Severity::Ok),
        findings,
    };
    context.show(&report, |report| {
        let shown = report.findings.iter();
        shown
            .filter(|one| !context.quiet || one.severity > Severity::Note)
            .map(ToString::to_string)
            .collect()
    })?;
    Ok(report.worst.exit_code())
}

fn look(args: &Doctor, context: &Context) -> Vec<Finding> {
    let run_dir = &context.run_dir;
    let (mut findings, status) = daemon::look(run_dir);
    findings.extend(mounts::look(run_dir));
    findings.extend(files::look(run_dir, &args.store.state_dir, status.as_ref()));
    findings.extend(host::look(&[&args.store.state_dir, run_dir.path()]));
    findings
}
