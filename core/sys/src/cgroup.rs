//! Cgroups v2: one for each service, so that all of its processes can be named and ended.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::mountinfo;

/// The topmost folder that is ours; it goes with the last cgroup in it.
const OURS: &str = "deploy-secrets";
/// A process that is stuck in the kernel longer than this is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Others may remove an empty parent while we make a folder in it.
const TRIES: usize = 16;

/// Where cgroup v2 is mounted, also on a hybrid hierarchy; `None` where it is not.
pub fn root() -> Option<PathBuf> {
    Some(hierarchy().ok()?.point)
}

/// The mount of cgroup v2, and the cgroup that is its root (`/` but for binds).
#[derive(Debug)]
struct Hierarchy {
    point: PathBuf,
    top: PathBuf,
}

fn hierarchy() -> io::Result<Hierarchy> {
    let table = fs::read("/proc/self/mountinfo")?;
    let mounts = mountinfo::lines(&table).filter(|line| line.kind == b"cgroup2");
    let all = mounts.map(|line| Hierarchy {
        point: line.point().into(),
        top: line.root().into(),
    });
    // The whole of it before a part.
    all.min_by_key(|one| one.top.as_os_str().len())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "cgroup v2 is not mounted"))
}

/// A cgroup.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    /// As in /proc/PID/cgroup.
    path: String,
}

impl Cgroup {
    /// Makes `name` below the folder `parent` of the mount that [`root`] names, and `parent` where it
    /// is not there. One of that name without a process in it is taken.
    ///
    /// # Errors
    /// `parent` is not below that mount, `name` is no single name, or processes run in it already; or
    /// as mkdir(2): often EROFS or EACCES in a container.
    pub fn create(parent: &Path, name: &str) -> io::Result<Cgroup> {
        if !is_single(OsStr::new(name)) {
            return Err(invalid("the name of a cgroup is one path component"));
        }
        let folder = parent.join(name);
        let path = path_of(&folder)?;
        let mut made = Err(io::ErrorKind::NotFound.into());
        for _ in 0..TRIES {
            // Both errors: a parent was removed in between.
            made = match fs::create_dir_all(parent) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => Err(error),
                Ok(()) => fs::create_dir(&folder),
            };
            if !matches!(&made, Err(error) if error.kind() == io::ErrorKind::NotFound) {
                break;
            }
        }
        let cgroup = Cgroup { folder, path };
        match made {
            Ok(()) => Ok(cgroup),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if cgroup.is_populated()? {
                    return Err(error);
                }
                Ok(cgroup)
            }
            Err(error) => Err(error),
        }
    }

    /// The cgroup that /proc/PID/cgroup names `path` (what follows `0::`).
    ///
    /// # Errors
    /// There is none (`NotFound`), or `path` is no absolute path in normal form.
    pub fn open(path: &str) -> io::Result<Cgroup> {
        let hierarchy = hierarchy()?;
        let below = Path::new(path).strip_prefix(&hierarchy.top);
        let below = below.map_err(|_| invalid("the cgroup is outside the mounted hierarchy"))?;
        if !below
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(invalid("the path of a cgroup has no `..`"));
        }
        let folder = hierarchy.point.join(below);
        if !fs::symlink_metadata(&folder)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let path = path.to_owned();
        Ok(Cgroup { folder, path })
    }

    /// Its path as /proc/PID/cgroup says it after `0::`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What no other cgroup of this boot has: the inode of its folder.
    ///
    /// # Errors
    /// It is gone.
    pub fn id(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.folder)?.ino())
    }

    /// The processes in it and below it, as far as our pid namespace has numbers for them.
    ///
    /// # Errors
    /// It is gone.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let text = fs::read_to_string(self.folder.join("cgroup.procs"))?;
        let pids = text.lines().filter_map(|line| line.parse().ok());
        let mut all: Vec<i32> = pids.filter(|pid| *pid > 0).collect();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let folder = entry.path();
                let path = format!("{}/{}", self.path, entry.file_name().display());
                // One that goes meanwhile has none.
                all.extend(Cgroup { folder, path }.processes().unwrap_or_default());
            }
        }
        Ok(all)
    }

    /// Where a process that writes `0` comes in.
    pub(crate) fn entrance(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = self.folder.join("cgroup.procs");
        Ok(rustix::fs::open(file, flags, Mode::empty())?)
    }

    /// Ends every process in it and below it, those too that are being forked, and waits until there
    /// is none (cgroup.kill, Linux 5.14).
    ///
    /// # Errors
    /// A process does not end in time (`TimedOut`), stuck in the kernel; or we may not.
    pub fn kill(&self) -> io::Result<()> {
        match fs::write(self.folder.join("cgroup.kill"), "1") {
            Err(error) if is_gone(&error) && !self.folder.exists() => return Ok(()),
            written => written?,
        }
        self.wait_until_empty(Instant::now() + PATIENCE)
    }

    fn wait_until_empty(&self, deadline: Instant) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let events = self.folder.join("cgroup.events");
        let events = match rustix::fs::open(events, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        loop {
            let mut text = [0; 256];
            let length = match rustix::io::pread(&events, &mut text[..], 0) {
                // Somebody has removed it.
                Err(Errno::NODEV) => return Ok(()),
                read => read?,
            };
            if !says_populated(text.get(..length).unwrap_or_default()) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(stuck());
            }
            // The read has armed it: a change from then on is told.
            let mut fds = [PollFd::new(&events, PollFlags::PRI)];
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut fds, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn is_populated(&self) -> io::Result<bool> {
        match fs::read(self.folder.join("cgroup.events")) {
            Ok(text) => Ok(says_populated(&text)),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes it with the empty cgroups in it, and then those above it, up to `deploy-secrets`, that
    /// nobody else uses.
    ///
    /// # Errors
    /// There are processes in it.
    pub fn remove(&self) -> io::Result<()> {
        remove_below(&self.folder)?;
        let mut above = self.folder.as_path();
        let ours = |folder: &Path| folder.components().any(|part| part.as_os_str() == OURS);
        while let Some(parent) = above.parent().filter(|parent| ours(parent)) {
            // Others may have theirs in it.
            if fs::remove_dir(parent).is_err() {
                break;
            }
            above = parent;
        }
        Ok(())
    }
}

/// The path in /proc/PID/cgroup of a folder of the mount.
fn path_of(folder: &Path) -> io::Result<String> {
    let hierarchy = hierarchy()?;
    let below = folder.strip_prefix(&hierarchy.point);
    let below = below.map_err(|_| invalid("the folder is not below the mount of cgroup v2"))?;
    if !below
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(invalid("the path of a cgroup has no `..`"));
    }
    let path = hierarchy.top.join(below).into_os_string();
    path.into_string()
        .map_err(|_| invalid("the path of a cgroup is UTF-8"))
}

fn is_single(name: &OsStr) -> bool {
    let mut parts = Path::new(name).components();
    let single = matches!(parts.next(), Some(Component::Normal(part)) if part == name);
    single && parts.next().is_none() && !name.as_bytes().contains(&b'\n')
}

fn says_populated(events: &[u8]) -> bool {
    events
        .split(|byte| *byte == b'\n')
        .any(|line| line == b"populated 1")
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn stuck() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "a process in it does not end")
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn remove_below(folder: &Path) -> io::Result<()> {
    for child in children(folder)? {
        remove_below(&child)?;
    }
    let start = Instant::now();
    loop {
        match fs::remove_dir(folder) {
            // Processes that have ended may count for a moment longer.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if start.elapsed() >= Duration::from_millis(100) {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
}

fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
