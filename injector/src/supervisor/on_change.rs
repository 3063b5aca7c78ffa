//! `on_change`: what a supervisor does when its service's secrets or configuration have changed.
//!
//! Changes come in bursts (a certificate and its key, a deployment script), so it waits for a quiet
//! moment, and acts once. Then it looks whether all files of the service open, from inside it: while
//! one does not, nothing is done, and the change waits until they do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use control::inner::{ChangeAct, ChangeOutcome, Outcome};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitStatus};
use sys::process::{Child, Spawn};

use super::command::{own_program, wrapped};
use super::instance::account;
use super::life::Beside;
use crate::changes::{Versions, Watch};
use crate::run_dir::RunDir;

/// A burst is over when nothing has changed for so long,
const QUIET: Duration = Duration::from_millis(200);
/// and at the latest so long after its first change.
const LONGEST: Duration = Duration::from_secs(2);
/// How long the files may take to open: a restart of secretsd, and more.
const LOOK_PATIENCE: Duration = Duration::from_secs(15);
/// How long a command may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
/// What is kept of a look's words.
const WORDS_MAX: usize = 2048;

/// Changes that belong together.
#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Burst {
    fn with(burst: Option<Burst>, now: Instant) -> Burst {
        Burst {
            first: burst.map_or(now, |burst| burst.first),
            last: now,
        }
    }

    fn over(self) -> Instant {
        (self.last + QUIET).min(self.first + LONGEST)
    }
}

/// What only the owner of the service's process can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Send this signal to the service's first process.
    Signal(i32),
    /// Stop the service, and start it again.
    Restart,
}

/// A process beside the service.
#[derive(Debug)]
struct Running {
    child: Child,
    until: Instant,
    /// Where a look says what does not open; `None`: the command itself.
    words: Option<OwnedFd>,
    timed_out: bool,
}

impl Running {
    /// It had its time. With all that it has started in its process group; what has left that ends
    /// with the service.
    fn stop(&mut self) {
        self.timed_out = true;
        if let Some(group) = Pid::from_raw(self.child.pid()) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

/// The `on_change` of one life of a service.
#[derive(Debug)]
pub(super) struct OnChange {
    act: model::OnChange,
    watch: Watch,
    /// What was acted on, or was there from the beginning; `None`: nobody knows yet.
    known: Option<Versions>,
    burst: Option<Burst>,
    running: Option<Running>,
    /// Why the last change was not acted on; it waits for the next word of the injector.
    skipped: Option<String>,
}

impl OnChange {
    /// Follows what instance `number` is told.
    pub fn begin(run_dir: &RunDir, number: u32, act: model::OnChange) -> io::Result<OnChange> {
        let watch = Watch::begin(run_dir, number)?;
        Ok(OnChange {
            act,
            known: watch.read(),
            watch,
            burst: None,
            running: None,
            skipped: None,
        })
    }

    /// When there is something to do, whatever is heard until then.
    pub fn due(&self) -> Option<Instant> {
        match &self.running {
            Some(running) if running.timed_out => None,
            Some(running) => Some(running.until),
            None => self.burst.map(Burst::over),
        }
    }

    /// Hears what is new, and begins what is due.
    pub fn turn(&mut self, beside: &Beside<'_>) {
        let now = Instant::now();
        if self.watch.woken()
            && let Some(versions) = self.watch.read()
        {
            self.hear(versions, now);
        }
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        if let Some(running) = &mut self.running {
            running.stop();
            return;
        }
        self.burst = None;
        match look(beside) {
            Ok(running) => self.running = Some(running),
            Err(error) => self.ends(beside, Outcome::Failed, &error.to_string()),
        }
    }

    fn hear(&mut self, versions: Versions, now: Instant) {
        let news = self
            .known
            .as_ref()
            .is_some_and(|known| versions.is_news_after(known));
        self.known = Some(versions);
        if news || self.skipped.is_some() {
            self.burst = Some(Burst::with(self.burst, now));
        }
    }

    /// A child of the supervisor has ended: if it is one of these, that may be the moment to act.
    pub fn ended(&mut self, pid: i32, status: WaitStatus, beside: &Beside<'_>) -> Option<Wanted> {
        let running = self.running.take_if(|running| running.child.pid() == pid)?;
        let failure = failure(&running, status);
        let Some(words) = running.words else {
            match failure {
                None => self.ends(beside, Outcome::Done, ""),
                Some(why) => self.ends(beside, Outcome::Failed, &why),
            }
            return None;
        };
        if let Some(why) = failure {
            let words = read_words(&words);
            let why = if words.is_empty() { why } else { words };
            self.skip(beside, why);
            return None;
        }
        self.skipped = None;
        self.act(beside)
    }

    fn act(&mut self, beside: &Beside<'_>) -> Option<Wanted> {
        match &self.act {
            model::OnChange::Signal(name) => match number_of(name) {
                Some(signal) => return Some(Wanted::Signal(signal)),
                None => self.ends(beside, Outcome::Failed, "there is no such signal"),
            },
            model::OnChange::Restart => return Some(Wanted::Restart),
            model::OnChange::Command(words) => match command(words, beside) {
                Ok(running) => self.running = Some(running),
                Err(error) => self.ends(beside, Outcome::Failed, &error.to_string()),
            },
        }
        None
    }

    /// Says it once, however often it is tried again in vain.
    fn skip(&mut self, beside: &Beside<'_>, why: String) {
        if self.skipped.as_ref() != Some(&why) {
            self.ends(beside, Outcome::Skipped, &why);
        }
        self.skipped = Some(why);
    }

    /// How an act of this service went.
    pub fn ends(&self, beside: &Beside<'_>, outcome: Outcome, why: &str) {
        let outcome = self.outcome(beside, outcome, why);
        beside.reports.send(beside.options, outcome);
    }

    /// The same, to be sent when it has come about.
    pub fn outcome(&self, beside: &Beside<'_>, outcome: Outcome, why: &str) -> ChangeOutcome {
        ChangeOutcome {
            number: beside.number,
            service: beside.options.manifest.service.clone(),
            act: match self.act {
                model::OnChange::Signal(_) => ChangeAct::Signal,
                model::OnChange::Command(_) => ChangeAct::Command,
                model::OnChange::Restart => ChangeAct::Restart,
            },
            outcome,
            why: why.to_owned(),
        }
    }
}

/// How a restart went.
pub(super) fn restarted(change: ChangeOutcome, started: Result<(), String>) -> ChangeOutcome {
    match started {
        Ok(()) => change,
        Err(why) => ChangeOutcome {
            outcome: Outcome::Failed,
            why,
            ..change
        },
    }
}

impl AsFd for OnChange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

fn failure(running: &Running, status: WaitStatus) -> Option<String> {
    if running.timed_out {
        return Some("it took too long, and was killed".to_owned());
    }
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("it ended with exit code {code}")),
        (None, Some(signal)) => Some(format!("it was ended by signal {signal}")),
        (None, None) => Some("it ended".to_owned()),
    }
}

/// As the service itself, where it is: nothing opens for it here that does not open for the service.
fn look(beside: &Beside<'_>) -> io::Result<Running> {
    let manifest = &beside.options.manifest;
    let program = own_program().map_err(io::Error::other)?;
    let (words, says) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let nothing = nothing()?;
    let mut spawn = Spawn::new(program)
        .arg("look")
        .arg(&manifest.targets.secret)
        .arg(&manifest.targets.config)
        .stdin(nothing.as_fd())
        .stdout(nothing.as_fd())
        .stderr(says.as_fd());
    for secret in &manifest.secrets {
        // What is another user's is none of this one's to open.
        let owner = secret.owner.as_deref().map(account);
        if let Some(Ok(owner)) = owner
            && owner.uid != beside.account.uid
        {
            continue;
        }
        spawn = match secret.optional {
            true => spawn.arg(format!("--optional={}", secret.name)),
            false => spawn.arg(secret.name.as_str()),
        };
    }
    begin(spawn, beside, LOOK_PATIENCE, Some(words))
}

fn command(words: &[String], beside: &Beside<'_>) -> io::Result<Running> {
    let words = words.iter().map(Into::into).collect();
    let (program, args) = wrapped(&beside.options.manifest, words).map_err(io::Error::other)?;
    let nothing = nothing()?;
    let errors = rustix::stdio::stderr();
    let mut spawn = Spawn::new(program)
        .stdin(nothing.as_fd())
        .stdout(errors)
        .stderr(errors);
    for arg in &args {
        spawn = spawn.arg(arg);
    }
    for (name, value) in beside.variables {
        spawn = spawn.env(name, value);
    }
    begin(spawn, beside, COMMAND_PATIENCE, None)
}

fn begin(
    spawn: Spawn<'_>,
    beside: &Beside<'_>,
    patience: Duration,
    words: Option<OwnedFd>,
) -> io::Result<Running> {
    let account = beside.account;
    let mut spawn = spawn
        .user(account.uid, account.gid, &account.groups)
        .cwd("/")
        .mount_namespace_of(beside.service)
        .new_process_group()
        .parent_death_signal(libc::SIGKILL);
    if let Some(cgroup) = beside.cgroup {
        spawn = spawn.cgroup(cgroup);
    }
    Ok(Running {
        child: spawn.start()?,
        until: Instant::now() + patience,
        words,
        timed_out: false,
    })
}

fn nothing() -> io::Result<OwnedFd> {
    let mut options = std::fs::File::options();
    Ok(options.read(true).write(true).open("/dev/null")?.into())
}

/// Never waits: a process that the look has left behind may still hold the other end.
fn read_words(words: &OwnedFd) -> String {
    let mut buffer = [0; WORDS_MAX];
    let length = rustix::io::read(words, &mut buffer[..]).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..length]);
    let text = text.trim();
    text.strip_prefix("deploy-inject: ")
        .unwrap_or(text)
        .to_owned()
}

/// The signals that a manifest may name.
fn number_of(name: &str) -> Option<i32> {
    Some(match name {
        "HUP" => libc::SIGHUP,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "ALRM" => libc::SIGALRM,
        "TERM" => libc::SIGTERM,
        "CONT" => libc::SIGCONT,
        "WINCH" => libc::SIGWINCH,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_burst_is_over_after_a_quiet_moment_and_does_not_go_on_for_ever() {
        let start = Instant::now();
        let mut burst = Burst::with(None, start);
        assert_eq!(burst.over(), start + QUIET);
        for step in 1..100 {
            let now = start + QUIET / 2 * step;
            burst = Burst::with(Some(burst), now);
            assert!(burst.over() <= start + LONGEST);
        }
        assert_eq!(burst.over(), start + LONGEST);
    }

    #[test]
    fn what_takes_too_long_is_ended_with_all_that_it_has_started() {
        let (reads, writes) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let child = Spawn::new("/bin/sh")
            .arg("-c")
            .arg("sleep 600 & echo started; wait")
            .stdout(writes.as_fd())
            .new_process_group()
            .parent_death_signal(libc::SIGKILL)
            .start()
            .unwrap();
        drop(writes);
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::read(&reads, &mut buffer[..]).unwrap(), 8);
        let mut running = Running {
            child,
            until: Instant::now(),
            words: None,
            timed_out: false,
        };
        running.stop();
        // The end of the file: nobody holds the other end any more.
        assert_eq!(rustix::io::read(&reads, &mut buffer[..]).unwrap(), 0);
        let pid = Pid::from_raw(running.child.pid());
        let waited = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
        let (_, status) = waited.unwrap().unwrap();
        let why = failure(&running, status).unwrap();
        assert!(why.contains("too long"), "{why}");
    }

    #[test]
    fn every_signal_that_a_manifest_takes_has_a_number() {
        for name in [
            "HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CONT", "WINCH",
        ] {
            let text = format!("service: a\non_change: {{signal: {name}}}\n");
            model::Manifest::parse(text.as_bytes(), std::path::Path::new("a.yaml")).unwrap();
            assert!(number_of(name).is_some(), "{name}");
        }
    }
}
