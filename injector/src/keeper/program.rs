//! One of the keeper's two programs: how it is started, and what is kept for it between two lives.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;
use sys::process::{Child, Spawn};
use sys::users::Account;

use super::KeeperError;
use crate::notify::{FdStore, NotifySocket};
use crate::run_dir::RunDir;

/// As `RestartSec=` in our units.
const RESTART_AFTER: Duration = Duration::from_millis(100);
/// What of the keeper's own environment its programs see: how much they say, whether secrets are opened
/// although that cannot be written down, and where the journal is.
const PASSED_ON: [&str; 4] = [
    "RUST_LOG",
    "RUST_BACKTRACE",
    "DEPLOY_AUDIT_FAIL_OPEN",
    "DEPLOY_JOURNAL_SOCKET",
];
/// How long until the next attempt if it cannot be started at all.
const START_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// What the injector needs of root's capabilities: to mount, and to enter mount namespaces (two); to
/// see in which one a service of another user is; to ring for that user's files, and to make folders
/// below his. Suites fail without each of these. The last one ends a service whose supervisor was
/// killed on a host where it has no cgroup v2 by which to end it.
const OF_INJECTOR: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::KILL);

/// What to start.
#[derive(Debug)]
pub(super) enum Recipe {
    Injector {
        program: PathBuf,
        run_dir: PathBuf,
        daemon_uid: u32,
    },
    Secretsd {
        program: PathBuf,
        state_dir: PathBuf,
        run_dir: PathBuf,
        account: Account,
    },
}

impl Recipe {
    fn name(&self) -> &'static str {
        match self {
            Recipe::Injector { .. } => "injector",
            Recipe::Secretsd { .. } => "secretsd",
        }
    }

    fn program(&self) -> &Path {
        match self {
            Recipe::Injector { program, .. } | Recipe::Secretsd { program, .. } => program,
        }
    }

    /// Who may speak on its notify socket.
    fn uid(&self) -> u32 {
        match self {
            Recipe::Injector { .. } => 0,
            Recipe::Secretsd { account, .. } => account.uid,
        }
    }

    fn spawn(&self) -> Spawn<'_> {
        match self {
            Recipe::Injector {
                program,
                run_dir,
                daemon_uid,
            } => Spawn::new(program)
                .arg("serve")
                .arg("--run-dir")
                .arg(run_dir)
                .arg("--daemon-user")
                .arg(daemon_uid.to_string())
                .new_net_namespace()
                .keep_capabilities(OF_INJECTOR)
                .no_new_privileges(),
            // Unprivileged from its first instruction: nothing is left for it to drop.
            Recipe::Secretsd {
                program,
                state_dir,
                run_dir,
                account,
            } => Spawn::new(program)
                .arg("serve")
                .env("DEPLOY_STATE_DIR", state_dir)
                .env("DEPLOY_RUN_DIR", run_dir)
                .user(account.uid, account.gid, &[])
                .new_net_namespace()
                .drop_capabilities()
                .no_new_privileges(),
        }
    }
}

/// A program that is to run all the time.
#[derive(Debug)]
pub(super) struct Program {
    recipe: Recipe,
    notify: NotifySocket,
    /// Handed over at each start, before what it has stored itself.
    listen: Vec<(String, OwnedFd)>,
    store: FdStore,
    child: Option<Child>,
    ready: bool,
    start_at: Instant,
}

impl Program {
    /// Binds its notify socket; does not start it yet.
    pub fn new(
        run_dir: &RunDir,
        listen: Vec<(String, OwnedFd)>,
        recipe: Recipe,
    ) -> Result<Program, KeeperError> {
        let path = run_dir.notify().join(recipe.name());
        let notify = NotifySocket::bind(&path, recipe.uid())
            .map_err(|source| KeeperError::RunFolder { path, source })?;
        Ok(Program {
            recipe,
            notify,
            listen,
            store: FdStore::default(),
            child: None,
            ready: false,
            start_at: Instant::now(),
        })
    }

    /// Did it say that it is ready, in this life?
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// How long until it has to be started; `None` while it runs.
    pub fn due(&self) -> Option<Duration> {
        let due = self.start_at.saturating_duration_since(Instant::now());
        self.child.is_none().then_some(due)
    }

    /// Takes its messages.
    pub fn hear(&mut self) -> io::Result<()> {
        while let Some(asked) = self.notify.receive(&mut self.store)? {
            self.ready |= asked.ready;
        }
        Ok(())
    }

    /// Notices its end. Before everything was ready once, giving up is final.
    pub fn reap(&mut self, was_ready: bool) -> Result<(), KeeperError> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        let Some(ended) = child.try_wait()? else {
            return Ok(());
        };
        self.child = None;
        self.ready = false;
        self.start_at = Instant::now() + RESTART_AFTER;
        let name = self.recipe.name();
        log::warn!("{name} ended: {ended}; starting it again");
        match ended.code() {
            Some(code) if !was_ready => Err(KeeperError::GaveUp { name, code }),
            _ => Ok(()),
        }
    }

    /// Starts it, if it does not run and its time has come. Once everything was ready, one that cannot
    /// be started is tried again: it is being replaced, or there is no memory now.
    pub fn start_if_due(&mut self, was_ready: bool) -> Result<(), KeeperError> {
        if self.due() != Some(Duration::ZERO) {
            return Ok(());
        }
        match self.start() {
            Err(error) if was_ready => {
                log::error!("{error}; trying again");
                self.start_at = Instant::now() + START_AGAIN_AFTER;
                Ok(())
            }
            started => started,
        }
    }

    fn start(&mut self) -> Result<(), KeeperError> {
        let mut spawn = self
            .recipe
            .spawn()
            .env("NOTIFY_SOCKET", self.notify.path())
            // The keeper's terminal sends Ctrl-C to the keeper alone, which ends them in order.
            .new_process_group()
            // Without a keeper nobody would start them again; the next one starts afresh.
            .parent_death_signal(libc::SIGKILL);
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                spawn = spawn.env(name, value);
            }
        }
        let own = self
            .listen
            .iter()
            .map(|(name, fd)| (name.as_str(), fd.as_fd()));
        for (name, fd) in own.chain(self.store.iter()) {
            spawn = spawn.listen_fd(name, fd);
        }
        self.child = Some(spawn.start().map_err(|source| KeeperError::Start {
            program: self.recipe.program().to_owned(),
            source,
        })?);
        Ok(())
    }

    /// SIGTERM, and SIGKILL when patience ends.
    pub fn stop(&mut self, patience: Duration) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let _ = child.signal(libc::SIGTERM);
        if !crate::process::ends_within(child.pidfd(), patience) {
            log::warn!("{} does not end; killed", self.recipe.name());
            let _ = child.signal(libc::SIGKILL);
            if !crate::process::ends_within(child.pidfd(), patience) {
                return log::error!("{} cannot be killed", self.recipe.name());
            }
        }
        let _ = child.wait();
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}
