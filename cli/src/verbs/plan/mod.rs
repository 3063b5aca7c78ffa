//! deploy plan: what a start would find, without starting anything.

mod decide;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use control::calls::{ConfigGet, Grants, List, State, Status};
use control::{Client, ClientError, ErrorKind};
use injector::supervisor::{preview, uid_of};
use model::{ConfigKey, ConfigName, Manifest};

use self::decide::{Facts, decide};
use super::{exit_code, reload};
use crate::context::Context;

/// Show what a service would see, from which version, and what is missing
///
/// Changes nothing. Ends with 0 if `deploy run` would start the service as far as can be seen from
/// here; else as that would: 3 if a grant is missing, 5 if the store is sealed, 1 for the rest.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy plan web.yaml\n  deploy plan web.yaml --json")]
pub struct Plan {
    /// The manifest
    manifest: PathBuf,
}

pub fn plan(args: &Plan, context: &Context) -> Result<ExitCode> {
    let manifest = reload::read_manifest(&args.manifest)?;
    let facts = facts(&manifest, &mut context.client()?)?;
    let plan = decide(&manifest, &facts);
    context.show(&plan, text::text)?;
    Ok(exit_code(plan.exit_code()))
}

fn facts(manifest: &Manifest, client: &mut Client) -> Result<Facts> {
    let host = preview(manifest);
    let mut facts = Facts {
        user: host.user,
        host_problems: host.problems,
        ..Facts::default()
    };
    if client.call(&Status {})?.state == State::Sealed {
        facts.sealed = true;
        return Ok(facts);
    }
    let listed = client.call(&List::default())?.secrets;
    facts.secrets = listed
        .into_iter()
        .map(|one| (one.name.clone(), one))
        .collect();
    let asked = Grants {
        service: Some(manifest.service.clone()),
    };
    for grant in client.call(&asked)?.grants {
        if let Some(user) = &grant.pins.user {
            facts
                .users
                .insert(user.clone(), uid_of(user).ok().flatten());
        }
        facts.grants.insert(grant.secret.clone(), grant);
    }
    for name in &manifest.config_from {
        facts.configs.insert(name.clone(), keys(client, name)?);
    }
    Ok(facts)
}

/// The keys of a stored config; `None`: there is none of that name.
fn keys(client: &mut Client, name: &ConfigName) -> Result<Option<Vec<ConfigKey>>> {
    match client.call(&ConfigGet { name: name.clone() }) {
        Ok(config) => {
            let data: BTreeMap<ConfigKey, _> = config.data;
            Ok(Some(data.into_keys().collect()))
        }
        Err(ClientError::Refused(error)) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
