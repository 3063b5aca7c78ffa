//! deploy run

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use injector::supervisor::{self, RunOptions};

use super::{exit_code, reload};
use crate::context::{Context, require_root};

/// Run a service with its view of its secrets
///
/// The exit code is the service's own, or 128 + the signal that ended it; 3 if a grant is missing,
/// 5 if the store is sealed, 126 and 127 as a shell has them.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy run web.yaml\n  \
    deploy run --detach --log /var/log/web.log web.yaml\n  \
    deploy run web.yaml -- ls -l /secret")]
pub struct Run {
    /// The manifest
    manifest: PathBuf,
    /// Return when the service has started, and leave its supervisor behind
    #[arg(long)]
    detach: bool,
    /// Where the output of a detached service goes [default: nowhere]
    #[arg(long, value_name = "FILE", requires = "detach")]
    log: Option<PathBuf>,
    /// What to run instead of the manifest's command
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn run(args: &Run, context: &Context) -> Result<ExitCode> {
    let manifest = reload::read_manifest(&args.manifest)?;
    require_root("run")?;
    let options = RunOptions {
        run_dir: context.run_dir.path().to_owned(),
        manifest,
        manifest_path: args.manifest.clone(),
        command: (!args.command.is_empty()).then(|| args.command.clone()),
        detach: args.detach,
        log: args.log.clone(),
    };
    Ok(exit_code(supervisor::run(&options)))
}
