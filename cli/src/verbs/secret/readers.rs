//! deploy secret readers

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls::{self, Reader};
use model::SecretName;

use crate::context::Context;
use crate::names::name;
use crate::table::table;

/// List the services that may read a secret, and their instances that have it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy secret readers db_password")]
pub struct Readers {
    /// The secret
    name: OsString,
}

pub fn readers(args: &Readers, context: &Context) -> Result<()> {
    let name: SecretName = name(&args.name)?;
    let call = calls::Readers { name: name.clone() };
    let found = context.call_about_secrets(&call, &[name.as_str()])?;
    context.show(&found, |found| {
        table(
            ["SERVICE", "UNTIL", "INSTANCES"],
            found.services.iter().map(|reader| {
                let until = reader
                    .until
                    .map_or("-".to_owned(), |until| until.to_string());
                [reader.service.to_string(), until, instances(reader)]
            }),
        )
    })
}

fn instances(reader: &Reader) -> String {
    let numbers: Vec<String> = reader.instances.iter().map(u32::to_string).collect();
    numbers.join(", ")
}

/// A reader on one line.
pub fn describe(reader: &Reader) -> String {
    let mut text = reader.service.to_string();
    if let Some(until) = reader.until {
        text.push_str(&format!(" until {until}"));
    }
    if !reader.instances.is_empty() {
        text.push_str(&format!(", in instance {}", instances(reader)));
    }
    text
}
