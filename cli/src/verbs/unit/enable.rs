//! deploy unit enable

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use injector::unit::drop_in::{self, DropIn, User};
use model::Manifest;
use serde_json::json;

use super::{Place, apparmor, require_ours, systemd, unit_name, written};
use crate::context::Context;
use crate::failure::Failure;
use crate::prompt;

/// Give a systemd unit what a manifest asks for
///
/// Shows the drop-in and asks; writes it, and nothing else. The unit has its view from its next start.
/// Of the manifest count the secrets, the configuration, where they are, and their modes: command,
/// user and restarts are the unit's own.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  deploy unit enable nginx.service --manifest /etc/deploy/nginx.yaml\n  \
    systemctl restart nginx.service"
)]
pub struct Enable {
    /// The unit, or a template such as web@.service
    #[arg(value_parser = unit_name)]
    unit: String,
    /// The manifest; root's alone to write, for it is read again at each start
    #[arg(long)]
    manifest: PathBuf,
    /// Write it without asking
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

const PROPERTIES: &[&str] = &[
    "LoadState",
    "User",
    "DynamicUser",
    "AppArmorProfile",
    "ExecStart",
    "Type",
];

pub fn enable(args: &Enable, context: &Context) -> Result<()> {
    let unit = &args.unit;
    let shown = systemd::show(unit, PROPERTIES)?;
    if shown.get("LoadState") != "loaded" {
        return Err(Failure::not_found(format!("there is no unit {unit}"))
            .hint("systemctl list-unit-files --type service")
            .into());
    }
    let path = fs::canonicalize(&args.manifest)
        .with_context(|| format!("cannot read the manifest {}", args.manifest.display()))?;
    let manifest = drop_in::manifest(&path).map_err(|error| Failure::usage(error.to_string()))?;
    let drop_in = DropIn {
        user: user(unit, &manifest, &shown),
        manifest: path,
        targets: manifest.targets.clone(),
        run_dir: std::path::absolute(context.run_dir.path())?,
        on_change: manifest.on_change.is_some(),
    };
    drop_in
        .check()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let place = drop_in::place(&args.place.system_dir, unit);
    let text = drop_in.to_string();
    let before = written(&place)?;
    if let Some(before) = &before {
        require_ours(&place, before)?;
    }
    for remark in remarks(&manifest, &shown, &drop_in) {
        eprintln!("note: {remark}");
    }
    if before.as_ref() != Some(&text) {
        eprint!("{}:\n{}", place.display(), indented(&text));
        if !args.yes {
            prompt::confirm("Write this?", "use --yes")?;
        }
        write(&place, &text).with_context(|| format!("cannot write {}", place.display()))?;
    }
    systemd::reload()?;
    let done = json!({"unit": unit, "drop_in": place, "service": manifest.service});
    context.confirm(&done, |_| {
        format!(
            "{unit} has the view of {} from its next start",
            manifest.service
        )
    })
}

/// As whom the unit runs, if its manifest does not say it.
fn user(unit: &str, manifest: &Manifest, shown: &systemd::Shown) -> Option<User> {
    if manifest.user.is_some() {
        return None;
    }
    let named = Some(shown.get("User")).filter(|user| !user.is_empty());
    if shown.is("DynamicUser") {
        // systemd takes the unit's name where there is no User=.
        let prefix = unit.split(['@', '.']).next().unwrap_or(unit);
        return Some(User::Dynamic(named.unwrap_or(prefix).to_owned()));
    }
    named.map(|user| User::Static(user.to_owned()))
}

/// What of the manifest is not for units, and what else to see to.
fn remarks(manifest: &Manifest, shown: &systemd::Shown, drop_in: &DropIn) -> Vec<String> {
    let mut remarks = Vec::new();
    if !manifest.command.is_empty() {
        remarks.push("`command` is the unit's ExecStart, and not the manifest's".to_owned());
    }
    if let Some(user) = &manifest.user
        && shown.get("User") != user
    {
        let own = match shown.get("User") {
            "" => "root",
            own => own,
        };
        remarks.push(format!(
            "the files will be of {user}, and the unit runs as {own}: see file_mode and folder_mode"
        ));
    }
    if manifest.secrets.iter().any(|secret| secret.env.is_some()) {
        remarks.push("`env` is not set for units: read the file".to_owned());
    }
    if manifest.secrets.iter().any(|one| one.env_file.is_some()) {
        remarks.push("`env_file` is not set for units: add Environment= to the unit".to_owned());
    }
    if manifest.secrets.iter().any(|one| one.target.is_some()) {
        let secret = drop_in.targets.secret.display();
        remarks.push(format!(
            "a `target` of one secret is not shown in units: it is below {secret} alone"
        ));
    }
    let targets = [&*drop_in.targets.secret, &*drop_in.targets.config];
    remarks.extend(apparmor::advice(shown, targets));
    remarks
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// There whole or not at all.
fn write(place: &Path, text: &str) -> Result<()> {
    let folder = place.parent().context("it has no folder")?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile_in(folder)?;
    file.1.write_all(text.as_bytes())?;
    file.1.sync_all()?;
    fs::rename(&file.0, place)?;
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

fn tempfile_in(folder: &Path) -> Result<(PathBuf, fs::File)> {
    use std::os::unix::fs::OpenOptionsExt;
    // systemd reads what ends with .conf.
    let path = folder.join(format!(".{}.new", drop_in::NAME));
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&path)?;
    Ok((path, file))
}
