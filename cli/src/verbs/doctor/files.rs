//! Sockets, folders and key files: whether they are there, and who may use them.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use control::calls::StatusReport;
use injector::run_dir::RunDir;

use super::finding::{Finding, Repair, word};

/// Too many to be read by a person are told by their number.
const NAMED: usize = 3;

pub fn look(run_dir: &RunDir, state_dir: &Path, status: Option<&StatusReport>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sockets = [
        ("control socket", run_dir.control_socket(), 0o660),
        ("credentials socket", run_dir.credentials_socket(), 0o600),
        ("inner socket", run_dir.inject_socket(), 0o660),
    ];
    for (about, path, allowed) in sockets {
        findings.push(mode(about, &path, allowed));
    }
    if !rustix::process::geteuid().is_root() {
        findings.push(
            Finding::note("folders", "not looked at: that is root's alone").mend("run it by sudo"),
        );
        return findings;
    }
    for path in [run_dir.views(), run_dir.instances()] {
        findings.push(mode("run folder", &path, 0o700));
    }
    findings.extend(state(state_dir));
    let slots = status.map(|status| &status.slots).into_iter().flatten();
    for slot in slots {
        if let Some(path) = &slot.path {
            findings.push(key_file(&state_dir.join(path), &slot.id.to_string()));
        }
    }
    findings
}

/// Nobody may do more with it than `allowed` says.
fn mode(about: &'static str, path: &Path, allowed: u32) -> Finding {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Ok(meta) if extra(&meta, allowed) != 0 => {
            let mode = meta.mode() & 0o7777;
            Finding::error(
                about,
                format!("{shown} has mode {mode:04o}, not {allowed:04o}"),
            )
            .mend(format!("chmod {allowed:04o} {}", word(path)))
            .by(Repair::Mode(path.to_owned(), allowed))
        }
        Ok(_) => Finding::ok(about, format!("{shown} is for whom it should be")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::error(about, format!("{shown} is not there"))
                .mend("start the keeper: deploy-inject up")
        }
        Err(error) => Finding::warning(about, format!("{shown} cannot be looked at: {error}")),
    }
}

fn extra(meta: &Metadata, allowed: u32) -> u32 {
    meta.mode() & 0o7777 & !allowed
}

/// The store is secretsd's alone, whole.
fn state(folder: &Path) -> Vec<Finding> {
    let about = "state folder";
    let shown = folder.display();
    let meta = match fs::symlink_metadata(folder) {
        Ok(meta) => meta,
        Err(error) => {
            return vec![
                Finding::error(about, format!("{shown}: {error}"))
                    .mend("name it with --state-dir; make a new one: deploy init"),
            ];
        }
    };
    let mut findings = Vec::new();
    if meta.uid() == 0 {
        findings.push(
            Finding::error(about, format!("{shown} is root's, and not secretsd's"))
                .mend(format!("chown -R deploy-secrets: {}", word(folder))),
        );
    }
    let (mut open, mut foreign) = (Vec::new(), Vec::new());
    if let Err(error) = walk(folder, &mut |path, one| {
        if extra(one, 0o700) != 0 {
            open.push((path.to_owned(), one.mode() & 0o700));
        }
        if one.uid() != meta.uid() {
            foreign.push(path.to_owned());
        }
    }) {
        findings.push(Finding::warning(
            about,
            format!("{shown} cannot be read: {error}"),
        ));
    }
    if !foreign.is_empty() {
        findings.push(
            Finding::error(about, format!("of another user: {}", named(&foreign)))
                .mend(format!("chown -R --reference={0} {0}", word(folder))),
        );
    }
    for (path, mode) in open {
        findings.push(
            Finding::error(about, format!("{} is open to others", path.display()))
                .mend(format!("chmod go= {}", word(&path)))
                .by(Repair::ModeOf(meta.uid(), path, mode)),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(about, format!("{shown} is secretsd's alone")));
    }
    findings
}

/// A folder and all that is in it; links are not followed.
fn walk(path: &Path, look: &mut impl FnMut(&Path, &Metadata)) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        // secretsd is at work in it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    if meta.is_symlink() {
        return Ok(());
    }
    look(path, &meta);
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), look)?;
        }
    }
    Ok(())
}

fn named(paths: &[PathBuf]) -> String {
    let named = paths
        .iter()
        .take(NAMED)
        .map(|path| path.display().to_string());
    let mut named: Vec<_> = named.collect();
    if paths.len() > NAMED {
        named.push(format!("and {} more", paths.len() - NAMED));
    }
    named.join(", ")
}

fn key_file(path: &Path, slot: &str) -> Finding {
    let about = "key slots";
    let shown = path.display();
    match fs::metadata(path) {
        Ok(meta) if extra(&meta, 0o600) != 0 => {
            Finding::error(about, format!("the key file {shown} is open to others"))
                .mend(format!("chmod 0600 {}", word(path)))
        }
        Ok(_) => Finding::ok(about, format!("the key file {shown} is there")),
        Err(error) => Finding::warning(
            about,
            format!("the key file {shown} of slot {slot}: {error}"),
        )
        .mend(format!("put it back, or: deploy key slot remove {slot}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::finding::Severity;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_open_to_others_is_found_and_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        let mut found = state(dir.path());
        let worst = |found: &[Finding]| found.iter().map(|one| one.severity).max();
        assert_eq!(worst(&found), Some(Severity::Error));
        let repaired: Vec<_> = found.iter_mut().filter_map(Finding::repair).collect();
        assert!(!repaired.is_empty());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        let open = |one: &Finding| one.says.contains("open to others");
        assert!(!state(dir.path()).iter().any(open));
    }

    #[test]
    fn what_is_not_there_is_named_with_what_mends_it() {
        let gone = Path::new("/nowhere/at/all");
        let findings = [
            state(gone).remove(0),
            mode("x", gone, 0o600),
            key_file(gone, "1"),
        ];
        for one in findings {
            assert!(
                one.severity >= Severity::Warning && one.mend.is_some(),
                "{one}"
            );
        }
    }
}
