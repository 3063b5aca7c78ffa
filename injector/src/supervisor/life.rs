//! One life of a service: from a process that waits before its exec in a namespace of its own, over
//! the injector that puts the views there, to the end of the last of its processes.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use control::inner::{ChangeOutcome, Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use sys::cgroup::Cgroup;
use sys::process::{Child, Spawn};
use sys::users::Account;

use super::command::{command, exec_error};
use super::instance::{account, end_instance, make_instance};
use super::on_change::{OnChange, Wanted};
use super::policy::Ended;
use super::report::Reports;
use super::terminal::Terminal;
use super::{ENDING, FORWARDED, Output, RunOptions, STOP_PATIENCE, environment};
use crate::process;
use crate::run_dir::RunDir;
use crate::signals::Signals;

/// Why a service did not start. Says what, why, and what mends it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("the manifest has no command; add `command: [...]`, or run with -- COMMAND")]
    NoCommand,
    #[error("cannot find the command `{command}`")]
    NotFound { command: String },
    #[error("`{command}` cannot be executed; is it a program?")]
    NotExecutable { command: String },
    #[error("there is no user `{user}`; make it, or name another one as `user:` in the manifest")]
    NoUser { user: String },
    #[error("cannot start {what}: {source}")]
    System { what: String, source: io::Error },
    #[error(
        "the injector does not answer on {}: {why}\n  is `deploy-inject up` running? see also --run-dir and DEPLOY_RUN_DIR",
        socket.display()
    )]
    NoInjector { socket: PathBuf, why: String },
    #[error("{message}")]
    Refused {
        message: String,
        code: i32,
        /// It may be granted, or unsealed, in a moment.
        waits: bool,
    },
}

/// A service that runs.
#[derive(Debug)]
pub(super) struct Life {
    run_dir: RunDir,
    number: u32,
    child: Child,
    cgroup: Option<Cgroup>,
    account: Account,
    variables: Vec<(OsString, OsString)>,
    on_change: Option<OnChange>,
    /// Stopped to be started again, after a change: until when it may end by itself, and which
    /// instance it was.
    restart: Option<(Instant, ChangeOutcome)>,
    told_to_end: bool,
    ended: Option<Ended>,
}

/// What a process beside the service needs to know.
pub(super) struct Beside<'a> {
    pub options: &'a RunOptions,
    pub reports: &'a Reports,
    pub number: u32,
    /// The service's first process.
    pub service: BorrowedFd<'a>,
    pub cgroup: Option<&'a Cgroup>,
    pub account: &'a Account,
    pub variables: &'a [(OsString, OsString)],
}

impl Life {
    /// Starts the service, or leaves nothing behind. `again`: it was refused a moment ago.
    pub fn start(
        options: &RunOptions,
        output: &Output,
        terminal: &Terminal,
        again: bool,
    ) -> Result<Life, StartError> {
        let account = account(options.manifest.user.as_deref().unwrap_or("0"))?;
        let run_dir = RunDir::new(&options.run_dir);
        let (program, args) = command(options)?;
        let what = program.display().to_string();
        let system = |source| StartError::System {
            what: what.clone(),
            source,
        };
        let mut cgroup = Leaving(make_cgroup(&run_dir, options));
        let variables = environment::variables(&options.manifest, &account);
        let mut spawn = Spawn::new(&program)
            .user(account.uid, account.gid, &account.groups)
            .cwd("/")
            .new_mount_namespace()
            .new_process_group()
            .parent_death_signal(libc::SIGKILL);
        for arg in &args {
            spawn = spawn.arg(arg);
        }
        for (name, value) in &variables {
            spawn = spawn.env(name, value);
        }
        if let Some(stdin) = &output.stdin {
            spawn = spawn.stdin(stdin.as_fd());
        }
        if let Some(stdout) = &output.stdout {
            spawn = spawn.stdout(stdout.as_fd());
        }
        if let Some(stderr) = &output.stderr {
            spawn = spawn.stderr(stderr.as_fd());
        }
        if let Some(cgroup) = &cgroup.0 {
            spawn = spawn.cgroup(cgroup);
        }
        let paused = spawn.start_paused().map_err(system)?;
        // Dropping `paused` on the way out ends the process before it ran anything.
        let number = make_instance(
            options,
            &run_dir,
            &account,
            cgroup.0.as_ref(),
            paused.pidfd(),
            again,
        )?;
        // Before the service has read anything: what is there now is what it begins with.
        let on_change = match follow(options, &run_dir, number) {
            Ok(on_change) => on_change,
            Err(error) => {
                end_instance(&run_dir, number);
                return Err(error);
            }
        };
        let group = Pid::from_raw(paused.pid());
        if let Some(group) = group.filter(|_| terminal.is_there()) {
            terminal.give(group);
        }
        let child = match paused.release() {
            Ok(child) => child,
            Err(error) => {
                terminal.take_back();
                end_instance(&run_dir, number);
                return Err(exec_error(&what, error));
            }
        };
        Ok(Life {
            run_dir,
            number,
            child,
            cgroup: cgroup.0.take(),
            account,
            variables,
            on_change,
            restart: None,
            told_to_end: false,
            ended: None,
        })
    }

    /// The instance's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Was the end asked for by a signal to the supervisor?
    pub fn was_told_to_end(&self) -> bool {
        self.told_to_end
    }

    /// Until the service's first process ends: forwards signals, each once, lets the caller's shell
    /// stop and continue the service, and acts on changes.
    pub fn watch(
        &mut self,
        options: &RunOptions,
        reports: &Reports,
        signals: &mut Signals,
        terminal: &Terminal,
    ) -> io::Result<Ended> {
        loop {
            for signal in signals.came() {
                self.take(signal, terminal);
            }
            for (pid, status) in self.reap(terminal)? {
                self.beside(options, reports, |on_change, beside| {
                    on_change.ended(pid, status, beside)
                });
            }
            if let Some(ended) = self.ended {
                terminal.take_back();
                return Ok(ended);
            }
            self.beside(options, reports, |on_change, beside| {
                on_change.turn(beside);
                None
            });
            let patience = self.due().map(Timespec::try_from).transpose();
            let patience = patience.map_err(io::Error::other)?;
            let mut fds = vec![PollFd::new(&*signals, PollFlags::IN)];
            let heard = self.on_change.iter();
            fds.extend(heard.map(|on_change| PollFd::new(on_change, PollFlags::IN)));
            match poll(&mut fds, patience.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// How long until something is due that no descriptor tells.
    fn due(&mut self) -> Option<Duration> {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        if let Some((until, _)) = &self.restart {
            let left = left(*until);
            if left.is_zero() {
                let _ = self.child.signal(libc::SIGKILL);
                return None;
            }
            return Some(left);
        }
        self.on_change.as_ref()?.due().map(left)
    }

    /// Has `on_change` do something, and does what it wants done. Not any more once the service is to
    /// end.
    fn beside(
        &mut self,
        options: &RunOptions,
        reports: &Reports,
        act: impl FnOnce(&mut OnChange, &Beside<'_>) -> Option<Wanted>,
    ) {
        if self.told_to_end || self.restart.is_some() || self.ended.is_some() {
            return;
        }
        let Some(mut on_change) = self.on_change.take() else {
            return;
        };
        let beside = Beside {
            options,
            reports,
            number: self.number,
            service: self.child.pidfd(),
            cgroup: self.cgroup.as_ref(),
            account: &self.account,
            variables: &self.variables,
        };
        match act(&mut on_change, &beside) {
            None => {}
            Some(Wanted::Signal(signal)) => match self.child.signal(signal) {
                Ok(()) => on_change.ends(&beside, Outcome::Done, ""),
                Err(error) => on_change.ends(&beside, Outcome::Failed, &error.to_string()),
            },
            Some(Wanted::Restart) => {
                // As `deploy stop` does.
                let _ = self.child.signal(libc::SIGTERM);
                let _ = self.child.signal(libc::SIGCONT);
                let outcome = on_change.outcome(&beside, Outcome::Done, "");
                self.restart = Some((Instant::now() + STOP_PATIENCE, outcome));
            }
        }
        self.on_change = Some(on_change);
    }

    fn take(&mut self, signal: i32, terminal: &Terminal) {
        if ENDING.contains(&signal) {
            self.told_to_end = true;
        }
        // The shell that had stopped us goes on: so does the service, in front as before.
        if signal == libc::SIGCONT
            && let Some(group) = Pid::from_raw(self.child.pid())
        {
            if terminal.is_there() {
                terminal.give(group);
            }
            let _ = rustix::process::kill_process_group(group, Signal::CONT);
        } else if ENDING.contains(&signal) || FORWARDED.contains(&signal) {
            let _ = self.child.signal(signal);
        }
    }

    /// Takes what has ended: the service's first process, and orphans of the service.
    /// Gives what is neither, or belongs to `on_change`.
    fn reap(&mut self, terminal: &Terminal) -> io::Result<Vec<(i32, WaitStatus)>> {
        let mut others = Vec::new();
        loop {
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
            let (pid, status) = match rustix::process::wait(options) {
                Ok(Some(changed)) => changed,
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(others),
                Err(errno) => return Err(errno.into()),
            };
            let pid = pid.as_raw_nonzero().get();
            if pid != self.child.pid() {
                if !status.stopped() {
                    others.push((pid, status));
                }
                continue;
            }
            if let Some(code) = status.exit_status() {
                self.ended = Some(Ended::Exited(code));
            } else if let Some(signal) = status.terminating_signal() {
                self.ended = Some(Ended::Killed(signal));
            } else if status.stopped() && terminal.is_there() {
                // Ctrl-Z: the shell waits for its own child, which is us, to stop.
                terminal.take_back();
                let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
            }
        }
    }

    /// Ends what is left of the service, and its instance. Gives what is to be said of its restart
    /// if it ended for that.
    pub fn end(mut self) -> Option<ChangeOutcome> {
        remove_cgroup(self.cgroup.take());
        kill_children();
        end_instance(&self.run_dir, self.number);
        self.restart.map(|(_, change)| change)
    }
}

/// A cgroup that goes again if the start fails.
struct Leaving(Option<Cgroup>);

impl Drop for Leaving {
    fn drop(&mut self) {
        remove_cgroup(self.0.take());
    }
}

/// Begins to follow changes, if the manifest wants it.
fn follow(
    options: &RunOptions,
    run_dir: &RunDir,
    number: u32,
) -> Result<Option<OnChange>, StartError> {
    let Some(act) = &options.manifest.on_change else {
        return Ok(None);
    };
    let on_change = OnChange::begin(run_dir, number, act.clone());
    let on_change = on_change.map_err(|source| StartError::System {
        what: "what on_change asks for".to_owned(),
        source,
    })?;
    Ok(Some(on_change))
}

/// ROOT/deploy-secrets/RUN/SERVICE.SUPERVISOR, where cgroup v2 is there for us. RUN is the run
/// folder's identity, so that several pairs do not meet.
fn make_cgroup(run_dir: &RunDir, options: &RunOptions) -> Option<Cgroup> {
    let root = sys::cgroup::root()?;
    let run = std::fs::metadata(run_dir.path()).ok()?;
    let parent = root
        .join("deploy-secrets")
        .join(format!("{:x}-{:x}", run.dev(), run.ino()));
    let name = format!("{}.{}", options.manifest.service, std::process::id());
    match Cgroup::create(&parent, &name) {
        Ok(cgroup) => Some(cgroup),
        Err(error) => {
            log::info!("no cgroup of its own for {name}: {error}");
            None
        }
    }
}

fn remove_cgroup(cgroup: Option<Cgroup>) {
    if let Some(cgroup) = cgroup
        && let Err(error) = cgroup.kill().and_then(|()| cgroup.remove())
    {
        log::warn!("cgroup {} stays: {error}", cgroup.path());
    }
}

/// Ends what the service left behind: as subreaper we are the parent of all its orphans. Goes on
/// until there is none, for each may have children of its own.
fn kill_children() {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    loop {
        for pid in children_of(own) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn children_of(parent: i32) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| process::stat(*pid).is_ok_and(|stat| stat.parent == parent))
        .filter_map(Pid::from_raw)
        .collect()
}
