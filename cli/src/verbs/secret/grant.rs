//! deploy secret grant

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use control::calls;
use model::{Pins, SecretName, ServiceName, Timestamp};

use super::joined;
use crate::context::Context;
use crate::names::{name, names};
use crate::times;

/// Let a service read secrets
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy secret grant web db_password tls\n  \
    deploy secret grant backup db_password --ttl 8h")]
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
}

pub fn grant(args: &Grant, context: &Context) -> Result<()> {
    let service: ServiceName = name(&args.service)?;
    let names: Vec<SecretName> = names(&args.names)?;
    let call = calls::Grant {
        service,
        names,
        until: args.until,
        ttl: args.ttl.map(|ttl| ttl.as_secs()),
        pins: Pins::default(),
    };
    let asked: Vec<&str> = call.names.iter().map(SecretName::as_str).collect();
    let done = context.call_about_secrets(&call, &asked)?;
    context.confirm(&done, |_| {
        let end = match (args.ttl, args.until) {
            (Some(ttl), _) => format!(" for {}", times::shown(ttl.as_secs())),
            (None, Some(until)) => format!(" until {until}"),
            (None, None) => String::new(),
        };
        format!("{} may read {}{end}", call.service, joined(&call.names))
    })
}
