//! deploy unseal

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use control::calls::{self, SlotKind, State, Status};
use control::{ClientError, SecretText};

use crate::context::Context;
use crate::{prompt, value};

/// Unlock the root key: by a key file, or by a passphrase that is asked for
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  deploy unseal\n  deploy unseal --passphrase-file - < /run/pass"
)]
pub struct Unseal {
    /// Take the passphrase from a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub fn unseal(args: &Unseal, context: &Context) -> Result<()> {
    let mut client = context.client()?;
    let status = client.call(&Status {})?;
    let has = |kind| status.slots.iter().any(|slot| slot.kind == kind);
    let is_open = status.state == State::Unsealed;
    let unsealed = if is_open || args.passphrase_file.is_none() && has(SlotKind::File) {
        match client.call(&calls::Unseal { passphrase: None }) {
            // The file may be on a stick that is not there: a passphrase opens as well.
            Err(ClientError::Refused(_)) if has(SlotKind::Passphrase) => {
                by_passphrase(args, context)?
            }
            answer => answer?,
        }
    } else {
        by_passphrase(args, context)?
    };
    context.confirm(&unsealed, |unsealed| {
        let mut line = if is_open {
            "unsealed already"
        } else {
            "unsealed"
        }
        .to_owned();
        line.push_str(&format!(", key generation {}", unsealed.generation));
        for warning in &unsealed.warnings {
            line.push_str(&format!("\nwarning: {warning}"));
        }
        line
    })
}

/// Over a connection of its own: secretsd does not wait for whoever looks for a passphrase.
fn by_passphrase(args: &Unseal, context: &Context) -> Result<calls::Unsealed> {
    let ask = |instead: &str| prompt::hidden("Passphrase", instead);
    let passphrase = value::passphrase(args.passphrase_file.as_deref(), ask)?;
    let passphrase = Some(SecretText::new(passphrase));
    Ok(context.call(&calls::Unseal { passphrase })?)
}
