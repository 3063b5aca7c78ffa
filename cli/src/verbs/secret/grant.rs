//! deploy secret grant

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls;
use model::{Pins, SecretName, ServiceName};

use super::joined;
use crate::context::Context;
use crate::names::{name, names};

/// Let a service read secrets
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy secret grant web db_password tls")]
pub struct Grant {
    /// The service
    service: OsString,
    /// The secrets
    #[arg(required = true)]
    names: Vec<OsString>,
}

pub fn grant(args: &Grant, context: &Context) -> Result<()> {
    let service: ServiceName = name(&args.service)?;
    let names: Vec<SecretName> = names(&args.names)?;
    let call = calls::Grant {
        service,
        names,
        until: None,
        pins: Pins::default(),
    };
    let asked: Vec<&str> = call.names.iter().map(SecretName::as_str).collect();
    let done = context.call_about_secrets(&call, &asked)?;
    context.confirm(&done, |_| {
        format!("{} may read {}", call.service, joined(&call.names))
    })
}
