//! deploy restore

mod place;
mod which;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use control::calls::RestoreReport;

use self::place::Places;
use self::which::At;
use super::backup::{facts_of, progress};
use super::exit_code;
use crate::arguments::StateDir;
use crate::context::{Context, require_root};
use crate::failure::Failure;
use crate::offline::{self, Opening};
use crate::systemd;
use crate::table::facts;

/// Make the store of a backup the one in the state folder
///
/// secretsd must not run. The backup is restored beside the state folder and checked there in full;
/// only then the two change places. What was there is moved aside and never deleted. If it can be read,
/// it is compared with the backup: what an older backup would bring back (grants, key slots, versions)
/// and what would be lost is listed, and nothing changes without --accept.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy restore secrets.age --identity /media/stick/backup.key\n  \
    deploy restore secrets.age --accept\n  \
    deploy restore /media/stick --at 3.1234 --identity backup.key\n  \
    deploy restore /media/stick --at 2026-12-01T08:00:00Z --identity backup.key")]
pub struct Restore {
    /// The backup; or a folder of backups, of which the newest is taken, or that of --at
    file: PathBuf,
    /// Of which moment: the version that a backup names, GENERATION.TRANSACTION; or a time, for the
    /// newest one that was made until then. A backup is of one moment and holds no other
    #[arg(long, value_name = "VERSION|TIME", value_parser = which::at)]
    at: Option<At>,
    #[command(flatten)]
    store: StateDir,
    /// Restore although what was listed comes back or is lost
    #[arg(long)]
    accept: bool,
    /// An anchor of the audit log that was kept elsewhere: says whether the backup is older
    #[arg(long, value_name = "NUMBER:HASH")]
    anchor: Option<String>,
    #[command(flatten)]
    opening: Opening,
}

pub fn restore(args: &Restore, context: &Context) -> Result<ExitCode> {
    require_root("restore")?;
    let state_dir = state_dir(&args.store.state_dir)
        .with_context(|| format!("cannot find {}", args.store.state_dir.display()))?;
    // Before anything is asked for: a store in use is not to be replaced.
    let places = Places::take(&state_dir)?;
    let chosen = which::choose(&args.file, args.at.as_ref(), &args.opening, context)?;
    let which::Chosen { path, opener } = chosen;
    let mut file = offline::open(&path)?;
    let beside = places.make_beside(&args.opening.user)?;
    let mut words: Vec<OsString> = vec!["restore".into()];
    words.extend(["--state-dir".into(), state_dir.clone().into()]);
    words.extend(["--into".into(), beside.path().into()]);
    if args.accept {
        words.push("--accept".into());
    }
    if let Some(anchor) = &args.anchor {
        words.extend(["--anchor".into(), anchor.into()]);
    }
    let bar = progress(context, "restoring and checking");
    let report: RestoreReport = match opener.run(words, &mut file, &bar)? {
        Ok(report) => report,
        Err(code) => return Ok(exit_code(code)),
    };
    if !report.ready {
        if context.json {
            context.show(&report, |_| String::new())?;
        }
        return Err(refused(&report, &path, &state_dir).into());
    }
    let aside = beside.put_in_place()?;
    let told = serde_json::json!({
        "file": path, "state_dir": state_dir, "moved_aside": aside, "report": report,
    });
    context.show(&told, |_| text(&report, &path, aside.as_deref()))?;
    Ok(ExitCode::SUCCESS)
}

/// Behind links: where the store really is, another one takes its place.
fn state_dir(path: &Path) -> std::io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::path::absolute(path),
        found => found,
    }
}

fn refused(report: &RestoreReport, file: &Path, state_dir: &Path) -> Failure {
    let list = report.differences.iter();
    let list: String = list.map(|one| format!("\n  - {}", one.what)).collect();
    let what = format!(
        "{} is not what is in {} now, and nothing was changed:{list}",
        file.display(),
        state_dir.display()
    );
    Failure::conflict(what).hint("if all of that is meant, say so: --accept")
}

fn text(report: &RestoreReport, file: &Path, aside: Option<&Path>) -> String {
    let mut rows = vec![("restored", file.display().to_string())];
    rows.extend(facts_of(&report.contents));
    rows.extend(aside.map(|aside| ("moved aside", aside.display().to_string())));
    let accepted = report.differences.iter();
    rows.extend(accepted.map(|one| ("accepted", one.what.clone())));
    rows.extend(report.added_slot.iter().map(|slot| {
        let path = slot.path.as_ref().map(|path| path.display().to_string());
        let what = format!(
            "key slot {} ({}), in place of a key file that is lost; remove that one's slot: \
             deploy key slot remove",
            slot.id,
            path.unwrap_or_default()
        );
        ("added", what)
    }));
    let warnings = report.warnings.iter();
    rows.extend(warnings.map(|warning| ("warning", warning.clone())));
    rows.push((
        "next",
        format!("start secretsd: {}", systemd::start_command()),
    ));
    facts(rows)
}
