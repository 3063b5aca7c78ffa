//! deploy stop

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args;
use injector::supervisor;
use model::{ServiceName, nearest};

use super::ps;
use crate::context::{Context, require_root};
use crate::failure::Failure;
use crate::names::name;

/// Stop a service: SIGTERM, and SIGKILL after ten seconds
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy stop web")]
pub struct Stop {
    /// The service
    service: OsString,
}

pub fn stop(args: &Stop, context: &Context) -> Result<()> {
    let service: ServiceName = name(&args.service)?;
    require_root("stop")?;
    let folder = context.run_dir.path();
    let stopped = supervisor::stop(folder, &service)
        .with_context(|| format!("cannot stop {service} in {}", folder.display()))?;
    if stopped == 0 {
        let running = ps::list(context)?;
        let names = running.iter().map(|one| one.service.as_str());
        let hint = match nearest(service.as_str(), names) {
            Some(near) => format!("did you mean `{near}`? see all: deploy ps"),
            None => "see what runs: deploy ps".to_owned(),
        };
        let message = format!("no service {service} runs");
        return Err(Failure::not_found(message).hint(hint).into());
    }
    let done = serde_json::json!({ "service": service, "stopped": stopped });
    context.confirm(&done, |_| match stopped {
        1 => format!("{service} is stopped"),
        several => format!("{several} of {service} are stopped"),
    })
}
