//! What is done through the master mounts, by a process apart: `deploy-inject apart`. Each may wait
//! for an answer of secretsd, and the injector, which hands a dead secretsd's connections to the next
//! one, must not be what the next one waits for.
//!
//! The paths of touches come from secretsd, which is not trusted: they are walked below a master mount
//! of its own and nowhere else.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sys::apart::Apart;
use sys::process::Spawn;

const BELOW: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// What is done to a file. In this order, where an instance is owed both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    /// Makes DELETE fire.
    Unlink,
    /// Makes MODIFY and CLOSE_WRITE fire.
    Ring,
}

impl Touch {
    /// How the process apart is asked for it.
    pub fn job(self, path: &Path) -> Vec<u8> {
        let how = match self {
            Touch::Unlink => UNLINK,
            Touch::Ring => RING,
        };
        job(how, path)
    }
}

/// What a job begins with; a path follows.
const UNLINK: u8 = 1;
const RING: u8 = 2;
const CLONE: u8 = 3;

fn job(how: u8, path: &Path) -> Vec<u8> {
    [&[how], path.as_os_str().as_bytes()].concat()
}

/// As [`sys::mount::clone_readonly`].
pub(super) fn clone_readonly(
    apart: &Apart,
    master: BorrowedFd<'_>,
    folder: &Path,
) -> io::Result<OwnedFd> {
    let clone = apart.ask(&job(CLONE, folder), master)?;
    clone.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Starts the process. The program is the one that runs, whatever has its name by now.
pub(super) fn start() -> io::Result<Apart> {
    let program = Spawn::new("/proc/self/exe")
        .named("deploy-inject")
        .arg("apart");
    Apart::start(program, gone)
}

/// Without it no watcher hears of anything, and no service begins. The next injector has another one.
fn gone() -> ! {
    log::error!("the process that rings has ended; so does the injector");
    std::process::exit(1)
}

/// What it does, with as few rights as the injector, until that one has ended. See
/// [`sys::apart::serve`].
///
/// # Errors
/// As there.
pub fn serve_apart() -> io::Result<()> {
    sys::sandbox::harden()?;
    sys::sandbox::forbid_exec_and_networks()?;
    sys::apart::serve(act)
}

fn act(job: &[u8], master: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let (how, path) = job.split_first().ok_or(Errno::INVAL)?;
    let path = Path::new(OsStr::from_bytes(path));
    match *how {
        UNLINK => unlink(master, path).map(|()| None),
        RING => ring(master, path).map(|()| None),
        CLONE => match sys::mount::clone_readonly(master, path) {
            Ok(clone) => Ok(Some(clone)),
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL)),
        },
        _ => Err(Errno::INVAL),
    }
}

/// Makes MODIFY and CLOSE_WRITE fire for the file, and for its folder. A file that is not there any
/// more has no watcher to miss it.
fn ring(master: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat2(master, path, flags, Mode::empty(), BELOW) {
        Err(Errno::NOENT | Errno::STALE) => return Ok(()),
        file => file?,
    };
    rustix::io::pwrite(file, &[0], 0).map(drop)
}

/// Makes DELETE fire for a name that is revoked.
fn unlink(master: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent: OwnedFd = match rustix::fs::openat2(master, parent, flags, Mode::empty(), BELOW) {
        Err(Errno::NOENT | Errno::STALE) => return Ok(()),
        parent => parent?,
    };
    match rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::empty()) {
        Err(Errno::NOENT | Errno::STALE) => Ok(()),
        left => left,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_ring_stays_below_its_master() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("5")).unwrap();
        std::fs::write(dir.path().join("outside"), "whole").unwrap();
        std::os::unix::fs::symlink("../outside", dir.path().join("5/link")).unwrap();
        let master = crate::folders::open_folder(
            crate::folders::open_root().unwrap(),
            &dir.path().canonicalize().unwrap().join("5"),
        )
        .unwrap();
        let act = |how: Touch, path: &str| act(&how.job(Path::new(path)), master.as_fd());
        for path in ["../outside", "link", "/etc/hostname"] {
            assert!(act(Touch::Ring, path).is_err(), "{path}");
        }
        assert!(act(Touch::Unlink, "../outside").is_err());
        act(Touch::Ring, "not-there").unwrap();
        let outside = std::fs::read_to_string(dir.path().join("outside")).unwrap();
        assert_eq!(outside, "whole");
    }
}
