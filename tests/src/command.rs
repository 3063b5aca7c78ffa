//! Running a command to its end, with a limit on time, and what came of it.

use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{interrupt, wait};

/// A command that ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The command line, for messages.
    pub line: String,
    /// Exit code, or 128 + signal as a shell says it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Checks that the exit code is 0.
    #[track_caller]
    pub fn ok(self) -> Finished {
        self.code(0)
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn code(self, expected: i32) -> Finished {
        assert!(
            self.code == expected,
            "expected exit code {expected}: {self}"
        );
        self
    }

    /// Checks that standard error says each of `words`.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Finished {
        for word in words {
            assert!(self.err().contains(word), "{word:?} is not said: {self}");
        }
        self
    }

    /// Checks that neither output holds `value`.
    #[track_caller]
    pub fn hides(self, value: &str) -> Finished {
        assert!(
            !self.out().contains(value) && !self.err().contains(value),
            "a value is shown by: {}",
            self.line
        );
        self
    }

    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` ended with {}\n--- stdout\n{}--- stderr\n{}",
            self.line,
            self.code,
            self.out(),
            self.err()
        )
    }
}

/// Runs to the end, with `input` on standard input.
///
/// # Panics
/// It does not start, or still runs after [`wait::LONG`]; it is killed then.
#[track_caller]
pub fn run(mut command: Command, input: &[u8]) -> Finished {
    let line = line_of(&command);
    let creating = interrupt::creating();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("`{line}` does not start: {e}"));
    drop(creating);
    let mut stdin = child.stdin.take().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (code, stdout, stderr) = std::thread::scope(|threads| {
        // A command may end without reading all of it: EPIPE is no failure of ours.
        threads.spawn(move || stdin.write_all(input));
        let out = threads.spawn(move || drain(&mut stdout));
        let err = threads.spawn(move || drain(&mut stderr));
        let code = end_of(&mut child, wait::LONG);
        if code.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        (code, out.join().unwrap(), err.join().unwrap())
    });
    let finished = Finished {
        line,
        code: code.unwrap_or(-1),
        stdout,
        stderr,
    };
    assert!(code.is_some(), "hung, and was killed: {finished}");
    finished
}

/// The exit code, or 128 + signal, if the child ends within `limit`.
pub fn end_of(child: &mut Child, limit: Duration) -> Option<i32> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(code_of(status));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).ok()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    wait::readable(&pidfd, limit).then(|| code_of(child.wait().unwrap()))
}

fn code_of(status: std::process::ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn drain(from: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = from.read_to_end(&mut all);
    all
}

/// The same command with the same environment, started by a shell script whose last step is
/// `exec "$@"`.
pub fn through(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", script, "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// The command as one would type it.
pub fn line_of(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
