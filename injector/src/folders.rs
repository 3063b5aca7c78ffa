//! Folders that are made so that a view can be mounted there, and go again with their last user.
//!
//! Such a folder lies on a file system that namespaces share, mostly the host's own root. So who may
//! remove it cannot be known from one run folder alone: several pairs of daemons run side by side,
//! and rmdir(2) of a folder detaches what other namespaces have mounted on it. Hence: a folder that
//! we made carries a mark (an extended attribute that only root can see), it goes when nothing of
//! ours is mounted there in any namespace, and looking and doing happen under one lock of the host.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, ResolveFlags, XattrFlags};

use crate::mounts::Mounts;

const MARK: &str = "trusted.deploy-secrets";
/// Every kernel has it, and only root of the host can open it, so nobody else can hold the lock.
const LOCK: &str = "/proc/sys/fs/protected_symlinks";
/// Under the lock nothing waits for secretsd or a network; who holds it longer than this is stuck.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// No symlink anywhere on the way, and none of /proc's links: what is opened is what was named.
const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct HostLock(
    #[expect(dead_code, reason = "closing it is what unlocks")] Option<File>,
);

/// Waits for the lock; goes on without it where it cannot be had.
pub(crate) fn lock() -> HostLock {
    let Ok(file) = File::open(LOCK) else {
        return HostLock(None);
    };
    let start = Instant::now();
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() > LOCK_PATIENCE {
            log::warn!("the lock on mount point folders is stuck; going on without it");
            return HostLock(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    HostLock(Some(file))
}

/// Opens the root folder of the calling thread's mount namespace.
pub(crate) fn open_root() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Opens a folder below `root` (O_PATH) without following any link.
pub(crate) fn open_folder(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(
        root,
        relative(path),
        flags,
        Mode::empty(),
        NO_LINKS,
    )?)
}

/// The folder that holds `path` (O_PATH), and the name of `path` in it.
pub(crate) fn open_parent(root: impl AsFd, path: &Path) -> io::Result<(OwnedFd, &std::ffi::OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok((open_folder(root, parent)?, name))
}

fn relative(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(rest) if rest.as_os_str().is_empty() => Path::new("."),
        Ok(rest) => rest,
        Err(_) => path,
    }
}

/// Makes `path` below `root`, 0755 under any umask, and marks it.
///
/// # Errors
/// As mkdir(2); it is an error that it exists.
pub(crate) fn make(root: impl AsFd, path: &Path) -> io::Result<()> {
    let (parent, name) = open_parent(root, path)?;
    rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
    let folder = open_for_marks(&parent, Path::new(name))?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755))?;
    if let Err(error) = rustix::fs::fsetxattr(&folder, MARK, b"1", XattrFlags::empty()) {
        log::warn!(
            "{} cannot be marked as ours and will stay: {error}",
            path.display()
        );
    }
    Ok(())
}

/// Removes `path` below `root` if it is empty. Only for what [`make`] has just made.
pub(crate) fn unmake(root: impl AsFd, path: &Path) -> io::Result<()> {
    let (parent, name) = open_parent(root, path)?;
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Removes what is ours, empty and used by nobody among `targets` and the folders above them.
/// What cannot be removed stays; the next one who ends tries again.
pub(crate) fn sweep<'a>(targets: impl IntoIterator<Item = &'a Path>) {
    let Ok(root) = open_root() else { return };
    let candidates: BTreeSet<&Path> = targets
        .into_iter()
        .flat_map(Path::ancestors)
        .filter(|path| is_marked(&root, path))
        .collect();
    if candidates.is_empty() {
        return;
    }
    let _lock = lock();
    let used = points_in_use();
    // A folder sorts before what is in it.
    for path in candidates.into_iter().rev() {
        if !used.contains(path)
            && is_marked(&root, path)
            && let Err(error) = unmake(&root, path)
        {
            log::info!("{} stays: {error}", path.display());
        }
    }
}

fn open_for_marks(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(
        root,
        relative(path),
        flags,
        Mode::empty(),
        NO_LINKS,
    )?)
}

fn is_marked(root: impl AsFd, path: &Path) -> bool {
    let Ok(folder) = open_for_marks(root, path) else {
        return false;
    };
    rustix::fs::fgetxattr(folder, MARK, &mut [0; 8][..]).is_ok()
}

/// Where views are mounted, in any mount namespace of the host.
fn points_in_use() -> BTreeSet<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut points = BTreeSet::new();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return points;
    };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let Ok(namespace) = std::fs::metadata(format!("/proc/{pid}/ns/mnt")) else {
            continue;
        };
        if seen.insert(namespace.ino())
            && let Ok(mounts) = Mounts::of(pid)
        {
            let ours = mounts.iter().filter(|mount| mount.is_ours());
            points.extend(ours.map(|mount| mount.point.clone()));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_we_made_goes_again_and_what_others_made_stays() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().canonicalize().unwrap().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        let root = open_root().unwrap();
        let (outer, inner) = (theirs.join("ours"), theirs.join("ours/secret"));
        make(&root, &outer).unwrap();
        make(&root, &inner).unwrap();
        assert_eq!(outer.metadata().unwrap().mode() & 0o7777, 0o755);

        sweep([inner.as_path()]);
        assert!(!outer.exists() && theirs.exists());
    }

    #[test]
    fn a_folder_with_something_in_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().canonicalize().unwrap().join("ours");
        make(open_root().unwrap(), &ours).unwrap();
        std::fs::write(ours.join("file"), "x").unwrap();
        sweep([ours.as_path()]);
        assert!(ours.join("file").exists());
    }

    #[test]
    fn no_link_is_followed_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        let error = make(open_root().unwrap(), &base.join("link/x")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        assert!(!base.join("real/x").exists());
    }

    #[test]
    fn the_lock_is_free_again_after_use() {
        drop(lock());
        let start = Instant::now();
        drop(lock());
        assert!(start.elapsed() < LOCK_PATIENCE);
    }
}
