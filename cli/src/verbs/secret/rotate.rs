//! deploy secret rotate

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::{Coded, calls};
use model::SecretName;

use super::confirm_written;
use crate::context::Context;
use crate::names::name;
use crate::value::Source;

/// Make the next version of a secret that exists
///
/// The new value is in the services' files when this returns.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy secret rotate db_password\n  \
    deploy secret rotate session_key --generate 64")]
pub struct Rotate {
    /// The secret
    name: OsString,
    #[command(flatten)]
    source: Source,
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
    };
    let written = context.call_about_secrets(&call, &[name.as_str()])?;
    confirm_written(&written, context)
}
