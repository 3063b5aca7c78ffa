//! `secretsd restore`: makes a store of a backup in an empty folder, and says what it would change.
//!
//! `deploy restore`, which is root, makes that folder, holds the lock of the one that is replaced, and
//! lets the two change places once this says that it is ready.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;
use audit::{Anchor, Anchored, Change, Event, Filter, Log, Options, Outcome, Record};
use control::calls::{BackupDifference, BackupFound, RestoreReport};
use model::Timestamp;
use store::{Found, Moment, Restored};

use crate::args::Restore;
use crate::backup_verify::input;
use crate::serve::refuse_privileges;
use crate::server::{contents_info, slot_info, version};

/// Acts that change nothing that a backup holds.
const HARMLESS: [&str; 4] = ["secret.get", "backup", "connect", "on_change"];
/// So many acts are told one by one.
const TOLD: usize = 200;

/// Says what was made and what it would change, as JSON: `deploy` shows it.
pub(crate) fn restore(options: &Restore) -> anyhow::Result<()> {
    sys::sandbox::harden().context("cannot give up core dumps and new privileges")?;
    refuse_privileges()?;
    let anchor = options.anchor.as_deref().map(str::parse::<Anchor>);
    let anchor = anchor.transpose()?;
    sys::sandbox::forbid_exec_and_mounts().context("cannot set the seccomp filter")?;
    sys::sandbox::restrict_files(&[&options.into]).context("cannot restrict files")?;
    let (key, backup) = input(options.key)?;
    let restored = Restored::make(backup, &key, &options.into, &options.state_dir)?;
    let report = report(options, anchor, restored)?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn report(
    options: &Restore,
    anchor: Option<Anchor>,
    restored: Restored,
) -> anyhow::Result<RestoreReport> {
    let moment = restored.contents.moment.clone();
    let log = options.state_dir.join("audit");
    let mut all: Vec<_> = restored
        .differences
        .iter()
        .map(|one| difference(one.kind.as_str(), one.to_string()))
        .collect();
    let (found, replaces) = match &restored.found {
        Found::Nothing => (BackupFound::Nothing, None),
        Found::Unreadable(why) => {
            if all.is_empty() {
                let dir = options.state_dir.display();
                all.push(difference(
                    "unreadable",
                    format!("what is in {dir} cannot be compared with the backup: {why}"),
                ));
                all.extend(since(&log, &moment));
            }
            (BackupFound::Unreadable, None)
        }
        Found::Store {
            generation,
            transaction,
        } => (
            BackupFound::Store,
            Some(format!("{generation}.{transaction}")),
        ),
    };
    // Of a store that was compared it is known what has happened since.
    if found != BackupFound::Store {
        all.extend(anchor.and_then(|anchor| newer(anchor, &moment)));
    }
    let ready = all.is_empty() || options.accept;
    let mut warnings = Vec::new();
    if ready {
        restored.forget_replaced();
        warnings.extend(take_log_over(&log, &options.into.join("audit"))?);
        warnings.extend(write_down(&options.into.join("audit"), &moment, all.len()));
    }
    Ok(RestoreReport {
        ready,
        contents: contents_info(restored.contents),
        found,
        replaces,
        differences: all,
        added_slot: restored.added_slot.map(slot_info),
        warnings,
    })
}

fn difference(kind: &str, what: String) -> BackupDifference {
    BackupDifference {
        kind: kind.to_owned(),
        what,
    }
}

/// Where the store cannot be read, its audit log may tell what was done since the backup.
fn since(log: &Path, moment: &Moment) -> Vec<BackupDifference> {
    let Some(anchor) = moment.anchor.as_deref().and_then(|text| text.parse().ok()) else {
        return Vec::new();
    };
    let anchor: Anchor = anchor;
    let anchored = audit::verify(log, Some(anchor)).map(|verified| verified.anchored);
    if !matches!(anchored, Ok(Some(Anchored::Fits))) {
        let what = "its audit log does not go on from the backup: what was done since is not known";
        return vec![difference("since", what.to_owned())];
    }
    let mut told = Vec::new();
    let mut more = 0;
    let filter = Filter {
        after: anchor.seq,
        ..Filter::default()
    };
    let read = audit::query(log, &filter, |entry| {
        if let Record::Event(Event::Change(change)) = &entry.record
            && change.outcome == Outcome::Done
            && !HARMLESS.contains(&change.act)
        {
            if told.len() < TOLD {
                told.push(act(change, Timestamp(entry.time.seconds())));
            } else {
                more += 1;
            }
        }
        ControlFlow::Continue(())
    });
    if more > 0 {
        told.push(difference("since", format!("and {more} more acts")));
    }
    if let Err(error) = read {
        let what = format!("its audit log cannot be read to its end: {error}");
        told.push(difference("since", what));
    }
    told
}

fn act(change: &Change<'_>, when: Timestamp) -> BackupDifference {
    let words = [change.act, change.what, change.detail];
    let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let what = format!(
        "since the backup, {when}, {}: {}",
        change.operator,
        words.join(" ")
    );
    difference("since", what)
}

/// An anchor that was kept elsewhere shows that something was done since, where nothing else can.
fn newer(anchor: Anchor, moment: &Moment) -> Option<BackupDifference> {
    let of_backup = moment.anchor.as_deref().and_then(|text| text.parse().ok());
    let before = of_backup.map_or(0, |anchor: Anchor| anchor.seq);
    let entries = anchor.seq.checked_sub(before).filter(|more| *more > 0)?;
    let what = format!(
        "the anchor is of {entries} audit entries after the backup: grants and slots may have been \
         taken back since"
    );
    Some(difference("anchor", what))
}

/// The audit log goes on in the restored folder: a restore cuts nothing off. The one that is there
/// stays with its folder.
fn take_log_over(from: &Path, to: &Path) -> io::Result<Option<String>> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Ok(Some(not_taken_over(from, &error))),
    };
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let target = to.join(entry.file_name());
        // What cannot be read is damage of the old disk; what cannot be written is ours to say.
        let mut source = match File::open(entry.path()) {
            Ok(source) => source,
            Err(error) => return Ok(Some(not_taken_over(&entry.path(), &error))),
        };
        let mut file = File::create_new(&target)?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        io::copy(&mut source, &mut file)?;
        file.sync_all()?;
    }
    File::open(to)?.sync_all()?;
    Ok(None)
}

fn not_taken_over(path: &Path, error: &io::Error) -> String {
    format!(
        "the audit log is not taken over as a whole ({}: {error}); it stays in the folder that is \
         moved aside",
        path.display()
    )
}

/// A restore is in the log that goes on.
fn write_down(log: &Path, moment: &Moment, accepted: usize) -> Option<String> {
    let detail = format!(
        "backup {} of {}, {accepted} differences accepted",
        version(moment),
        moment.made
    );
    let program = concat!("secretsd ", env!("CARGO_PKG_VERSION"));
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let written = Log::open(log, Options::default(), program).map_err(|error| error.to_string());
    let written = written.and_then(|(log, _)| {
        let change = Change {
            operator: "root",
            uid: 0,
            pid: u32::try_from(parent).unwrap_or(0),
            act: "restore",
            what: "store",
            detail: &detail,
            outcome: Outcome::Done,
            why: "",
        };
        let appended = log.append(&Event::Change(change), false);
        log.close();
        appended.map_err(|error| error.to_string())
    });
    let error = written.err()?;
    Some(format!("the restore is not in the audit log: {error}"))
}
