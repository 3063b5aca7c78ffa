//! One life of a service: from a process that waits before its exec in a namespace of its own, over
//! the injector that puts the views there, to the end of the last of its processes.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use control::inner::{Link, MissingGrant, RefusedKind, Reply, ToInjector};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions};
use sys::cgroup::Cgroup;
use sys::process::{Child, Spawn};
use sys::users::Account;

use super::command::{command, exec_error};
use super::policy::Ended;
use super::terminal::Terminal;
use super::{ENDING, FORWARDED, Output, RunOptions, environment};
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
    Refused { message: String, code: i32 },
}

/// A service that runs.
#[derive(Debug)]
pub(super) struct Life {
    run_dir: RunDir,
    number: u32,
    child: Child,
    cgroup: Option<Cgroup>,
    told_to_end: bool,
    ended: Option<Ended>,
}

impl Life {
    /// Starts the service, or leaves nothing behind.
    pub fn start(
        options: &RunOptions,
        output: &Output,
        terminal: &Terminal,
    ) -> Result<Life, StartError> {
        let account = account(options)?;
        let run_dir = RunDir::new(&options.run_dir);
        let (program, args) = command(options)?;
        let what = program.display().to_string();
        let system = |source| StartError::System {
            what: what.clone(),
            source,
        };
        let mut cgroup = Leaving(make_cgroup(&run_dir, options));
        let variables = environment::variables(&options.manifest.service, &account);
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
        let number = make_instance(options, &run_dir, &account, &cgroup, paused.pidfd())?;
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

    /// Until the service's first process ends: forwards signals, each once, and lets the caller's
    /// shell stop and continue the service.
    pub fn watch(&mut self, signals: &mut Signals, terminal: &Terminal) -> io::Result<Ended> {
        loop {
            for signal in signals.came() {
                self.take(signal, terminal);
            }
            self.reap(terminal)?;
            if let Some(ended) = self.ended {
                terminal.take_back();
                return Ok(ended);
            }
            let mut fds = [PollFd::new(&*signals, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
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
    fn reap(&mut self, terminal: &Terminal) -> io::Result<()> {
        loop {
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
            let (pid, status) = match rustix::process::wait(options) {
                Ok(Some(changed)) => changed,
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            };
            if pid.as_raw_nonzero().get() != self.child.pid() {
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

    /// Ends what is left of the service, and its instance.
    pub fn end(mut self) {
        remove_cgroup(self.cgroup.take());
        kill_children();
        end_instance(&self.run_dir, self.number);
    }
}

/// A cgroup that goes again if the start fails.
struct Leaving(Option<Cgroup>);

impl Drop for Leaving {
    fn drop(&mut self) {
        remove_cgroup(self.0.take());
    }
}

fn account(options: &RunOptions) -> Result<Account, StartError> {
    let user = options.manifest.user.as_deref().unwrap_or("0");
    match sys::users::account(user) {
        Ok(Some(account)) => Ok(account),
        Ok(None) => Err(StartError::NoUser {
            user: user.to_owned(),
        }),
        Err(source) => Err(StartError::System {
            what: format!("as user `{user}`"),
            source,
        }),
    }
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

fn make_instance(
    options: &RunOptions,
    run_dir: &RunDir,
    account: &Account,
    cgroup: &Leaving,
    service: std::os::fd::BorrowedFd<'_>,
) -> Result<u32, StartError> {
    let body = ToInjector::MakeInstance {
        manifest: options.manifest.clone(),
        manifest_path: absolute(&options.manifest_path),
        uid: account.uid,
        gid: account.gid,
        cgroup: cgroup.0.as_ref().map(|cgroup| cgroup.path().to_owned()),
    };
    let refused = |message: String, code| StartError::Refused { message, code };
    match ask(run_dir, &body, &[service])? {
        Reply::Made { number, .. } => Ok(number),
        Reply::Refused {
            kind,
            missing,
            message,
            hint,
        } => {
            let code = match kind {
                RefusedKind::Missing => 3,
                RefusedKind::Sealed => 5,
                _ => 1,
            };
            let service = options.manifest.service.as_str();
            Err(refused(
                explain(service, &message, hint.as_deref(), &missing),
                code,
            ))
        }
        Reply::Failed { message } => Err(refused(message, 1)),
        _ => Err(refused("the injector answers something else".to_owned(), 1)),
    }
}

/// Every missing grant, each with the command that gives it.
fn explain(service: &str, message: &str, hint: Option<&str>, missing: &[MissingGrant]) -> String {
    let mut text = message.to_owned();
    for grant in missing {
        let (secret, reason) = (&grant.secret, &grant.reason);
        text.push_str(&format!(
            "\n  {secret}: {reason}; deploy secret grant {service} {secret}"
        ));
    }
    if let Some(hint) = hint {
        text.push_str("\n  ");
        text.push_str(hint);
    }
    text
}

fn end_instance(run_dir: &RunDir, number: u32) {
    // If nobody is there now, the injector that comes back sees that the process has ended.
    if let Err(error) = ask(run_dir, &ToInjector::EndInstance { number }, &[]) {
        log::info!("instance {number} was not ended in order: {error}");
    }
}

/// One question over a link of its own.
pub(super) fn ask(
    run_dir: &RunDir,
    body: &ToInjector,
    fds: &[std::os::fd::BorrowedFd<'_>],
) -> Result<Reply, StartError> {
    let socket = run_dir.inject_socket();
    let no_injector = |why: String| StartError::NoInjector {
        socket: socket.clone(),
        why,
    };
    let link = Link::connect(&socket).map_err(|error| no_injector(error.to_string()))?;
    match link.request(body, fds) {
        Ok((reply, _)) => Ok(reply),
        Err(error) => Err(no_injector(error.to_string())),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
