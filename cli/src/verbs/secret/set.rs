//! deploy secret set

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::{Coded, calls};
use model::SecretName;

use super::confirm_written;
use crate::context::Context;
use crate::names::name;
use crate::value::Source;

/// Make a secret, or its next version
///
/// Without a source the value is asked for twice, without echo. It is never an argument.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy secret set db_password\n  \
    deploy secret set api_key --file key.txt\n  \
    pass show api | deploy secret set api_key --file -\n  \
    deploy secret set session_key --generate 64\n  \
    deploy secret set db --from-json db.json\n  \
    deploy secret set tls --field cert.pem=web.crt --field key.pem=web.key")]
pub struct Set {
    /// The secret
    name: OsString,
    #[command(flatten)]
    source: Source,
    /// How many versions stay in reach; 0 takes old ones back from whoever has them open
    /// [default: as before, 10 at first]
    #[arg(long, value_name = "N")]
    keep: Option<u32>,
    /// Let one value become fields, or fields one value
    #[arg(long)]
    reshape: bool,
}

pub fn set(args: &Set, context: &Context) -> Result<()> {
    let name: SecretName = name(&args.name)?;
    // Nobody is asked for a value that could not be kept.
    drop(context.client()?);
    let Coded {
        value,
        data,
        encoding,
    } = args.source.read(name.as_str())?.coded();
    let (keep, reshape) = (args.keep, args.reshape);
    let written = context.call(&calls::Set {
        name,
        value,
        data,
        encoding,
        keep,
        reshape,
    })?;
    confirm_written(&written, context)
}
