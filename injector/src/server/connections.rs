//! The three FUSE connections and their master mounts: taken over from an earlier life, or made; and
//! those that were lost.
//!
//! A lost connection answers nobody, but what the kernel has cached of it can be read on from held
//! descriptors and mappings, and only its device reaches that. So the device is kept, over our own
//! death too, until secretsd has taken the next connection over and has had everything forgotten that
//! it gave out by the lost one, and until services have the views of the next one.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::MoveMountFlags;
use sys::lock::lock;

use super::daemon::Held;

use crate::mounts::{Mounts, SOURCE_PREFIX};
use crate::run_dir::RunDir;
use crate::{clean, folders, notify};

/// In this order they go to secretsd.
pub(super) const NAMES: [&str; 3] = ["secret", "config", OPERATOR];
const OPERATOR: &str = "operator";

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
#[derive(Clone, Debug)]
pub(super) struct Connections([Arc<Connection>; 3]);

impl Connections {
    /// Those of an earlier life that are alive and mounted, and new ones in place of the others.
    pub fn begin(
        stored: &mut Vec<(String, OwnedFd)>,
        run_dir: &RunDir,
        lost: &Lost,
    ) -> io::Result<(Connections, BTreeSet<&'static str>)> {
        make_folder(&run_dir.views())?;
        let mut fresh = BTreeSet::new();
        let mut one = |name: &'static str| match take_over(stored, run_dir, name, lost)? {
            Some(connection) => Ok(Arc::new(connection)),
            None => {
                fresh.insert(name);
                make(run_dir, name)
            }
        };
        let all = Connections([one(NAMES[0])?, one(NAMES[1])?, one(NAMES[2])?]);
        Ok((all, fresh))
    }

    /// New ones in place of those that are lost; `None` if none is.
    pub fn mended(
        &self,
        run_dir: &RunDir,
        lost: &Lost,
        held: &Held,
    ) -> io::Result<Option<(Connections, BTreeSet<&'static str>)>> {
        let mut fresh = BTreeSet::new();
        let mut all = self.clone();
        for one in all.0.iter_mut().filter(|one| one.is_lost()) {
            log::warn!("the {} connection was aborted; building it again", one.name);
            // Of one that nobody has served, nothing is cached; and of the operators' tree nothing ever.
            if one.name != OPERATOR && held.has(one.name) {
                lost.keep(one.name, one.dev.try_clone()?)?;
            }
            *one = make(run_dir, one.name)?;
            fresh.insert(one.name);
        }
        Ok((!fresh.is_empty()).then_some((all, fresh)))
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
        self.0.iter().any(|one| one.is_lost())
    }
}

/// Devices of lost connections, with the connections' names.
#[derive(Debug, Default)]
pub(super) struct Lost(Mutex<Vec<(String, OwnedFd)>>);

impl Lost {
    /// Those of an earlier life.
    pub fn take_over(stored: &mut Vec<(String, OwnedFd)>) -> Lost {
        let lost = Lost::default();
        for name in NAMES {
            while let Some(dev) = take(stored, &stored_as(name)) {
                lock(&lost.0).push((name.to_owned(), dev));
            }
        }
        lost
    }

    /// The keeper keeps it too, before it forgets it as one that lives.
    fn keep(&self, name: &str, dev: OwnedFd) -> io::Result<()> {
        notify::store(&stored_as(name), dev.as_fd())?;
        lock(&self.0).push((name.to_owned(), dev));
        Ok(())
    }

    /// Copies of all.
    pub fn copies(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let lost = lock(&self.0);
        let copy = |(name, dev): &(String, OwnedFd)| Ok((name.clone(), dev.try_clone()?));
        lost.iter().map(copy).collect()
    }

    /// The names of all.
    pub fn names(&self) -> Vec<&'static str> {
        let lost = lock(&self.0);
        let is_lost = |name: &&str| lost.iter().any(|(lost, _)| lost == *name);
        NAMES.into_iter().filter(is_lost).collect()
    }

    /// Nothing is in the kernel's caches any more of the first `count`, and no service sees them.
    pub fn forget(&self, count: usize) {
        let mut lost = lock(&self.0);
        lost.drain(..count);
        if lost.is_empty() {
            for name in NAMES {
                let _ = notify::forget(&stored_as(name));
            }
        }
    }
}

fn stored_as(name: &str) -> String {
    format!("lost-{name}")
}

fn take(stored: &mut Vec<(String, OwnedFd)>, name: &str) -> Option<OwnedFd> {
    let at = stored.iter().rposition(|(stored, _)| stored == name)?;
    Some(stored.swap_remove(at).1)
}

/// `None`: there is none that lives.
fn take_over(
    stored: &mut Vec<(String, OwnedFd)>,
    run_dir: &RunDir,
    name: &'static str,
    lost: &Lost,
) -> io::Result<Option<Connection>> {
    let dev = take(stored, &format!("fuse-{name}"));
    let mount = take(stored, &format!("mount-{name}"));
    let Some(dev) = dev else {
        return Ok(None);
    };
    let mounts = Mounts::here()?;
    let mounted = mounts.exactly_at(&place(run_dir, name));
    if let Some(mount) = mount {
        let connection = Connection { name, dev, mount };
        if mounted.is_some_and(|mount| mount.is_master()) && !connection.is_lost() {
            return Ok(Some(connection));
        }
        lost.keep(name, connection.dev)?;
    } else {
        lost.keep(name, dev)?;
    }
    Ok(None)
}

/// Where a master is mounted.
fn place(run_dir: &RunDir, name: &str) -> PathBuf {
    match name {
        "operator" => run_dir.operator_tree(),
        name => run_dir.views().join(name),
    }
}

/// A new one, mounted in place of what is there, and known to the keeper.
fn make(run_dir: &RunDir, name: &'static str) -> io::Result<Arc<Connection>> {
    let at = place(run_dir, name);
    clean::detach_masters(&at)?;
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
    Ok(Arc::new(Connection { name, dev, mount }))
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
