//! deploy backup FILE

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use control::SecretText;
use control::calls::{BackupMade, BackupMake};
use rustix::fs::{Advice, fadvise};
use sha2::{Digest, Sha256};

use super::progress;
use crate::context::Context;
use crate::failure::Failure;
use crate::unnamed::Unnamed;
use crate::value::shown;
use crate::{prompt, value};

/// Who can open it.
#[derive(Debug, Args)]
#[group(id = "to", required = true, multiple = true)]
pub struct Make {
    /// Public half (age1…) of whoever may open it; give it several times for several of them
    #[arg(long, short, value_name = "RECIPIENT")]
    recipient: Vec<String>,
    /// The same from a file, one a line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    recipients_file: Option<PathBuf>,
    /// Under a passphrase, asked for twice
    #[arg(long, conflicts_with_all = ["recipient", "recipients_file"])]
    passphrase: bool,
    /// Under a passphrase from a file; `-` is standard input
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["recipient", "recipients_file", "passphrase"])]
    passphrase_file: Option<PathBuf>,
    /// Replace a file that is there, once the new one is whole
    #[arg(long, requires = "to")]
    force: bool,
}

pub fn make(args: &Make, path: &Path, context: &Context) -> Result<()> {
    // Before anything is asked for.
    if !args.force && path.symlink_metadata().is_ok() {
        return Err(is_there(path).into());
    }
    let asked = asked(args)?;
    let cannot = || format!("cannot write {}", path.display());
    let mut unnamed = Unnamed::create(path).with_context(cannot)?;
    let bar = progress(context, "writing the backup");
    let last = context.client()?.call_each(&asked, |part| {
        bar.set_length(part.total);
        bar.set_position(part.done);
        let bytes = part.data.map(|data| data.0).unwrap_or_default();
        unnamed.file.write_all(&bytes).with_context(cannot)
    });
    bar.finish_and_clear();
    let last: control::calls::BackupPart = last?;
    let nothing = || Failure::failed("secretsd gave an answer without a backup");
    let made = last.made.ok_or_else(nothing)?;
    unnamed.file.sync_all().with_context(cannot)?;
    read_back(&mut unnamed, &made)?;
    match unnamed.place(args.force) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(is_there(path).into());
        }
        placed => placed.with_context(cannot)?,
    }
    let report = serde_json::json!({
        "file": path, "bytes": made.bytes, "sha256": made.sha256, "contents": made.contents,
    });
    context.confirm(&report, |_| {
        let contents = &made.contents;
        let warnings = contents.warnings.iter();
        let warnings: String = warnings.map(|one| format!("\nwarning: {one}")).collect();
        format!(
            "{}: version {} of the store, {} secrets, {} grants, {} configs; {} bytes, read back{warnings}",
            path.display(),
            contents.version,
            contents.secrets,
            contents.grants,
            contents.configs,
            made.bytes
        )
    })
}

fn is_there(path: &Path) -> Failure {
    Failure::conflict(format!("{} is there already", path.display()))
        .hint("name another file, or replace it: --force")
}

fn asked(args: &Make) -> Result<BackupMake> {
    if args.passphrase || args.passphrase_file.is_some() {
        let ask = |instead: &str| prompt::hidden_twice("Passphrase of the backup", instead);
        let passphrase = value::passphrase(args.passphrase_file.as_deref(), ask)?;
        return Ok(BackupMake {
            recipients: Vec::new(),
            passphrase: Some(SecretText::new(passphrase)),
        });
    }
    let mut recipients = args.recipient.clone();
    if let Some(file) = &args.recipients_file {
        let bytes = value::read_file(file)?;
        let no_text = || Failure::failed(format!("{} is no text", shown(file)));
        let text = std::str::from_utf8(&bytes).map_err(|_| no_text())?;
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        recipients.extend(lines.map(str::to_owned));
    }
    Ok(BackupMake {
        recipients,
        passphrase: None,
    })
}

/// What is on the disk is what secretsd made, and has read again while it made it.
fn read_back(unnamed: &mut Unnamed, made: &BackupMade) -> Result<()> {
    let file = &mut unnamed.file;
    // From the disk, and not from what the kernel still has of it.
    fadvise(&*file, 0, None, Advice::DontNeed)?;
    file.rewind()?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut piece = vec![0; 1 << 16];
    loop {
        let count = file
            .read(&mut piece)
            .context("cannot read the backup back")?;
        if count == 0 {
            break;
        }
        hash.update(&piece[..count]);
        bytes += count as u64;
    }
    let digest = hash.finalize();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    if bytes == made.bytes && digest == made.sha256 {
        return Ok(());
    }
    let what = "what was read back is not what was written, and was removed";
    Err(Failure::failed(what)
        .hint("check the disk, or write to another one")
        .into())
}
