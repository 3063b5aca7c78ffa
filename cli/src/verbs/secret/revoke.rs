//! deploy secret revoke

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls;
use model::{SecretName, ServiceName, nearest};

use super::joined;
use crate::context::Context;
use crate::failure::Failure;
use crate::names::{name, names};

/// Take secrets back from a service
///
/// When this returns, nobody in that service can read them: not by a new open, not on a file that
/// is open already, not through a mapping.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy secret revoke web db_password")]
pub struct Revoke {
    /// The service
    service: OsString,
    /// The secrets
    #[arg(required = true)]
    names: Vec<OsString>,
}

pub fn revoke(args: &Revoke, context: &Context) -> Result<()> {
    let service: ServiceName = name(&args.service)?;
    let names: Vec<SecretName> = names(&args.names)?;
    let call = calls::Revoke { service, names };
    let revoked = context.call(&call)?;
    if !revoked.revoked.is_empty() {
        context.confirm(&revoked, |revoked| {
            format!(
                "{} can read {} no more",
                call.service,
                joined(&revoked.revoked)
            )
        })?;
    }
    if revoked.not_granted.is_empty() {
        return Ok(());
    }
    // A typing error here would leave open what should be closed: it must not pass for success.
    let missing = joined(&revoked.not_granted);
    let message = format!("{} was not granted {missing}", call.service);
    Err(Failure::not_found(message)
        .hint(hint(context, &call, &revoked.not_granted))
        .into())
}

fn hint(context: &Context, call: &calls::Revoke, missing: &[SecretName]) -> String {
    let all = "see who may read it: deploy secret readers NAME".to_owned();
    let Ok(granted) = context.call(&calls::Grants::default()) else {
        return all;
    };
    let of_service = || {
        granted
            .grants
            .iter()
            .filter(|grant| grant.service == call.service)
    };
    let near = if of_service().next().is_some() {
        let names = || of_service().map(|grant| grant.secret.as_str());
        missing
            .iter()
            .find_map(|name| nearest(name.as_str(), names()))
    } else {
        nearest(
            call.service.as_str(),
            granted.grants.iter().map(|grant| grant.service.as_str()),
        )
    };
    near.map_or(all, |near| format!("did you mean `{near}`?"))
}
