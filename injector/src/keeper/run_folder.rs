//! The run folder of one keeper: claimed, filled, and taken down.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::KeeperError;
use crate::run_dir::RunDir;

/// A run folder that is this keeper's alone while it lives.
#[derive(Debug)]
pub(super) struct RunFolder {
    run_dir: RunDir,
    lock: File,
    /// The folder was not there before us, or before a predecessor that was killed.
    made: bool,
}

impl RunFolder {
    /// Makes the folder if it is not there, and takes its lock.
    pub fn claim(path: &Path) -> Result<RunFolder, KeeperError> {
        let io = |source| KeeperError::RunFolder {
            path: path.to_owned(),
            source,
        };
        let made_now = match std::fs::DirBuilder::new().mode(0o755).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(io(error)),
        };
        // Descriptors and registry speak of paths, and so do mounts: one spelling for all.
        let path = path.canonicalize().map_err(io)?;
        if path.metadata().map_err(io)?.uid() != 0 {
            return Err(KeeperError::NotRoots { path });
        }
        // Under any umask; secretsd and operators must get through.
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(io)?;
        let run_dir = RunDir::new(path);
        let (mut lock, before) =
            take_lock(&run_dir)
                .map_err(io)?
                .ok_or_else(|| KeeperError::AlreadyRunning {
                    path: run_dir.path().to_owned(),
                })?;
        let made = made_now || before.contains("made");
        let words = if made { "made\n" } else { "" };
        lock.rewind().map_err(io)?;
        lock.set_len(0).map_err(io)?;
        write!(lock, "{}\n{words}", std::process::id()).map_err(io)?;
        Ok(RunFolder {
            run_dir,
            lock,
            made,
        })
    }

    /// The folder's paths.
    pub fn paths(&self) -> &RunDir {
        &self.run_dir
    }

    /// Binds a listening socket in place of what a predecessor left there.
    pub fn bind(&self, path: &Path, gid: u32, mode: u32) -> Result<OwnedFd, KeeperError> {
        let bind = || -> io::Result<OwnedFd> {
            remove_if_there(path)?;
            let socket = UnixListener::bind(path)?;
            chown(path, Some(0), Some(gid))?;
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
            Ok(socket.into())
        };
        bind().map_err(|source| KeeperError::RunFolder {
            path: path.to_owned(),
            source,
        })
    }

    /// The folder of notify sockets: whoever may write to one of them finds it by its name.
    pub fn make_notify_folder(&self) -> Result<(), KeeperError> {
        let path = self.run_dir.notify();
        let make = || -> io::Result<()> {
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::fs::DirBuilder::new().mode(0o711).create(&path)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o711))
        };
        make().map_err(|source| KeeperError::RunFolder {
            path: path.clone(),
            source,
        })
    }

    /// Removes what the keeper made; the folder too, if nobody had it before.
    pub fn remove(self) {
        let run_dir = &self.run_dir;
        let sockets = [
            run_dir.control_socket(),
            run_dir.credentials_socket(),
            run_dir.inject_socket(),
        ];
        for path in sockets {
            log_failure(&path, remove_if_there(&path));
        }
        log_failure(&run_dir.notify(), std::fs::remove_dir(run_dir.notify()));
        // The lock's name last: until here a second keeper is told to wait.
        log_failure(
            &run_dir.keeper_lock(),
            remove_if_there(&run_dir.keeper_lock()),
        );
        if self.made {
            // A supervisor that still runs keeps its file there.
            log_failure(run_dir.path(), std::fs::remove_dir(run_dir.path()));
        }
        drop(self.lock);
    }
}

/// The locked file, and what its last owner had written; `None` if another keeper lives.
fn take_lock(run_dir: &RunDir) -> io::Result<Option<(File, String)>> {
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(run_dir.keeper_lock())?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        // A keeper that ended meanwhile has removed the name: then this lock excludes nobody.
        let named = std::fs::metadata(run_dir.keeper_lock());
        if named.is_ok_and(|named| named.ino() == file.metadata().map_or(0, |m| m.ino())) {
            let mut before = String::new();
            file.read_to_string(&mut before)?;
            return Ok(Some((file, before)));
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn log_failure(path: &Path, result: io::Result<()>) {
    if let Err(error) = result {
        log::warn!("{} stays: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_keeper_is_refused_and_the_folder_goes_with_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let first = RunFolder::claim(&path).unwrap();
        first.make_notify_folder().unwrap();
        let second = RunFolder::claim(&path);
        assert!(matches!(second, Err(KeeperError::AlreadyRunning { .. })));
        first.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::claim(dir.path()).unwrap();
        folder.make_notify_folder().unwrap();
        folder.remove();
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn the_successor_of_a_killed_keeper_removes_the_folder_that_that_one_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let killed = RunFolder::claim(&path).unwrap();
        let RunFolder { lock, .. } = killed;
        drop(lock);
        let successor = RunFolder::claim(&path).unwrap();
        successor.make_notify_folder().unwrap();
        successor.remove();
        assert!(!path.exists());
    }
}
