//! The keeper: starts secretsd and the injector, starts them again, and holds their descriptors.
//! It touches no mount and waits for nobody, so that a FUSE request without an answer cannot stop
//! it. Where systemd runs, systemd is the keeper, and none of this is used.

mod program;
mod run_folder;

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::program::{Program, Recipe};
use self::run_folder::RunFolder;
use crate::run_dir::RunDir;
use crate::signals::Signals;

/// How long a program may take to end before it is killed, and how long cleaning may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `deploy-inject up` needs to know.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// secretsd's store; made by `deploy init`.
    pub state_dir: PathBuf,
    /// The run folder; made if it is not there.
    pub run_dir: PathBuf,
    /// secretsd's user: a name, a number, or `UID:GID`.
    pub user: String,
    /// The program secretsd; default: the one beside this program.
    pub secretsd: Option<PathBuf>,
    /// The program deploy-inject; default: this program.
    pub injector: Option<PathBuf>,
}

/// Why the keeper did not start, or gave up.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The run folder, or something in it, cannot be made.
    #[error("cannot prepare {}: {source}", path.display())]
    RunFolder {
        /// What could not be made.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could swap what is in the run folder.
    #[error(
        "the run folder {} is not root's; name another one with --run-dir, or chown it to root",
        path.display()
    )]
    NotRoots {
        /// The folder.
        path: PathBuf,
    },
    /// A keeper has this run folder.
    #[error(
        "another `deploy-inject up` runs on {}; stop it first, or use another --run-dir",
        path.display()
    )]
    AlreadyRunning {
        /// The folder.
        path: PathBuf,
    },
    /// The user of secretsd is unknown.
    #[error("cannot find the user `{user}` of secretsd: {source}; see --user")]
    User {
        /// What was asked for.
        user: String,
        /// Why not.
        source: io::Error,
    },
    /// secretsd may not be root: it would have every capability that it must not have.
    #[error("secretsd must not run as root; give it a user of its own with --user")]
    Root,
    /// A program cannot be started at all.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program gave up before everything was ready: starting it again would not help.
    #[error("{name} gave up while starting (exit code {code}); its own message says why")]
    GaveUp {
        /// secretsd or the injector.
        name: &'static str,
        /// Its exit code.
        code: i32,
    },
    /// poll(2) and the like.
    #[error("the keeper cannot go on: {0}")]
    System(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT, then takes down all that it made. Prints `ready` to standard
/// output when both programs are, and tells systemd, if that started it.
///
/// # Errors
/// See [`KeeperError`]. What was made is taken down then, too.
pub fn up(options: &UpOptions) -> Result<(), KeeperError> {
    let signals = Signals::take_over(&[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD])?;
    let account = account(&options.user)?;
    let own = std::env::current_exe()?;
    let injector = options.injector.clone().unwrap_or_else(|| own.clone());
    let secretsd = match &options.secretsd {
        Some(path) => path.clone(),
        None => own.with_file_name("secretsd"),
    };

    let folder = RunFolder::claim(&options.run_dir)?;
    // Leftovers of a killed predecessor; running services keep their place in the registry.
    run_part(&injector, "clean", folder.paths(), &["--keep-instances"]);
    let result = Programs::prepare(&folder, options, &account, injector.clone(), secretsd)
        .and_then(|mut programs| {
            let result = programs.keep(signals);
            run_part(&injector, "forget", folder.paths(), &[]);
            programs.injector.stop(PATIENCE);
            // While secretsd still answers: nothing that uses a mount gets stuck.
            run_part(&injector, "clean", folder.paths(), &[]);
            programs.secretsd.stop(PATIENCE);
            result
        });
    folder.remove();
    result
}

fn account(user: &str) -> Result<sys::users::Account, KeeperError> {
    let unknown = |source| KeeperError::User {
        user: user.to_owned(),
        source,
    };
    let account = sys::users::account(user)
        .map_err(unknown)?
        .ok_or_else(|| unknown(io::Error::new(io::ErrorKind::NotFound, "no such user")))?;
    if account.uid == 0 {
        return Err(KeeperError::Root);
    }
    Ok(account)
}

/// A verb of deploy-inject: a process of its own, for it touches mounts or waits for others.
fn run_part(injector: &Path, verb: &str, run_dir: &RunDir, more: &[&str]) {
    let child = std::process::Command::new(injector)
        .arg(verb)
        .arg("--run-dir")
        .arg(run_dir.path())
        .args(more)
        .stdin(std::process::Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return log::error!("cannot {verb} {}: {error}", run_dir.path().display()),
    };
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                log::error!(
                    "`{verb}` of {} is stuck; given up",
                    run_dir.path().display()
                );
                let _ = child.kill();
                return;
            }
            _ => return,
        }
    }
}

/// Both programs.
struct Programs {
    injector: Program,
    secretsd: Program,
    said_ready: bool,
}

impl Programs {
    fn prepare(
        folder: &RunFolder,
        options: &UpOptions,
        account: &sys::users::Account,
        injector: PathBuf,
        secretsd: PathBuf,
    ) -> Result<Programs, KeeperError> {
        let run_dir = folder.paths();
        folder.make_notify_folder()?;
        let operators = sys::users::group_id("deploy").unwrap_or(0);
        let control = folder.bind(&run_dir.control_socket(), operators, 0o660)?;
        let credentials = folder.bind(&run_dir.credentials_socket(), 0, 0o600)?;
        let inject = folder.bind(&run_dir.inject_socket(), account.gid, 0o660)?;
        let listen = |name: &str, fd: OwnedFd| (name.to_owned(), fd);
        Ok(Programs {
            injector: Program::new(
                run_dir,
                vec![listen("inject", inject)],
                Recipe::Injector {
                    program: injector,
                    run_dir: run_dir.path().to_owned(),
                    daemon_uid: account.uid,
                },
            )?,
            secretsd: Program::new(
                run_dir,
                vec![
                    listen("control", control),
                    listen("credentials", credentials),
                ],
                Recipe::Secretsd {
                    program: secretsd,
                    state_dir: options.state_dir.clone(),
                    run_dir: run_dir.path().to_owned(),
                    account: account.clone(),
                },
            )?,
            said_ready: false,
        })
    }

    /// Until a signal asks for the end.
    fn keep(&mut self, mut signals: Signals) -> Result<(), KeeperError> {
        loop {
            for program in [&mut self.injector, &mut self.secretsd] {
                program.hear()?;
                program.reap(self.said_ready)?;
                program.start_if_due(self.said_ready)?;
            }
            if !self.said_ready && self.injector.is_ready() && self.secretsd.is_ready() {
                self.said_ready = true;
                // Nobody may be listening; the programs run all the same.
                let _ = writeln!(io::stdout(), "ready").and_then(|()| io::stdout().flush());
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
            let due = [self.injector.due(), self.secretsd.due()];
            let wait = due.into_iter().flatten().min().map(|due| Timespec {
                tv_sec: 0,
                tv_nsec: due.subsec_nanos().into(),
            });
            let mut fds = [
                PollFd::new(&signals, PollFlags::IN),
                PollFd::new(&self.injector, PollFlags::IN),
                PollFd::new(&self.secretsd, PollFlags::IN),
            ];
            match poll(&mut fds, wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
            if signals.came().iter().any(|signal| *signal != libc::SIGCHLD) {
                return Ok(());
            }
        }
    }
}
