//! deploy backup verify

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use control::calls::BackupContents;

use super::{facts_of, progress};
use crate::context::{Context, require_root};
use crate::offline::{self, Opening};
use crate::table::facts;
use crate::verbs::exit_code;

/// Read a backup to its end, and open each of its records; needs no running secretsd, and writes nothing
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy backup verify secrets.age\n  \
    deploy backup verify secrets.age --identity /media/stick/backup.key")]
pub struct Verify {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    opening: Opening,
}

pub fn verify(args: &Verify, context: &Context) -> Result<ExitCode> {
    require_root("backup verify")?;
    let mut file = offline::open(&args.file)?;
    let opener = args.opening.key(&args.file)?;
    let bar = progress(context, "reading the backup");
    let words = vec!["backup-verify".into()];
    let contents: BackupContents = match opener.run(words, &mut file, &bar)? {
        Ok(contents) => contents,
        Err(code) => return Ok(exit_code(code)),
    };
    context.show(&contents, |contents| facts(facts_of(contents)))?;
    Ok(ExitCode::SUCCESS)
}
