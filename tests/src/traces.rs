//! Everything that a pair may leave on the host, found by its folder, and how it is taken away:
//! when the pair is dropped, when its test panics, and when Ctrl-C or SIGTERM comes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, Weak};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{connections, interrupt, process, wait};

/// All pairs of this process that are still there.
static LIVE: Mutex<Vec<Weak<Traces>>> = Mutex::new(Vec::new());

/// The traces of one pair.
#[derive(Debug)]
pub struct Traces {
    folder: PathBuf,
    keeper: Mutex<Option<Pid>>,
    /// The run folder, once there is one. Held open, as the pair's cgroups are called after its
    /// inode, which must not become another pair's meanwhile.
    run_folder: Mutex<Option<File>>,
    /// The user of secretsd: the kernel keeps a keyring for it when all its processes are gone.
    uid: u32,
}

/// What [`Traces::find`] saw: empty when nothing is left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Processes, each with its command line.
    pub processes: BTreeMap<i32, String>,
    /// Mount points.
    pub mounts: Vec<PathBuf>,
    /// cgroup folders.
    pub cgroups: BTreeSet<PathBuf>,
    /// Keys in the user keyring of secretsd's user.
    pub keys: u32,
    /// The folder itself.
    pub folder: Option<PathBuf>,
}

impl Traces {
    /// Watches `folder`, which nothing else may use, until [`Traces::erase`].
    pub fn watch(folder: &Path, uid: u32) -> Arc<Traces> {
        obey_signals();
        let traces = Arc::new(Traces {
            folder: folder.canonicalize().unwrap(),
            keeper: Mutex::new(None),
            run_folder: Mutex::new(None),
            uid,
        });
        let mut live = LIVE.lock().unwrap_or_else(|dead| dead.into_inner());
        live.retain(|other| other.strong_count() > 0);
        live.push(Arc::downgrade(&traces));
        traces
    }

    /// Names the process that is asked to end the others, before anything is done by force.
    pub fn keeper_is(&self, pid: Option<u32>) {
        *self.keeper.lock().unwrap_or_else(|dead| dead.into_inner()) =
            pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    }

    /// Names the run folder: the cgroups of its services are called after its identity.
    pub fn run_folder_is(&self, path: &Path) {
        let folder = File::open(path).unwrap();
        *self
            .run_folder
            .lock()
            .unwrap_or_else(|dead| dead.into_inner()) = Some(folder);
    }

    /// What is there now.
    pub fn find(&self) -> Left {
        let processes = self.processes();
        Left {
            cgroups: self
                .own_cgroups()
                .into_iter()
                .chain(cgroups_of(processes.keys()))
                .collect(),
            processes,
            mounts: self.mounts(),
            keys: keys_of(self.uid),
            folder: self.folder.exists().then(|| self.folder.clone()),
        }
    }

    /// Takes everything away: first by asking the keeper, then by force. Does what it can and
    /// goes on, as there is nobody who could mend a failure; [`Traces::find`] says what is left.
    pub fn erase(&self) {
        let mut all: BTreeSet<i32> = self.processes().into_keys().collect();
        let keeper = self.keeper.lock().unwrap_or_else(|dead| dead.into_inner());
        if let Some(keeper) = *keeper {
            signal(
                keeper.as_raw_nonzero().get(),
                Signal::TERM,
                Duration::from_secs(10),
            );
        }
        drop(keeper);
        let mut cgroups = BTreeSet::new();
        // A process that is ended may have started another one just before.
        for patience in [2000, 0, 0, 0, 0] {
            let processes = self.processes();
            all.extend(processes.keys());
            cgroups.extend(cgroups_of(processes.keys()));
            let first = if patience > 0 {
                Signal::TERM
            } else {
                Signal::KILL
            };
            for pid in processes.keys() {
                signal(*pid, first, Duration::ZERO);
            }
            wait::within(Duration::from_millis(patience.max(500)), || {
                self.processes().is_empty().then_some(())
            });
            // A process that waits for an answer of a FUSE daemon that is gone ends with the
            // connection, and that with its last mount and descriptor.
            for mount in self.mounts().iter().rev() {
                let _ = unmount(mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            }
            if self.processes().is_empty() {
                break;
            }
        }
        connections::abort_those_of(&all);
        cgroups.extend(self.own_cgroups());
        // Deepest first; a cgroup with a process in it cannot be removed, so that none of another
        // is lost.
        for cgroup in cgroups.iter().rev() {
            let _ = std::fs::remove_dir(cgroup);
        }
        if keys_of(self.uid) > 0 {
            forget_keys(self.uid);
            // The kernel takes them away a moment later, and those of threads that have ended.
            wait::within(Duration::from_secs(5), || {
                (keys_of(self.uid) == 0).then_some(())
            });
        }
        if self.mounts().is_empty() {
            // Again: another thread may be writing a last file into it.
            wait::within(Duration::from_millis(500), || {
                let _ = std::fs::remove_dir_all(&self.folder);
                (!self.folder.exists()).then_some(())
            });
        }
    }

    /// The folder of this pair's cgroups, and all below it.
    fn own_cgroups(&self) -> BTreeSet<PathBuf> {
        let folder = self
            .run_folder
            .lock()
            .unwrap_or_else(|dead| dead.into_inner());
        let (Some(root), Some(folder)) = (cgroup_root(), folder.as_ref()) else {
            return BTreeSet::new();
        };
        let meta = folder.metadata().unwrap();
        let name = format!("{:x}-{:x}", meta.dev(), meta.ino());
        let top = root.join("deploy-secrets").join(name);
        let mut found = BTreeSet::new();
        let mut open: Vec<PathBuf> = top.exists().then_some(top).into_iter().collect();
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push(entry.path());
                }
            }
            found.insert(folder);
        }
        found
    }

    /// Mount points below the folder, in this mount namespace, outer ones first.
    fn mounts(&self) -> Vec<PathBuf> {
        mount_points()
            .into_iter()
            .filter(|point| point.starts_with(&self.folder))
            .collect()
    }

    /// Processes that carry the folder in program, command line or environment, or are in a cgroup
    /// of the pair, with all their descendants; not this process.
    fn processes(&self) -> BTreeMap<i32, String> {
        let mark = self.folder.as_os_str().as_bytes();
        let ours = std::process::id() as i32;
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            if let Some(stat) = process::stat(pid).filter(|stat| stat.runs()) {
                all.insert(pid, stat.parent);
            }
        }
        let carries = |pid: i32| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let exe = std::fs::read_link(proc.join("exe")).unwrap_or_default();
            exe.starts_with(&self.folder)
                || ["cmdline", "environ"].iter().any(|file| {
                    let text = std::fs::read(proc.join(file)).unwrap_or_default();
                    text.windows(mark.len()).any(|part| part == mark)
                })
        };
        let mut found: BTreeSet<i32> = all
            .keys()
            .copied()
            .filter(|pid| *pid != ours && carries(*pid))
            .collect();
        for cgroup in self.own_cgroups() {
            let members = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            let members = members.lines().filter_map(|line| line.parse().ok());
            found.extend(members.filter(|pid| all.contains_key(pid)));
        }
        loop {
            let more: Vec<i32> = all
                .iter()
                .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
                .map(|(pid, _)| *pid)
                .collect();
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        found.remove(&ours);
        found
            .into_iter()
            .map(|pid| (pid, command_line(pid)))
            .collect()
    }

    /// Running processes of the pair whose program has this name, lowest pid first; also if its file
    /// was replaced. Without those that make calls for one of them (sys::apart).
    pub fn running(&self, program: &str) -> Vec<i32> {
        let is_it = |exe: PathBuf| {
            let name = exe.file_name().and_then(|name| name.to_str());
            name.map(|name| name.trim_end_matches(" (deleted)")) == Some(program)
        };
        let all = self.processes().into_iter();
        all.filter(|(_, line)| line.split(' ').nth(1) != Some("apart"))
            .map(|(pid, _)| pid)
            .filter(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(is_it))
            .collect()
    }
}

/// Sends a signal and waits for the end, at most `patience`. By pidfd, so that a number used
/// again is never hit once we hold it.
pub fn signal(pid: i32, signal: Signal, patience: Duration) {
    let Some(pid) = Pid::from_raw(pid) else {
        return;
    };
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
        let _ = pidfd_send_signal(&pidfd, signal);
        if !patience.is_zero() {
            wait::readable(&pidfd, patience);
        }
    }
}

fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn mount_points() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .collect()
}

/// Where the host's cgroup v2 hierarchy is.
pub fn cgroup_root() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    text.lines()
        .find(|line| line.contains(" - cgroup2 "))
        .and_then(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
}

/// The cgroups that these processes are in, without our own and what is above it.
fn cgroups_of<'a>(pids: impl Iterator<Item = &'a i32>) -> BTreeSet<PathBuf> {
    let Some(root) = cgroup_root() else {
        return BTreeSet::new();
    };
    let own = process::cgroup(std::process::id() as i32).unwrap_or_default();
    pids.filter_map(|pid| process::cgroup(*pid))
        .filter(|path| path != "/" && !own.starts_with(path.as_str()))
        .map(|path| root.join(path.trim_start_matches('/')))
        .collect()
}

/// The user's own keyring and its session's: once used, the kernel keeps the two for ever.
const KEYRINGS: u32 = 2;

/// How many keys a user has, beside its keyrings (`/proc/key-users`).
fn keys_of(uid: u32) -> u32 {
    let text = std::fs::read_to_string("/proc/key-users").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(user, _)| user.trim().parse() == Ok(uid))
        .filter_map(|(_, rest)| {
            rest.split_whitespace()
                .nth(1)?
                .split('/')
                .next()?
                .parse::<u32>()
                .ok()
        })
        .next()
        .unwrap_or(0)
        .saturating_sub(KEYRINGS)
}

/// Empties the user keyring of `uid`, as that user: nobody else may.
pub(crate) fn forget_keys(uid: u32) {
    let probe = crate::programs::build_folder().join("probe");
    let Ok(folder) = tempfile::Builder::new()
        .prefix("dk-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .tempdir_in("/tmp")
    else {
        return;
    };
    if probe.exists() {
        let probe = crate::programs::copy_for_all(&probe, folder.path());
        let id = uid.to_string();
        let _ = std::process::Command::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
            .arg(probe)
            .arg("forget-keys")
            .status();
    }
}

/// Makes Ctrl-C, SIGTERM and SIGHUP take everything away before this process ends of them.
pub fn obey_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).unwrap();
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                interrupt::comes();
                let live = LIVE.lock().unwrap_or_else(|dead| dead.into_inner());
                for traces in live.iter().filter_map(Weak::upgrade) {
                    traces.erase();
                    let left = traces.find();
                    if left != Left::default() {
                        eprintln!("left on the host: {left:#?}");
                    }
                }
                std::process::exit(128 + signal);
            }
        });
    });
}
