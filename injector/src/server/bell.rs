//! Rings: touches through the master mounts that make inotify fire behind every view. secretsd
//! answers each of them, so a ring can hang until the next secretsd is there; that is why it is not
//! secretsd that rings, and why nothing else waits for a ring.
//!
//! A service can hang those of its own instance too, for as long as it likes: by holding the lock of
//! its folder, in a getdents(2) into memory that is mapped from a stalled file system of its own. So
//! one thread at a time touches an instance, and the others do not wait behind it.
//!
//! The paths come from secretsd, which is not trusted: they are walked below a master mount of its
//! own and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use control::inner::RingTarget;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use sys::lock::lock;

use super::connections::Connections;

/// More threads than this touch nothing at once.
const AT_ONCE: usize = 64;
/// So many work for one question, as long as none is stuck.
const OF_A_QUESTION: usize = 8;
/// A ring takes some 100 us; one that takes this long is stuck.
const STUCK: Duration = Duration::from_millis(100);
/// What belongs to the master mounts and to no instance.
const NO_INSTANCE: u64 = 0;
/// An inode number has the instance's in the bits from here on.
const INSTANCE_SHIFT: u32 = 44;

const BELOW: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// What is done to a file.
pub(super) type Touch = fn(BorrowedFd<'_>, &Path) -> io::Result<()>;

/// The same, with the master mount found.
type Act = dyn Fn(&RingTarget) -> io::Result<()> + Send + Sync;

/// Which instances are being touched.
#[derive(Debug, Default)]
pub(super) struct Bell {
    busy: Mutex<BTreeSet<u64>>,
    free: Condvar,
}

/// A thread's turn at an instance; given back when dropped.
#[derive(Debug)]
struct Turn {
    bell: Arc<Bell>,
    instance: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.bell.busy).remove(&self.instance);
        self.bell.free.notify_all();
    }
}

impl Bell {
    fn turn(self: &Arc<Self>, instance: u64) -> io::Result<Turn> {
        let no_turn = |busy: &mut BTreeSet<u64>| busy.contains(&instance) || busy.len() >= AT_ONCE;
        let waited = self
            .free
            .wait_timeout_while(lock(&self.busy), STUCK, |busy| no_turn(busy));
        let mut busy = match waited {
            Ok((busy, _)) => busy,
            Err(poisoned) => poisoned.into_inner().0,
        };
        if no_turn(&mut busy) {
            return Err(stuck());
        }
        busy.insert(instance);
        drop(busy);
        Ok(Turn {
            bell: Arc::clone(self),
            instance,
        })
    }

    /// Touches all of `targets`, as far as it goes; gives the first failure.
    pub fn touch(
        self: &Arc<Self>,
        connections: &Arc<Connections>,
        targets: Vec<RingTarget>,
        how: Touch,
    ) -> io::Result<()> {
        let connections = Arc::clone(connections);
        let act = move |target: &RingTarget| {
            let master = match target.tree.as_str() {
                "config" => connections.config(),
                _ => connections.secret(),
            };
            how(master, &target.path)
        };
        self.each(targets, Arc::new(act))
    }

    /// By instance, each on a thread of its own where there are several.
    fn each(self: &Arc<Self>, targets: Vec<RingTarget>, act: Arc<Act>) -> io::Result<()> {
        let mut groups: BTreeMap<u64, Vec<RingTarget>> = BTreeMap::new();
        for target in targets {
            groups
                .entry(instance_of(&target.path))
                .or_default()
                .push(target);
        }
        if groups.len() == 1 {
            return groups.into_iter().try_for_each(|(instance, targets)| {
                let _turn = self.turn(instance)?;
                all(&targets, &*act)
            });
        }
        let mut result = Ok(());
        let (done, is_done) = channel();
        let mut running = 0;
        for (instance, targets) in groups {
            while running >= OF_A_QUESTION {
                match is_done.recv_timeout(STUCK) {
                    Ok(ended) => {
                        running -= 1;
                        result = result.and(ended);
                    }
                    // All of them are stuck; one more can go on.
                    Err(_) => break,
                }
            }
            let turn = match self.turn(instance) {
                Ok(turn) => turn,
                Err(error) => {
                    result = result.and(Err(error));
                    continue;
                }
            };
            let (done, act) = (done.clone(), Arc::clone(&act));
            std::thread::Builder::new()
                .name("ring".into())
                .spawn(move || {
                    let ended = all(&targets, &*act);
                    drop(turn);
                    let _ = done.send(ended);
                })?;
            running += 1;
        }
        drop(done);
        loop {
            match is_done.recv_timeout(STUCK) {
                Ok(ended) => result = result.and(ended),
                Err(RecvTimeoutError::Timeout) => return result.and(Err(stuck())),
                Err(RecvTimeoutError::Disconnected) => return result,
            }
        }
    }
}

fn stuck() -> io::Error {
    io::Error::other("an instance does not let its folder be touched")
}

/// Goes on after a failure: one file that is gone must not silence the others.
fn all(targets: &[RingTarget], act: &Act) -> io::Result<()> {
    targets.iter().map(act).fold(Ok(()), Result::and)
}

/// `7/db_password` and `.inode/NUMBER` belong to an instance; what does not, is not waited for by
/// one either.
fn instance_of(path: &Path) -> u64 {
    let mut parts = path.components().map(|part| part.as_os_str().to_str());
    let number = |part: Option<Option<&str>>| part.flatten().and_then(|part| part.parse().ok());
    match parts.next() {
        Some(Some(".inode")) => {
            number(parts.next()).map_or(NO_INSTANCE, |ino: u64| ino >> INSTANCE_SHIFT)
        }
        first => number(first).unwrap_or(NO_INSTANCE),
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

    fn target(path: &str) -> RingTarget {
        RingTarget {
            tree: "secret".to_owned(),
            path: path.into(),
        }
    }

    #[test]
    fn a_path_tells_its_instance() {
        for (path, instance) in [
            ("7/db_password", 7),
            ("7/tls/cert.pem", 7),
            (".inode/123145571020801", 7),
            (".inode/x", NO_INSTANCE),
            ("../7", NO_INSTANCE),
            ("", NO_INSTANCE),
        ] {
            assert_eq!(instance_of(Path::new(path)), instance, "{path}");
        }
    }

    /// Touches hang below instance 1, fail at 2, and are written down elsewhere.
    fn hands(gate: &Arc<Mutex<()>>, touched: &Arc<Mutex<Vec<String>>>) -> Arc<Act> {
        let (gate, touched) = (Arc::clone(gate), Arc::clone(touched));
        Arc::new(move |target| {
            match instance_of(&target.path) {
                1 => drop(lock(&gate)),
                2 => return Err(io::ErrorKind::PermissionDenied.into()),
                _ => lock(&touched).push(target.path.display().to_string()),
            }
            Ok(())
        })
    }

    #[test]
    fn an_instance_that_hangs_or_fails_blocks_its_own_rings_at_most() {
        let bell = Arc::new(Bell::default());
        let (gate, touched) = (Arc::default(), Arc::default());
        let act = hands(&gate, &touched);
        let closed = lock(&gate);
        let targets = ["1/a", "2/a", "2/b", "3/a", "3/b"].map(target).to_vec();
        assert!(bell.each(targets, Arc::clone(&act)).is_err());
        assert_eq!(*lock(&touched), ["3/a", "3/b"]);
        // Again, and as often as one likes: no thread is added to the one that hangs.
        for _ in 0..3 {
            assert!(bell.each(vec![target("1/a")], Arc::clone(&act)).is_err());
            assert!(bell.each(vec![target("3/a")], Arc::clone(&act)).is_ok());
        }
        assert_eq!(lock(&bell.busy).len(), 1);
        drop(closed);
        drop(
            bell.free
                .wait_while(lock(&bell.busy), |busy| !busy.is_empty())
                .unwrap(),
        );
        assert!(bell.each(vec![target("1/a")], act).is_ok());
    }

    #[test]
    fn rings_that_hang_are_bounded() {
        let bell = Arc::new(Bell::default());
        let turns: Vec<_> = (0..AT_ONCE as u64).map(|n| bell.turn(n).unwrap()).collect();
        assert!(bell.turn(1000).is_err());
        drop(turns);
        assert!(bell.turn(1000).is_ok());
    }
}
