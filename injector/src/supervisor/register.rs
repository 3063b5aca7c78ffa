//! RUN_DIR/supervisors: a file for each supervisor that runs, locked by it. So `ps` and `stop` work
//! between two lives of a service, and while the injector is away; a file without a lock belongs to
//! a supervisor that was killed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use model::ServiceName;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::run_dir::RunDir;

/// One supervisor, as its file says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub service: ServiceName,
    pub manifest: PathBuf,
    pub supervisor: i32,
    pub detached: bool,
    pub restarts: u32,
    /// The number of the instance that runs now.
    pub instance: Option<u32>,
}

/// This process's own file. Removed when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    path: PathBuf,
    file: File,
    entry: Entry,
}

impl Registration {
    /// Enters this process.
    pub fn enter(
        run_dir: &RunDir,
        service: &ServiceName,
        manifest: &Path,
        detached: bool,
    ) -> io::Result<Registration> {
        let folder = run_dir.supervisors();
        let pid = std::process::id();
        let path = folder.join(pid.to_string());
        let hidden = folder.join(format!(".{pid}"));
        let file = match create(&folder, &hidden) {
            // Another one, the last, has just tidied the folder away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&folder, &hidden)?,
            file => file?,
        };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let mut registration = Registration {
            path,
            file,
            entry: Entry {
                service: service.clone(),
                manifest: std::path::absolute(manifest)?,
                supervisor: i32::try_from(pid).unwrap_or_default(),
                detached,
                restarts: 0,
                instance: None,
            },
        };
        registration.write()?;
        // Seen only once it is locked and whole.
        std::fs::rename(&hidden, &registration.path)?;
        Ok(registration)
    }

    /// Says which instance runs now; a later one than the first is a restart.
    pub fn runs(&mut self, instance: Option<u32>, restarts: u32) {
        self.entry.instance = instance;
        self.entry.restarts = restarts;
        if let Err(error) = self.write() {
            log::warn!("{}: {error}", self.path.display());
        }
    }

    /// In one write: a reader sees the old or the new text, or part of it, and then reads again.
    fn write(&mut self) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.entry)?;
        text.push(b'\n');
        rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Start(0))?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)
    }
}

fn create(folder: &Path, file: &Path) -> io::Result<File> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(file)
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        if let Some(folder) = self.path.parent() {
            // The last one tidies up; with others in it, it stays.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// A supervisor that runs: its entry, and a pidfd that is surely its own.
#[derive(Debug)]
pub(super) struct Running {
    pub entry: Entry,
    pub pidfd: OwnedFd,
}

/// All that run, by service and process.
pub(super) fn list(run_dir: &RunDir) -> io::Result<Vec<Running>> {
    let files = match std::fs::read_dir(run_dir.supervisors()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut running = Vec::new();
    for file in files {
        let path = file?.path();
        let hidden = path
            .file_name()
            .is_some_and(|n| n.as_encoded_bytes()[0] == b'.');
        if !hidden && let Some(one) = look(&path) {
            running.push(one);
        }
    }
    running.sort_by(|a, b| {
        let key = |r: &Running| (r.entry.service.clone(), r.entry.supervisor);
        key(a).cmp(&key(b))
    });
    Ok(running)
}

/// `None` if its supervisor is gone; the file then goes too.
fn look(path: &Path) -> Option<Running> {
    let file = File::open(path).ok()?;
    let entry = read(path)?;
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(entry.supervisor)?, PidfdFlags::empty());
    // After the pidfd was opened: if the lock is still held, its holder has not ended before, so
    // the pidfd is its own and not that of a later process with the same number.
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        let _ = std::fs::remove_file(path);
        return None;
    }
    let pidfd = pidfd.ok()?;
    Some(Running { entry, pidfd })
}

fn read(path: &Path) -> Option<Entry> {
    for _ in 0..50 {
        if let Ok(entry) = serde_json::from_slice(&std::fs::read(path).ok()?) {
            return Some(entry);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    log::warn!("{} cannot be understood", path.display());
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_supervisor_is_listed_while_it_lives_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(dir.path());
        let service: ServiceName = "web".parse().unwrap();
        let mut own =
            Registration::enter(&run_dir, &service, Path::new("/etc/web.yaml"), true).unwrap();
        own.runs(Some(7), 2);

        let running = list(&run_dir).unwrap();
        assert_eq!(running.len(), 1);
        let entry = &running[0].entry;
        assert_eq!(
            (entry.instance, entry.restarts, entry.detached),
            (Some(7), 2, true)
        );
        assert_eq!(entry.supervisor, std::process::id() as i32);
        drop(own);
        assert!(list(&run_dir).unwrap().is_empty());
        assert!(!run_dir.supervisors().exists());
    }

    #[test]
    fn the_file_of_a_killed_supervisor_is_not_believed_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(dir.path());
        std::fs::create_dir(run_dir.supervisors()).unwrap();
        let left = Entry {
            service: "web".parse().unwrap(),
            manifest: "/x".into(),
            supervisor: 1,
            detached: false,
            restarts: 0,
            instance: None,
        };
        let path = run_dir.supervisors().join("1");
        std::fs::write(&path, serde_json::to_vec(&left).unwrap()).unwrap();
        assert!(list(&run_dir).unwrap().is_empty());
        assert!(!path.exists());
    }
}
