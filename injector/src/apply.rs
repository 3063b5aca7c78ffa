//! Does a plan inside a mount namespace, and undoes it in reverse when a step fails. By descriptor
//! only: what was opened without a link on the way is what is mounted on, however a thread of the
//! service swaps folders and symlinks meanwhile (runc CVE-2021-30465, kubelet CVE-2021-25741).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags};

use crate::folders;
use crate::plan::{Found, Step, Tree};

/// How often a detach is tried.
const DETACH_TRIES: u32 = 3;

/// A step that failed, after what came before it was undone.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}{}", not_undone(.stuck))]
pub(crate) struct ApplyError {
    pub step: Step,
    pub source: io::Error,
    /// What could not be undone, in words.
    pub stuck: Vec<String>,
}

fn not_undone(stuck: &[String]) -> String {
    match stuck {
        [] => String::new(),
        stuck => format!("; and could not undo: {}", stuck.join("; ")),
    }
}

/// Who does a step and undoes it: the kernel, or a list in a test.
pub(crate) trait Hands {
    fn forward(&mut self, step: &Step) -> io::Result<()>;
    fn back(&mut self, step: &Step) -> io::Result<()>;
}

/// Does all of `steps`, or none.
pub(crate) fn apply(steps: &[Step], hands: &mut impl Hands) -> Result<(), ApplyError> {
    for (done, step) in steps.iter().enumerate() {
        if let Err(source) = hands.forward(step) {
            let stuck = undo(&steps[..done], hands);
            return Err(ApplyError {
                step: step.clone(),
                source,
                stuck,
            });
        }
    }
    Ok(())
}

/// Undoes `steps`, the last one first, as far as it goes; gives what failed.
pub(crate) fn undo(steps: &[Step], hands: &mut impl Hands) -> Vec<String> {
    let back = |step: &Step| Some(format!("{step}: {}", hands.back(step).err()?));
    steps.iter().rev().filter_map(back).collect()
}

/// The kernel, in the mount namespace of the calling thread. The thread must share its working
/// folder with no other one (`sys::namespace::inside` sees to that).
#[derive(Debug)]
pub(crate) struct Namespace<'a> {
    root: OwnedFd,
    /// Clones of the instance's folder of some trees, not attached yet.
    clones: &'a [(Tree, OwnedFd)],
}

impl<'a> Namespace<'a> {
    /// For attaching these clones.
    pub fn enter(clones: &'a [(Tree, OwnedFd)]) -> io::Result<Namespace<'a>> {
        Ok(Namespace {
            root: folders::open_root()?,
            clones,
        })
    }

    /// For steps that attach nothing.
    pub fn enter_to_detach() -> io::Result<Namespace<'a>> {
        Namespace::enter(&[])
    }

    /// What is on the way to `target`.
    pub fn find(&self, target: &Path) -> io::Result<Found> {
        let mut deepest = PathBuf::from("/");
        for part in target.strip_prefix("/").unwrap_or(target).components() {
            let next = deepest.join(part);
            match folders::open_folder(&self.root, &next) {
                Ok(_) => deepest = next,
                Err(error) => {
                    let errno = Errno::from_io_error(&error);
                    let what = match errno {
                        Some(Errno::NOENT) => return Ok(Found::Absent { deepest }),
                        Some(Errno::LOOP) => "a symlink",
                        // openat2 with O_DIRECTORY tells a symlink at the end from the rest so.
                        Some(Errno::NOTDIR) if is_symlink(&self.root, &next) => "a symlink",
                        Some(Errno::NOTDIR) => "no folder",
                        _ => return Err(error),
                    };
                    return Ok(Found::Blocked { at: next, what });
                }
            }
        }
        Ok(Found::Folder)
    }

    fn attach(&self, tree: Tree, target: &Path) -> io::Result<()> {
        let clone = self.clones.iter().find(|(of, _)| *of == tree);
        let (_, clone) = clone.ok_or(io::ErrorKind::InvalidInput)?;
        let on = folders::open_folder(&self.root, target)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(rustix::mount::move_mount(clone, "", on, "", flags)?)
    }

    /// Detaches what lies on top at `point`, if it is a mount at all. umount2(2) takes no
    /// descriptor, so the name is looked up in its parent folder, which is held open.
    fn detach(&self, point: &Path) -> io::Result<()> {
        let (parent, name) = folders::open_parent(&self.root, point)?;
        let mut tries = 0;
        loop {
            if mount_id(folders::open_folder(&parent, Path::new(name))?)? == mount_id(&parent)? {
                return Ok(());
            }
            rustix::process::fchdir(&parent)?;
            let left = rustix::mount::unmount(name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            rustix::process::fchdir(&self.root)?;
            tries += 1;
            match left {
                // It is no mount any more, or the mount tables changed under the kernel's walk: met
                // once in some thousand starts, on a host that mounted and unmounted elsewhere.
                Err(Errno::INVAL) if tries < DETACH_TRIES => {}
                left => return Ok(left?),
            }
        }
    }
}

impl Hands for Namespace<'_> {
    fn forward(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::TakeOut { point } => match self.detach(point) {
                // Something lies over the way to it: then nobody in here reaches it either.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
            Step::MakeFolder { path } => folders::make(&self.root, path),
            Step::Attach { tree, target } => self.attach(*tree, target),
        }
    }

    fn back(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::TakeOut { .. } => Ok(()),
            Step::MakeFolder { path } => folders::unmake(&self.root, path),
            Step::Attach { target, .. } => self.detach(target),
        }
    }
}

/// Which mount a descriptor is on. Without asking the file system, for it may be ours and secretsd
/// may be dead.
fn mount_id(fd: impl AsFd) -> io::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(rustix::fs::statx(fd, "", flags, StatxFlags::MNT_ID)?.stx_mnt_id)
}

fn is_symlink(root: impl AsFd, path: &Path) -> bool {
    let Ok((parent, name)) = folders::open_parent(root, path) else {
        return false;
    };
    rustix::fs::readlinkat(parent, name, Vec::new()).is_ok()
}

#[cfg(test)]
mod tests;
