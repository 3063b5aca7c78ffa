//! deploy secret rotate

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use control::Coded;
use control::calls::{self, Adoption, Written};
use model::SecretName;
use serde::Serialize;

use super::{confirm_written, shown, warn_of_late};
use crate::context::Context;
use crate::failure::Failure;
use crate::names::name;
use crate::times;
use crate::value::Source;

/// Make the next version of a secret that exists
///
/// The new value is in the services' files when this returns.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy secret rotate db_password\n  \
    deploy secret rotate session_key --generate 64\n  \
    deploy secret rotate db_password --grace 1h --wait 30s")]
pub struct Rotate {
    /// The secret
    name: OsString,
    #[command(flatten)]
    source: Source,
    /// Keep the version before readable as .previous/NAME for this time, such as 1h
    #[arg(long, value_name = "DURATION", value_parser = times::duration)]
    grace: Option<Duration>,
    /// Wait, at most this long, until all running readers have opened the new version
    #[arg(long, value_name = "DURATION", value_parser = times::duration)]
    wait: Option<Duration>,
}

pub fn rotate(args: &Rotate, context: &Context) -> Result<()> {
    let name: SecretName = name(&args.name)?;
    // Nobody is asked for a value that could not be kept.
    drop(context.client()?);
    let Coded {
        value,
        data,
        encoding,
    } = args.source.read(name.as_str())?.coded();
    let call = calls::Rotate {
        name: name.clone(),
        value,
        data,
        encoding,
        grace: args.grace.map(|grace| grace.as_secs()),
    };
    let written = context.call_about_secrets(&call, &[name.as_str()])?;
    let Some(wait) = args.wait else {
        return confirm_written(&written, context);
    };
    let adoption = context.call(&calls::Adopted {
        name: name.clone(),
        version: written.version,
        wait: wait.as_secs(),
    })?;
    let rotated = Rotated {
        written: &written,
        adoption: &adoption,
    };
    context.confirm(&rotated, |_| {
        let (version, adopted) = (written.version, adoption.adopted);
        format!("{name}: version {version}, opened by {adopted} running instances")
    })?;
    warn_of_late(&written.late);
    if adoption.behind.is_empty() {
        return Ok(());
    }
    let behind = shown(&adoption.behind);
    Err(
        Failure::failed(format!("{name} is rotated, but not opened yet by {behind}"))
            .hint(format!("see who reads what: deploy secret readers {name}"))
            .into(),
    )
}

/// With --wait: the version, and how far it came.
#[derive(Serialize)]
struct Rotated<'a> {
    #[serde(flatten)]
    written: &'a Written,
    adoption: &'a Adoption,
}
