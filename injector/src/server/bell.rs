//! Rings: touches through the master mounts that make inotify fire behind every view. secretsd
//! answers each of them, so a ring can hang until the next secretsd is there; that is why it is not
//! secretsd that rings, and why nothing else waits for a ring.
//!
//! The paths come from secretsd, which is not trusted: they are walked below a master mount of its
//! own and nowhere else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

/// More than this at once are refused: each has a thread.
const AT_ONCE: usize = 64;

const BELOW: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Counts the threads that touch master mounts.
#[derive(Debug, Default)]
pub(super) struct Bell(AtomicUsize);

/// A thread's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Bell);

impl Bell {
    /// A place for one more thread.
    pub fn turn(&self) -> io::Result<Turn<'_>> {
        if self.0.fetch_add(1, Ordering::AcqRel) >= AT_ONCE {
            self.0.fetch_sub(1, Ordering::AcqRel);
            return Err(io::Error::other("too many rings are waiting"));
        }
        Ok(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Makes MODIFY and CLOSE_WRITE fire for the file, and for its folder. A file that is not there any
/// more has no watcher to miss it.
pub(super) fn ring(master: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat2(master, path, flags, Mode::empty(), BELOW) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::STALE) => return Ok(()),
        file => file?,
    };
    rustix::io::pwrite(file, &[0], 0)?;
    Ok(())
}

/// Makes DELETE fire for a name that is revoked.
pub(super) fn unlink(master: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent: OwnedFd = match rustix::fs::openat2(master, parent, flags, Mode::empty(), BELOW) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::STALE) => return Ok(()),
        parent => parent?,
    };
    match rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::STALE) => Ok(()),
        // A secret with fields is a folder.
        Err(rustix::io::Errno::ISDIR) => {
            Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        left => Ok(left?),
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
        for path in ["../outside", "link", "/etc/hostname"] {
            assert!(ring(master.as_fd(), Path::new(path)).is_err(), "{path}");
        }
        assert!(unlink(master.as_fd(), Path::new("../outside")).is_err());
        ring(master.as_fd(), Path::new("not-there")).unwrap();
        let outside = std::fs::read_to_string(dir.path().join("outside")).unwrap();
        assert_eq!(outside, "whole");
    }

    #[test]
    fn rings_that_hang_are_bounded() {
        let bell = Bell::default();
        let turns: Vec<_> = (0..AT_ONCE).map(|_| bell.turn().unwrap()).collect();
        assert!(bell.turn().is_err());
        drop(turns);
        assert!(bell.turn().is_ok());
    }
}
