//! deploy secret grant

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use control::calls;
use model::{Pins, SecretName, ServiceName, Timestamp};

use super::joined;
use crate::context::Context;
use crate::failure::Failure;
use crate::names::{name, names};
use crate::times;

/// Let a service read secrets
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy secret grant web db_password tls\n  \
    deploy secret grant backup db_password --ttl 8h\n  \
    deploy secret grant web tls --unit nginx.service --user www-data")]
pub struct Grant {
    /// The service
    service: OsString,
    /// The secrets
    #[arg(required = true)]
    names: Vec<OsString>,
    /// End the grant after this time, such as 8h or 7d; setting the clock back changes nothing
    #[arg(long, value_name = "DURATION", value_parser = times::duration)]
    ttl: Option<Duration>,
    /// End the grant at this time, such as 2026-12-01T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = times::time, conflicts_with = "ttl")]
    until: Option<Timestamp>,
    /// Only if the service's process runs as this user: a login name or a number
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only if it runs in this systemd unit, by its cgroup
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Only if its container was made of this image, such as sha256:...
    #[arg(long, value_name = "DIGEST")]
    image: Option<String>,
}

pub fn grant(args: &Grant, context: &Context) -> Result<()> {
    let service: ServiceName = name(&args.service)?;
    let names: Vec<SecretName> = names(&args.names)?;
    let pins = Pins {
        user: args.user.clone(),
        unit: args.unit.clone(),
        image: args.image.clone(),
    };
    pins.check()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let call = calls::Grant {
        service,
        names,
        until: args.until,
        ttl: args.ttl.map(|ttl| ttl.as_secs()),
        pins,
    };
    let asked: Vec<&str> = call.names.iter().map(SecretName::as_str).collect();
    let done = context.call_about_secrets(&call, &asked)?;
    context.confirm(&done, |_| {
        let end = match (args.ttl, args.until) {
            (Some(ttl), _) => format!(" for {}", times::shown(ttl.as_secs())),
            (None, Some(until)) => format!(" until {until}"),
            (None, None) => String::new(),
        };
        let only = match call.pins.is_empty() {
            true => String::new(),
            false => format!(", only as {}", call.pins),
        };
        format!(
            "{} may read {}{end}{only}",
            call.service,
            joined(&call.names)
        )
    })
}
