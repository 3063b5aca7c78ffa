//! A booted Debian 12 under systemd-nspawn, over an overlay of a tree that `make guests` has made. It
//! has a network of its own with nothing in it. Nothing of it is mounted on the host, and nothing
//! stays there: not after a panic, and of a test program that was killed what is left goes at the next
//! boot.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::claim::ClaimedUser;
use crate::command::{Finished, end_of, run};
use crate::{interrupt, traces, wait};

/// The tree, made by packaging/guest.sh.
const TREE: &str = "/var/cache/deploy-secrets-tests/bookworm";
/// What all our machines are called: the prefix, the process, a number.
const PREFIX: &str = "ds-guest";
/// The filter of nspawn itself knows neither; every real host has them.
const CALLS: &str = "@keyring landlock_create_ruleset landlock_add_rule landlock_restrict_self";

/// A guest that runs.
pub struct Guest {
    folder: PathBuf,
    cgroups: Vec<PathBuf>,
    boots: Option<Boot>,
    /// secretsd's in the guest: the kernel's keyrings are the host's, and must be of nobody there.
    user: ClaimedUser,
}

struct Boot {
    nspawn: Child,
    /// Its first process, as the host numbers it.
    leader: Pid,
}

impl Guest {
    /// Boots a Debian that has only what debootstrap gives it.
    ///
    /// # Panics
    /// There is no tree, or it does not come up.
    #[track_caller]
    pub fn boot() -> Guest {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(Path::new(TREE).exists(), "no {TREE}: run `make guests`");
        sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}", std::process::id());
        let creating = interrupt::creating();
        let folder = Path::new("/tmp").join(&name);
        for part in ["", "upper", "work", "root"] {
            std::fs::create_dir(folder.join(part)).unwrap();
        }
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        drop(creating);
        let user = ClaimedUser::claim();
        let mut guest = Guest {
            folder,
            cgroups: hierarchies().map(|path| path.join(&name)).collect(),
            boots: None,
            user,
        };
        guest.start();
        // In place of the file of the same name that the package has. Not before the first boot, which
        // would make the users.
        let lines = format!("u deploy-secrets {} - /\ng deploy - -\n", guest.user.uid());
        guest.write("/etc/sysusers.d/deploy-secrets.conf", lines);
        guest
    }

    /// Ends all of it at once, as a power cut does, and boots it again.
    #[track_caller]
    pub fn boot_again(&mut self) {
        // What a guest has written is in the host's cache, and so survives.
        self.end();
        self.start();
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.folder.join("console")).unwrap();
        let path = |part: &str| self.folder.join(part).display().to_string();
        let (upper, work, root) = (path("upper"), path("work"), path("root"));
        let cgroups = self.cgroups.iter().map(|path| path.display().to_string());
        let script = format!(
            "set -e; for cgroup in {}; do mkdir -p $cgroup; echo $$ >$cgroup/cgroup.procs; done; \
             mount -t overlay overlay -o lowerdir={TREE},upperdir={upper},workdir={work} {root}; \
             exec systemd-nspawn -q -D {root} --boot --register=no --keep-unit --machine=guest \
             --console=pipe --private-network --capability=all --bind=/dev/fuse \
             '--system-call-filter={CALLS}'",
            cgroups.collect::<Vec<_>>().join(" ")
        );
        let creating = interrupt::creating();
        // In a mount namespace of its own; should this process be killed, it ends by itself.
        let nspawn = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .args(["unshare", "--mount", "--propagation", "private", "--"])
            .args(["setsid", "sh", "-c", &script])
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        drop(creating);
        let leader = wait::until("the guest's first process", || first_process(nspawn.id()));
        self.boots = Some(Boot { nspawn, leader });
        wait::until("a guest that answers", || {
            let ask = self.command("systemctl is-system-running --wait");
            let state = run(ask, b"").out();
            ["running", "degraded"]
                .contains(&state.trim())
                .then_some(())
        });
    }

    fn leader(&self) -> i32 {
        let boot = self.boots.as_ref().expect("the guest runs");
        boot.leader.as_raw_nonzero().get()
    }

    /// A command that runs a shell's script in it.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.leader().to_string(), "--all", "--"])
            .args([
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root",
            ])
            .args(["LANG=C.UTF-8", "sh", "-c", script]);
        command
    }

    /// Runs a shell's script in it.
    #[track_caller]
    pub fn run(&self, script: &str) -> Finished {
        run(self.command(script), b"")
    }

    /// Runs a shell's script that must succeed, and gives what it prints.
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        self.run(script).ok().out().trim().to_owned()
    }

    /// A path of the guest, as the host has it.
    pub fn path(&self, path: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.leader()));
        root.join(path.trim_start_matches('/'))
    }

    /// Writes a file into it.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Copies a file of the host to the guest's /root, and gives its path there.
    #[track_caller]
    pub fn copy(&self, from: &Path) -> String {
        let to = format!("/root/{}", from.file_name().unwrap().to_string_lossy());
        std::fs::copy(from, self.path(&to)).unwrap();
        to
    }

    /// Installs a program of Debian's with all that it needs; `make guests` has fetched them.
    #[track_caller]
    pub fn install(&self, name: &str) {
        let debs = Path::new(&format!("{TREE}-debs")).join(name);
        let found = std::fs::read_dir(&debs);
        let found = found.unwrap_or_else(|_| panic!("no {}: run `make guests`", debs.display()));
        let all: Vec<_> = found.map(|deb| self.copy(&deb.unwrap().path())).collect();
        let mut install = self.command(&format!(
            "DEBIAN_FRONTEND=noninteractive dpkg --install {0} && rm {0}",
            all.join(" ")
        ));
        // Longer than what a test waits for.
        let said = install.output().unwrap();
        let words = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{words}");
    }

    fn end(&mut self) {
        let Some(mut boot) = self.boots.take() else {
            return;
        };
        let _ = kill_process(boot.leader, Signal::KILL);
        if end_of(&mut boot.nspawn, Duration::from_secs(20)).is_none() {
            let _ = boot.nspawn.kill();
            let _ = boot.nspawn.wait();
        }
        for cgroup in &self.cgroups {
            remove_cgroup(cgroup);
        }
        // As the end of a kernel does.
        traces::forget_keys(self.user.uid());
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() && self.boots.is_some() {
            let journal = "journalctl --no-pager -o short-precise -n 200 | grep -v secretsd-audit";
            let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run(journal)));
            if let Ok(journal) = end {
                eprintln!("--- the guest's journal\n{}", journal.out());
            }
        }
        self.end();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Where a process finds its cgroups: of systemd, and the second version's.
fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let all = match top.join("cgroup.controllers").exists() {
        true => vec![top.to_owned()],
        false => vec![top.join("unified"), top.join("systemd")],
    };
    all.into_iter().filter(|path| path.exists())
}

/// nspawn's child that is the first process of a pid namespace; nspawn is what `setpriv` becomes, or
/// a child of that.
fn first_process(started: u32) -> Option<Pid> {
    let own = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let mut all = children(started);
    while let Some(pid) = all.pop() {
        let its = std::fs::read_link(format!("/proc/{pid}/ns/pid"));
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        match (its, comm) {
            (Ok(its), Ok(comm)) if its != own => {
                // It is in all its namespaces when it has become init.
                let ready = comm.trim() == "systemd";
                let pid = ready.then(|| i32::try_from(pid).ok()).flatten()?;
                return Pid::from_raw(pid);
            }
            _ => all.extend(children(pid)),
        }
    }
    None
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// With those below it, once their last process is gone.
fn remove_cgroup(path: &Path) {
    // Its first process outlives an nspawn that is killed. Of the older hierarchy all are in both.
    let _ = std::fs::write(path.join("cgroup.kill"), "1");
    wait::within(Duration::from_secs(10), || {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                remove_below(&entry.path());
            }
        }
        let _ = std::fs::remove_dir(path);
        (!path.exists()).then_some(())
    });
}

fn remove_below(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_below(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(path);
}

/// What a test program has left that was killed.
fn sweep() {
    let of_the_dead = |path: &Path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let pid = name
            .strip_prefix(PREFIX)?
            .strip_prefix('-')?
            .split('-')
            .next()?
            .to_owned();
        let pid: u32 = pid.parse().ok()?;
        (!Path::new("/proc").join(pid.to_string()).exists()).then_some(())
    };
    for top in hierarchies().chain([PathBuf::from("/tmp")]) {
        for entry in std::fs::read_dir(&top).into_iter().flatten().flatten() {
            let path = entry.path();
            if of_the_dead(&path).is_none() {
                continue;
            }
            match top.starts_with("/tmp") {
                true => drop(std::fs::remove_dir_all(&path)),
                false => remove_cgroup(&path),
            }
        }
    }
}
