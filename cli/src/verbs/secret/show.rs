//! deploy secret show

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use control::calls::{self, ReadersFound, SecretInfo};
use control::{ClientError, ControlError};
use model::{SecretName, nearest};
use serde::Serialize;

use super::{joined, readers};
use crate::context::Context;
use crate::names::name;
use crate::table::facts;

/// Show what is known of a secret, without its value
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy secret show db_password")]
pub struct Show {
    /// The secret
    name: OsString,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    secret: SecretInfo,
    services: Vec<calls::Reader>,
}

pub fn show(args: &Show, context: &Context) -> Result<()> {
    let name: SecretName = name(&args.name)?;
    let mut client = context.client()?;
    let mut listed = client.call(&calls::List::default())?.secrets;
    let Some(at) = listed.iter().position(|secret| secret.name == name) else {
        let names = listed.iter().map(|secret| secret.name.as_str());
        let hint = match nearest(name.as_str(), names) {
            Some(near) => format!("did you mean `{near}`? see all: deploy secret list"),
            None => "see all: deploy secret list".to_owned(),
        };
        let error = ControlError::not_found(format!("there is no secret `{name}`")).hint(hint);
        return Err(ClientError::from(error).into());
    };
    let ReadersFound { services, .. } = client.call(&calls::Readers { name })?;
    let shown = Shown {
        secret: listed.swap_remove(at),
        services,
    };
    context.show(&shown, text)
}

fn text(shown: &Shown) -> String {
    let secret = &shown.secret;
    let mut rows = vec![
        ("name", secret.name.to_string()),
        ("version", secret.version.to_string()),
        ("created", secret.created.to_string()),
        (
            "versions",
            format!("{} in reach, at most {}", secret.versions, secret.keep),
        ),
    ];
    if !secret.fields.is_empty() {
        rows.push(("fields", joined(&secret.fields)));
    }
    if shown.services.is_empty() {
        rows.push((
            "readers",
            format!("nobody; deploy secret grant SERVICE {}", secret.name),
        ));
    }
    rows.extend(
        shown
            .services
            .iter()
            .map(|reader| ("reader", readers::describe(reader))),
    );
    facts(rows)
}
