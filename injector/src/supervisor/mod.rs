//! A supervisor: the parent of one service. It starts the service, starts it again as the manifest
//! says, forwards signals to it, acts when its secrets change, and takes it along when it ends itself.
//! Its ties to the injector are short questions and a file, so either may die without the other.

mod command;
mod detach;
mod environment;
mod for_unit;
mod instance;
mod life;
mod on_change;
mod policy;
mod preview;
mod register;
mod report;
mod terminal;
mod wait;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use control::inner::InstanceRecord;
use model::{Manifest, ServiceName};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use self::for_unit::{FollowError, follow_unit};
use self::life::{Life, StartError};
use self::policy::BackOff;
pub use self::preview::{Preview, preview, uid_of};
use self::register::Registration;
use self::report::Reports;
use self::terminal::Terminal;
use self::wait::Waiting;
use crate::run_dir::RunDir;
use crate::signals::Signals;

/// What ends the supervisor, after its service.
const ENDING: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];
/// What goes to the service besides.
const FORWARDED: [i32; 3] = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];
/// How long `stop` waits before it kills.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What `deploy run` needs to know.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run folder of the pair that serves the views.
    pub run_dir: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
    /// Where it came from, for `deploy ps` and messages.
    pub manifest_path: PathBuf,
    /// What to run instead of the manifest's command (`-- COMMAND...`).
    pub command: Option<Vec<OsString>>,
    /// Return as soon as the service has started, and leave a supervisor behind.
    pub detach: bool,
    /// Where a detached service's output goes; default: nowhere.
    pub log: Option<PathBuf>,
}

/// Runs the service until it ends for good; prints what went wrong to standard error.
///
/// The exit code is the service's own, 128 + signal, or: 1 failed, 2 no command, 3 a grant is
/// missing, 5 sealed, 126 and 127 as a shell has them. Only for a program's main thread: the service
/// ends with the thread that started it.
pub fn run(options: &RunOptions) -> i32 {
    if options.detach {
        return detach::detach(options);
    }
    supervise(options, Output::inherited(), || {})
}

/// What [`run`] with `detach` starts, as `deploy-inject supervise`: options from standard input, and
/// standard error to whoever waits for the first start.
pub fn run_detached() -> i32 {
    detach::run_detached()
}

/// The descriptors 0, 1 and 2 of the service; `None` is the supervisor's own.
#[derive(Debug)]
struct Output {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Output {
    fn inherited() -> Output {
        Output {
            stdin: None,
            stdout: None,
            stderr: None,
        }
    }
}

/// Says something to the operator. Nobody may be there to read it.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "deploy run: {text}");
}

fn supervise(options: &RunOptions, output: Output, started: impl FnOnce()) -> i32 {
    match try_supervise(options, output, started) {
        Ok(code) => code,
        Err(error) => {
            say(&error.to_string());
            1
        }
    }
}

fn try_supervise(options: &RunOptions, output: Output, started: impl FnOnce()) -> io::Result<i32> {
    let taken = [&ENDING[..], &FORWARDED, &[libc::SIGCHLD, libc::SIGCONT]].concat();
    let mut signals = Signals::take_over(&taken)?;
    // What the service leaves behind comes to us and not to pid 1, so that none of it outlives us.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let run_dir = RunDir::new(&options.run_dir);
    let registration = Registration::enter(
        &run_dir,
        &options.manifest.service,
        &options.manifest_path,
        options.log.is_some() || output.stderr.is_some(),
    );
    let mut registration = match registration {
        Ok(registration) => registration,
        Err(error) => {
            say(&format!(
                "cannot use the run folder {}: {error}\n  is `deploy-inject up` running? see also --run-dir and DEPLOY_RUN_DIR",
                options.run_dir.display()
            ));
            return Ok(1);
        }
    };
    let terminal = Terminal::of_caller();
    let mut back_off = BackOff::default();
    let mut started = Some(started);
    let reports = Reports::default();
    let mut restarts = 0;
    // What ended the life before, if that was a change.
    let mut change = None;
    let mut waiting = Waiting::new(&options.manifest);
    loop {
        let start = Instant::now();
        match Life::start(options, &output, &terminal, waiting.has_begun()) {
            Ok(mut life) => {
                if let Some(started) = started.take() {
                    started();
                }
                if let Some(change) = change.take() {
                    reports.send(options, on_change::restarted(change, Ok(())));
                }
                registration.runs(Some(life.number()), restarts);
                let ended = life.watch(options, &reports, &mut signals, &terminal)?;
                let was_told_to_end = life.was_told_to_end();
                change = life.end();
                registration.runs(None, restarts);
                if change.is_some() && !was_told_to_end {
                    restarts += 1;
                    continue;
                }
                let again = ended.wants_restart(options.manifest.restart);
                if was_told_to_end || !again {
                    reports.end();
                    return Ok(ended.code());
                }
                say(&format!(
                    "{} ended with {}",
                    options.manifest.service,
                    ended.code()
                ));
            }
            // At the first start, what is wrong stays wrong until the operator mends it.
            Err(error) => {
                if started.is_some()
                    && let Some(pause) = waiting.pause(&error)
                {
                    if let Some(signal) = pause_unless_told_to_end(&mut signals, pause)? {
                        return Ok(128 + signal);
                    }
                    if output.stderr.is_some() && wait::caller_is_gone() {
                        return Ok(128 + libc::SIGINT);
                    }
                    continue;
                }
                say(&error.to_string());
                if let Some(change) = change.take() {
                    let why = error.to_string();
                    reports.send(options, on_change::restarted(change, Err(why)));
                }
                if started.is_some() {
                    return Ok(error.exit_code());
                }
            }
        }
        restarts += 1;
        let pause = back_off.next(start.elapsed());
        if let Some(signal) = pause_unless_told_to_end(&mut signals, pause)? {
            return Ok(128 + signal);
        }
    }
}

fn pause_unless_told_to_end(signals: &mut Signals, pause: Duration) -> io::Result<Option<i32>> {
    let until = Instant::now() + pause;
    loop {
        if let Some(signal) = signals.came().into_iter().find(|s| ENDING.contains(s)) {
            return Ok(Some(signal));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&*signals, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The manifest as the injector is to have it: with owners of secrets by number.
///
/// # Errors
/// There is no such user here, in words.
pub fn with_owners(manifest: &Manifest) -> Result<Manifest, String> {
    instance::with_owners(manifest).map_err(|error| error.to_string())
}

/// A supervisor that runs, for `deploy ps`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Supervised {
    /// The service.
    pub service: ServiceName,
    /// The manifest's path.
    pub manifest: PathBuf,
    /// The supervisor's process.
    pub supervisor: i32,
    /// Was it detached?
    pub detached: bool,
    /// How often the service was started again.
    pub restarts: u32,
    /// The instance, while the service runs.
    pub instance: Option<InstanceRecord>,
}

/// All supervisors below `run_dir`, by service and process. Asks nobody, so it works while the
/// injector or secretsd is away.
///
/// # Errors
/// The folder cannot be read: only root may.
pub fn ps(run_dir: &Path) -> io::Result<Vec<Supervised>> {
    let run_dir = RunDir::new(run_dir);
    let record = |number: u32| {
        let text = std::fs::read(run_dir.instances().join(number.to_string())).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let all = register::list(&run_dir)?.into_iter().map(|running| {
        let entry = running.entry;
        Supervised {
            service: entry.service,
            manifest: entry.manifest,
            supervisor: entry.supervisor,
            detached: entry.detached,
            restarts: entry.restarts,
            instance: entry.instance.and_then(record),
        }
    });
    Ok(all.collect())
}

/// Stops every supervisor of `service` with its service: SIGTERM, and SIGKILL after ten seconds.
/// Gives how many there were.
///
/// # Errors
/// The folder cannot be read, or a process cannot be signalled.
pub fn stop(run_dir: &Path, service: &ServiceName) -> io::Result<u32> {
    use rustix::process::{Signal, pidfd_send_signal};
    let mut running = register::list(&RunDir::new(run_dir))?;
    running.retain(|one| one.entry.service == *service);
    for one in &running {
        ignore_gone(pidfd_send_signal(&one.pidfd, Signal::TERM))?;
    }
    let until = Instant::now() + STOP_PATIENCE;
    for one in &running {
        let left = until.saturating_duration_since(Instant::now());
        if !crate::process::ends_within(&one.pidfd, left) {
            // Its service ends with it; the injector ends the instance.
            ignore_gone(pidfd_send_signal(&one.pidfd, Signal::KILL))?;
            crate::process::ends_within(&one.pidfd, STOP_PATIENCE);
        }
    }
    Ok(u32::try_from(running.len()).unwrap_or(u32::MAX))
}

fn ignore_gone(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => Ok(other?),
    }
}

impl StartError {
    /// As DESIGN.md and a shell have them.
    fn exit_code(&self) -> i32 {
        match self {
            StartError::NoCommand => 2,
            StartError::Refused { code, .. } => *code,
            StartError::NotFound { .. } => 127,
            StartError::NotExecutable { .. } => 126,
            _ => 1,
        }
    }
}
