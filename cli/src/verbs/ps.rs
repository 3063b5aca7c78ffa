//! deploy ps

use anyhow::{Context as _, Result};
use clap::Args;
use injector::supervisor::{self, Supervised};

use crate::context::{Context, require_root};
use crate::table::table;

/// List services that run
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy ps\n  deploy ps --json")]
pub struct Ps {}

pub fn ps(_: &Ps, context: &Context) -> Result<()> {
    require_root("ps")?;
    let running = list(context)?;
    context.show(&running, |running| {
        let dash = || "-".to_owned();
        table(
            [
                "SERVICE",
                "INSTANCE",
                "PID",
                "USER",
                "RESTARTS",
                "SUPERVISOR",
                "MANIFEST",
            ],
            running.iter().map(|one| {
                let of = |what: fn(&control::inner::InstanceRecord) -> String| {
                    one.instance.as_ref().map_or_else(dash, what)
                };
                [
                    one.service.to_string(),
                    of(|instance| instance.number.to_string()),
                    of(|instance| instance.pid.to_string()),
                    of(|instance| instance.uid.to_string()),
                    one.restarts.to_string(),
                    format!(
                        "{}{}",
                        one.supervisor,
                        if one.detached { " detached" } else { "" }
                    ),
                    one.manifest.display().to_string(),
                ]
            }),
        )
    })
}

/// All services that run.
pub fn list(context: &Context) -> Result<Vec<Supervised>> {
    let folder = context.run_dir.path();
    supervisor::ps(folder).with_context(|| format!("cannot read {}", folder.display()))
}
