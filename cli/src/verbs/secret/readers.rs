//! deploy secret readers

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls::{self, Reader, ReaderInstance};
use model::SecretName;

use crate::context::Context;
use crate::names::name;
use crate::table::table;
use crate::times;

/// List the services that may read a secret, and what their instances have read of it
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
        let rows = found.services.iter().flat_map(|reader| {
            let without = reader.instances.is_empty().then(|| row(reader, None));
            let each = reader.instances.iter().map(|one| row(reader, Some(one)));
            without.into_iter().chain(each)
        });
        table(
            [
                "SERVICE",
                "ENDS IN",
                "ONLY AS",
                "INSTANCE",
                "VERSION",
                "SINCE",
                "LAST OPEN",
                "STILL HOLDS",
            ],
            rows,
        )
    })
}

fn row(reader: &Reader, one: Option<&ReaderInstance>) -> [String; 8] {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    [
        reader.service.to_string(),
        text(reader.left.map(ends_in)),
        text(Some(reader.pins.to_string()).filter(|pins| !pins.is_empty())),
        text(one.map(|one| one.instance.to_string())),
        text(one.and_then(|one| one.version).map(|one| one.to_string())),
        text(one.and_then(|one| one.since).map(|one| one.to_string())),
        text(one.and_then(|one| one.last).map(|one| one.to_string())),
        text(
            one.map(|one| numbers(&one.holds))
                .filter(|text| !text.is_empty()),
        ),
    ]
}

fn ends_in(left: u64) -> String {
    match left {
        0 => "ended".to_owned(),
        left => times::shown(left),
    }
}

fn numbers(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(", ")
}

/// A reader on one line.
pub fn describe(reader: &Reader) -> String {
    let mut text = reader.service.to_string();
    if let Some(until) = reader.until {
        text.push_str(&format!(" until {until}"));
    }
    if !reader.pins.is_empty() {
        text.push_str(&format!(", only as {}", reader.pins));
    }
    if !reader.instances.is_empty() {
        let all: Vec<u32> = reader.instances.iter().map(|one| one.instance).collect();
        text.push_str(&format!(", in instance {}", numbers(&all)));
    }
    text
}
