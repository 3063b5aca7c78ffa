//! The state folder, the one that is restored beside it, and how the two change places.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use injector::daemon_user::prepare_state_dir;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use crate::failure::Failure;
use crate::unnamed::folder_of;

/// A state folder that nobody uses as long as this lives.
pub struct Places {
    state_dir: PathBuf,
    /// The lock of the store that is there, if there is one.
    _lock: Option<File>,
}

impl Places {
    /// Refuses a folder that a secretsd uses.
    pub fn take(state_dir: &Path) -> Result<Places> {
        if state_dir.file_name().is_none() {
            let what = format!("{} cannot be replaced", state_dir.display());
            return Err(Failure::usage(what).into());
        }
        let running = || {
            Failure::conflict(format!("secretsd runs on {}", state_dir.display())).hint(
                "stop it: systemctl stop its unit, or end `deploy-inject up` by Ctrl-C or \
                 `kill -TERM`; then repeat this",
            )
        };
        let path = state_dir.join("lock");
        let lock = match File::open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                let what = format!("{} is no folder", state_dir.display());
                return Err(Failure::failed(what).into());
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if let Some(file) = &lock {
            match flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(running().into()),
                Err(errno) => return Err(errno).with_context(|| path.display().to_string()),
            }
        }
        let state_dir = state_dir.to_path_buf();
        Ok(Places {
            state_dir,
            _lock: lock,
        })
    }

    /// An empty folder of secretsd's user beside the state folder. What a restore that was ended
    /// before has left there goes.
    pub fn make_beside(&self, user: &str) -> Result<Beside<'_>> {
        let path = self.named("restoring");
        let cannot = || format!("cannot make {}", path.display());
        if let Ok(left) = File::open(&path) {
            let busy = || Failure::conflict("another restore of this folder is running");
            flock(&left, FlockOperation::NonBlockingLockExclusive).map_err(|_| busy())?;
            fs::remove_dir_all(&path).with_context(cannot)?;
        }
        prepare_state_dir(user, &path).with_context(cannot)?;
        let folder = File::open(&path).with_context(cannot)?;
        let beside = Beside {
            places: self,
            path,
            _lock: folder,
            is_placed: false,
        };
        flock(&beside._lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(beside)
    }

    fn named(&self, end: &str) -> PathBuf {
        let mut name = self.state_dir.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(end);
        folder_of(&self.state_dir).join(name)
    }

    fn has_something(&self) -> Result<bool> {
        match fs::read_dir(&self.state_dir) {
            Ok(mut entries) => Ok(entries.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| self.state_dir.display().to_string()),
        }
    }
}

/// The folder of a restored store; removed again unless it takes its place.
pub struct Beside<'a> {
    places: &'a Places,
    path: PathBuf,
    /// Held on the folder itself, against another restore.
    _lock: File,
    is_placed: bool,
}

impl Beside<'_> {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It becomes the state folder, in one step. Gives where the one before is now, if there was
    /// anything in it.
    pub fn put_in_place(mut self) -> Result<Option<PathBuf>> {
        let state_dir = &self.places.state_dir;
        let cannot = || {
            let mut what = format!(
                "cannot put the restored folder in place of {}",
                state_dir.display()
            );
            what.push_str(": a folder that something is mounted on cannot be moved aside");
            what
        };
        let aside = if self.places.has_something()? {
            renameat_with(CWD, &self.path, CWD, state_dir, RenameFlags::EXCHANGE)
                .with_context(cannot)?;
            // From here on the restored store is in place, and the name beside is the old one's.
            self.is_placed = true;
            let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ");
            let aside = self.places.named(&format!("replaced-{time}"));
            let flags = RenameFlags::NOREPLACE;
            renameat_with(CWD, &self.path, CWD, &aside, flags).with_context(|| {
                format!(
                    "the store is restored; the one before is in {}, and cannot be named {}",
                    self.path.display(),
                    aside.display()
                )
            })?;
            Some(aside)
        } else {
            // An empty folder is replaced by a rename.
            fs::rename(&self.path, state_dir).with_context(cannot)?;
            self.is_placed = true;
            None
        };
        File::open(folder_of(state_dir))?.sync_all()?;
        Ok(aside)
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        if !self.is_placed
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("warning: {} is left over: {error}", self.path.display());
        }
    }
}
