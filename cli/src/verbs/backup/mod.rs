//! deploy backup

mod make;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use control::calls::BackupContents;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::Context;
use crate::failure::Failure;

/// Write all of the store at one moment into a file, encrypted to recipients of its own
///
/// Services and operators go on meanwhile. The file is an age file (age-encryption.org): whoever has
/// the private half of a recipient, or the passphrase, can restore it on any machine, and read every
/// secret in it. It gets its name once it was read back from the disk. The audit log is not in it.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  \
    deploy backup /media/stick/secrets.age --recipient age1t7rx...svpy7pa\n  \
    deploy backup nightly.age --recipients-file /etc/deploy/backup.pub --force\n  \
    deploy backup secrets.age --passphrase\n  \
    deploy backup verify secrets.age"
)]
pub struct Backup {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Where it goes; a file that is there is not replaced
    #[arg(value_name = "FILE", required = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    make: make::Make,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Verify(verify::Verify),
}

pub fn backup(args: &Backup, context: &Context) -> Result<ExitCode> {
    match (&args.verb, &args.file) {
        (Some(Verb::Verify(args)), _) => verify::verify(args, context),
        (None, Some(file)) => make::make(&args.make, file, context).map(|()| ExitCode::SUCCESS),
        (None, None) => Err(Failure::usage("no file is named for the backup").into()),
    }
}

/// A bar on a terminal; nothing elsewhere.
pub fn progress(context: &Context, what: &'static str) -> ProgressBar {
    let target = if context.shows_progress() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(0), target).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// What a backup holds, as facts for people.
pub fn facts_of(contents: &BackupContents) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("store", contents.store.clone()),
        ("version", contents.version.clone()),
        ("made", contents.made.to_string()),
        (
            "secrets",
            format!("{} in {} versions", contents.secrets, contents.versions),
        ),
        ("grants", contents.grants.to_string()),
        ("configs", contents.configs.to_string()),
        ("key slots", contents.slots.len().to_string()),
    ];
    rows.extend(contents.anchor.iter().map(|one| ("anchor", one.clone())));
    let warnings = contents.warnings.iter();
    rows.extend(warnings.map(|warning| ("warning", warning.clone())));
    rows
}
