//! deploy config set

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use control::calls::{ConfigUpdate, Scalar};
use model::{ConfigKey, ConfigName};

use super::confirm_changed;
use crate::context::Context;
use crate::failure::Failure;
use crate::names::name;
use crate::value::{read_file, shown};

/// Set one key of a config; it is in the services' files when this returns
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy config set app.settings log_level=debug\n  \
    deploy config set app.settings motd --file motd.txt")]
pub struct Set {
    /// The config
    name: OsString,
    /// The key with its value, or the key alone with --file
    #[arg(value_name = "KEY=VALUE")]
    pair: OsString,
    /// Take the value from a file, byte for byte; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub fn set(args: &Set, context: &Context) -> Result<()> {
    let config: ConfigName = name(&args.name)?;
    let (key, value) = pair(args)?;
    let data = BTreeMap::from([(key, Scalar(value))]);
    let call = ConfigUpdate {
        name: config.clone(),
        data,
    };
    let info = context.call_about_config(&call, config.as_str())?;
    confirm_changed(&info, context)
}

fn pair(args: &Set) -> Result<(ConfigKey, String)> {
    if let Some(file) = &args.file {
        let key = name(&args.pair)?;
        let text = String::from_utf8(read_file(file)?.to_vec()).map_err(|_| {
            Failure::failed(format!("{} is not UTF-8 text, as configs are", shown(file)))
        })?;
        return Ok((key, text));
    }
    let text = args.pair.to_str().and_then(|pair| pair.split_once('='));
    let (key, value) = text.ok_or_else(|| {
        Failure::usage("expected KEY=VALUE").hint("or the key alone, with --file FILE")
    })?;
    Ok((name(key.as_ref())?, value.to_owned()))
}
