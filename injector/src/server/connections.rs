//! The three FUSE connections and their master mounts: taken over from an earlier life, or made.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::MoveMountFlags;

use crate::folders;
use crate::mounts::{Mounts, SOURCE_PREFIX};
use crate::notify;
use crate::run_dir::RunDir;

/// In this order they go to secretsd.
pub(super) const NAMES: [&str; 3] = ["secret", "config", "operator"];

/// One connection. The kernel keeps it as long as any process holds `dev`.
#[derive(Debug)]
pub(super) struct Connection {
    pub name: &'static str,
    /// /dev/fuse: secretsd answers on it, we only hold it.
    pub dev: OwnedFd,
    /// The master mount's root.
    pub mount: OwnedFd,
}

impl Connection {
    /// Was it aborted, say by `umount -f` in some service?
    fn is_lost(&self) -> bool {
        let mut fds = [PollFd::new(&self.dev, PollFlags::empty())];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(poll(&mut fds, Some(&at_once)), Ok(n) if n > 0)
    }
}

/// All three.
#[derive(Debug)]
pub(super) struct Connections([Connection; 3]);

impl Connections {
    /// Those of an earlier life, if all are there, alive and mounted.
    pub fn take_over(stored: &mut Vec<(String, OwnedFd)>, run_dir: &RunDir) -> Option<Connections> {
        let mounts = Mounts::here().ok()?;
        let mut one = |name: &'static str| {
            let dev = take(stored, &format!("fuse-{name}"))?;
            let mount = take(stored, &format!("mount-{name}"))?;
            let connection = Connection { name, dev, mount };
            let mounted = mounts.exactly_at(&place(run_dir, name))?.is_master();
            (mounted && !connection.is_lost()).then_some(connection)
        };
        Some(Connections([
            one(NAMES[0])?,
            one(NAMES[1])?,
            one(NAMES[2])?,
        ]))
    }

    /// New ones, mounted, and known to the keeper.
    pub fn make(run_dir: &RunDir) -> io::Result<Connections> {
        make_folder(&run_dir.views())?;
        let make = |name| make_one(run_dir, name);
        Ok(Connections([
            make(NAMES[0])?,
            make(NAMES[1])?,
            make(NAMES[2])?,
        ]))
    }

    /// Those of /dev/fuse, as secretsd takes them over.
    pub fn devices(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        self.0.iter().map(|c| (c.name, c.dev.as_fd()))
    }

    /// The master mount of services' secrets.
    pub fn secret(&self) -> BorrowedFd<'_> {
        self.0[0].mount.as_fd()
    }

    /// The master mount of services' config.
    pub fn config(&self) -> BorrowedFd<'_> {
        self.0[1].mount.as_fd()
    }

    /// Is one of them gone?
    pub fn is_lost(&self) -> bool {
        self.0.iter().any(Connection::is_lost)
    }
}

fn take(stored: &mut Vec<(String, OwnedFd)>, name: &str) -> Option<OwnedFd> {
    let at = stored.iter().rposition(|(stored, _)| stored == name)?;
    Some(stored.swap_remove(at).1)
}

/// Where a master is mounted.
fn place(run_dir: &RunDir, name: &str) -> PathBuf {
    match name {
        "operator" => run_dir.operator_tree(),
        name => run_dir.views().join(name),
    }
}

fn make_one(run_dir: &RunDir, name: &'static str) -> io::Result<Connection> {
    let at = place(run_dir, name);
    make_folder(&at)?;
    let (dev, mount) = sys::fuse::connect(&format!("{SOURCE_PREFIX}{name}"))?;
    // On top of a dead one, should there be one still.
    let on = folders::open_folder(folders::open_root()?, &at)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&mount, "", on, "", flags)?;
    for (kind, fd) in [("fuse", dev.as_fd()), ("mount", mount.as_fd())] {
        let stored = format!("{kind}-{name}");
        notify::forget(&stored)?;
        notify::store(&stored, fd)?;
    }
    Ok(Connection { name, dev, mount })
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
