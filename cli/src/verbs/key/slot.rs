//! deploy key slot

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use control::SecretText;
use control::calls::{Argon2, SlotAdd, SlotInfo, SlotKind, SlotList, SlotRemove};

use super::progress;
use crate::context::Context;
use crate::table::table;
use crate::verbs::status::describe;
use crate::{prompt, value};

/// Add, list and remove ways to unlock the root key
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  deploy key slot add --passphrase --label office\n  \
    deploy key slot list\n  deploy key slot remove 1"
)]
pub struct Slot {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Add a key slot
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy key slot add --passphrase --label office\n  \
    deploy key slot add --key-file /media/stick/deploy.key")]
struct Add {
    #[command(flatten)]
    holder: Holder,
    /// Your words for it
    #[arg(long, default_value = "")]
    label: String,
    /// Memory of Argon2id in MiB
    #[arg(
        long,
        value_name = "MIB",
        conflicts_with = "key_file",
        requires = "argon2_passes"
    )]
    argon2_memory: Option<u32>,
    /// Passes of Argon2id
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "key_file",
        requires = "argon2_memory"
    )]
    argon2_passes: Option<u32>,
}

/// What holds the slot's private half.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Holder {
    /// A passphrase, asked for twice
    #[arg(long)]
    passphrase: bool,
    /// A passphrase from a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// A key file, which secretsd writes there and reads by itself
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// List key slots
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy key slot list")]
struct List {}

/// Remove a key slot: it opens no later generation of the root key
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy key slot list\n  deploy key slot remove 1")]
struct Remove {
    /// Its number
    id: u32,
}

pub fn slot(args: &Slot, context: &Context) -> Result<()> {
    match &args.verb {
        Verb::Add(args) => add(args, context),
        Verb::List(args) => list(args, context),
        Verb::Remove(args) => remove(args, context),
    }
}

/// Lanes of Argon2id: as RFC 9106 has them.
const LANES: u32 = 4;

fn add(args: &Add, context: &Context) -> Result<()> {
    let (kind, passphrase) = if args.holder.key_file.is_some() {
        (SlotKind::File, None)
    } else {
        let ask = |instead: &str| prompt::hidden_twice("New passphrase", instead);
        let passphrase = value::passphrase(args.holder.passphrase_file.as_deref(), ask)?;
        (SlotKind::Passphrase, Some(SecretText::new(passphrase)))
    };
    let argon2 = args
        .argon2_memory
        .zip(args.argon2_passes)
        .map(|(mib, passes)| Argon2 {
            memory_kib: mib.saturating_mul(1024),
            passes,
            lanes: LANES,
        });
    let path = args
        .holder
        .key_file
        .as_ref()
        .map(std::path::absolute)
        .transpose()?;
    let added = context.call(&SlotAdd {
        kind,
        passphrase,
        path,
        label: args.label.clone(),
        argon2,
    })?;
    context.confirm(&added, |slot| format!("key slot {}", describe(slot)))
}

fn list(_: &List, context: &Context) -> Result<()> {
    let slots = context.call(&SlotList {})?;
    context.show(&slots, |slots| {
        let row = |slot: &SlotInfo| {
            let kind = match slot.kind {
                SlotKind::File => "file",
                SlotKind::Passphrase => "passphrase",
            };
            let path = slot.path.as_ref().map(|path| path.display().to_string());
            [
                slot.id.to_string(),
                kind.to_owned(),
                slot.label.clone(),
                path.unwrap_or_default(),
                slot.recipient.clone(),
            ]
        };
        table(
            ["ID", "KIND", "LABEL", "FILE", "PUBLIC HALF"],
            slots.slots.iter().map(row),
        )
    })
}

fn remove(args: &Remove, context: &Context) -> Result<()> {
    // The root key is replaced, so that the slot's old one opens nothing that comes.
    let bar = progress(context, "sealing records anew");
    let removed = context.call(&SlotRemove { id: args.id });
    bar.finish_and_clear();
    context.confirm(&removed?, |_| format!("key slot {} is removed", args.id))
}
