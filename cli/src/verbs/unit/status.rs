//! deploy unit status

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use control::inner::{InstanceRecord, Link, Origin, Reply, ToInjector};
use injector::unit::drop_in;
use serde::Serialize;

use super::{Place, unit_name};
use crate::context::Context;
use crate::failure::Failure;
use crate::table::table;

/// Units that are enabled, and the instances that they have
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy unit status\n  deploy unit status nginx.service")]
pub struct Status {
    /// This one alone
    #[arg(value_parser = unit_name)]
    unit: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Serialize)]
struct Enabled {
    unit: String,
    manifest: Option<PathBuf>,
    /// What is wrong with the drop-in or the manifest.
    wrong: Option<String>,
    /// Those that run.
    instances: Vec<Running>,
}

#[derive(Debug, Serialize)]
struct Running {
    unit: String,
    instance: u32,
}

pub fn status(args: &Status, context: &Context) -> Result<()> {
    let mut enabled = all(&args.place.system_dir, &instances(context))?;
    if let Some(unit) = &args.unit {
        let template = drop_in::template_of(unit);
        enabled.retain(|one| one.unit == *unit || Some(&one.unit) == template.as_ref());
        if enabled.is_empty() {
            return Err(Failure::not_found(format!("{unit} is not enabled"))
                .hint(format!("deploy unit enable {unit} --manifest FILE"))
                .into());
        }
    }
    context.show(&enabled, |enabled| {
        table(
            ["UNIT", "INSTANCES", "MANIFEST"],
            enabled.iter().map(|one| {
                let running = one.instances.iter();
                let running: Vec<_> = running
                    .map(|running| format!("{} ({})", running.instance, running.unit))
                    .collect();
                [
                    one.unit.clone(),
                    match running.is_empty() {
                        true => "-".to_owned(),
                        false => running.join(", "),
                    },
                    match (&one.wrong, &one.manifest) {
                        (Some(wrong), _) => wrong.clone(),
                        (None, Some(manifest)) => manifest.display().to_string(),
                        (None, None) => "-".to_owned(),
                    },
                ]
            }),
        )
    })
}

/// Of units; none if the injector does not answer.
fn instances(context: &Context) -> Vec<InstanceRecord> {
    let link = Link::connect(&context.run_dir.inject_socket());
    let asked = link
        .ok()
        .and_then(|link| link.request(&ToInjector::Instances, &[]).ok());
    match asked {
        Some((Reply::Instances { mut instances }, _)) => {
            instances.retain(|one| matches!(one.origin, Origin::Unit { .. }));
            instances
        }
        _ => Vec::new(),
    }
}

fn all(system: &Path, instances: &[InstanceRecord]) -> Result<Vec<Enabled>> {
    let mut enabled = Vec::new();
    let folders =
        std::fs::read_dir(system).with_context(|| format!("cannot read {}", system.display()))?;
    for folder in folders.flatten() {
        let name = folder.file_name();
        let Some(unit) = name.to_str().and_then(|name| name.strip_suffix(".d")) else {
            continue;
        };
        if !drop_in::place(system, unit).exists() {
            continue;
        }
        let found = drop_in::find(system, unit);
        let manifest = found
            .as_ref()
            .ok()
            .map(|(_, drop_in)| drop_in.manifest.clone());
        let checked = found.and_then(|(_, one)| drop_in::manifest(&one.manifest).map(drop));
        let is_its = |one: &&InstanceRecord| {
            let of = one.unit.as_deref().unwrap_or_default();
            of == unit || drop_in::template_of(of).as_deref() == Some(unit)
        };
        enabled.push(Enabled {
            unit: unit.to_owned(),
            manifest,
            wrong: checked.err().map(|error| error.to_string()),
            instances: instances
                .iter()
                .filter(is_its)
                .map(|one| Running {
                    unit: one.unit.clone().unwrap_or_default(),
                    instance: one.number,
                })
                .collect(),
        });
    }
    enabled.sort_by(|one, other| one.unit.cmp(&other.unit));
    Ok(enabled)
}
