//! deploy secret get

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use anyhow::Result;
use clap::Args;
use control::{Encoding, Plain, calls};
use model::{FieldName, SecretName};

use super::joined;
use crate::context::{Context, print_bytes};
use crate::failure::Failure;
use crate::names::name;

/// Print a secret's value: to a pipe or a file as it is, to a terminal only with --show
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy secret get db_password | psql-login\n  \
    deploy secret get tls --field key.pem > key.pem\n  \
    deploy secret get db_password --version 3 --show")]
pub struct Get {
    /// The secret
    name: OsString,
    /// One field of it
    #[arg(long)]
    field: Option<OsString>,
    /// An older version [default: the newest]
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// Print to a terminal too
    #[arg(long)]
    show: bool,
}

pub fn get(args: &Get, context: &Context) -> Result<()> {
    let secret: SecretName = name(&args.name)?;
    let field: Option<FieldName> = args.field.as_deref().map(name).transpose()?;
    let on_terminal = io::stdout().is_terminal();
    if on_terminal && !args.show {
        return Err(Failure::usage("the value would be seen on this terminal")
            .hint("pass it on with a pipe or a file, or show it with --show")
            .into());
    }
    let call = calls::Get {
        name: secret.clone(),
        version: args.version,
        field,
        encoding: Some(Encoding::Base64),
    };
    let got = context.call_about_secrets(&call, &[secret.as_str()])?;
    let plain = got.plain()?;
    if context.json {
        // As text where that is possible, for people and programs alike.
        let coded = plain
            .encode(None)
            .or_else(|_| plain.encode(Some(Encoding::Base64)))?;
        let got = calls::Got::new(got.name, got.version, got.created, coded);
        return context.show(&got, |_| String::new());
    }
    match plain {
        Plain::Single(bytes) => {
            print_bytes(&bytes)?;
            if on_terminal && bytes.last() != Some(&b'\n') {
                print_bytes(b"\n")?;
            }
            Ok(())
        }
        Plain::Fields(fields) => {
            let names: Vec<&FieldName> = fields.keys().collect();
            let message = format!("{secret} has the fields {}", joined(&names));
            Err(Failure::usage(message)
                .hint("name one with --field, or take all with --json")
                .into())
        }
    }
}
