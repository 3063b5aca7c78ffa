//! A started process, and how it ended.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};

/// A child process, named by a pidfd, so that no signal ever reaches another one. Dropping it does
/// not end it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    ended: Option<ExitStatus>,
    /// Not executed yet: it goes with us.
    leashed: bool,
}

impl Child {
    pub(super) fn new(pid: Pid, pidfd: OwnedFd) -> Child {
        Child {
            pid,
            pidfd,
            ended: None,
            leashed: true,
        }
    }

    /// From now on it may outlive us.
    pub(super) fn keep(&mut self) {
        self.leashed = false;
    }

    /// Its number; that of another process once this one was waited for.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal, by number.
    ///
    /// # Errors
    /// It was waited for (ESRCH), or there is no such signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let none = ptr::null::<libc::siginfo_t>();
        // Not by rustix, whose safe signals leave out those of real time.
        // SAFETY: the pidfd is open, and no siginfo is read from a null pointer.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                none,
                0,
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// How it ended, if it has. The zombie is gone then.
    ///
    /// # Errors
    /// Somebody else has waited for it (ECHILD).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// Somebody else has waited for it (ECHILD).
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(ended) = self.wait_with(WaitIdOptions::EXITED)? {
                return Ok(ended);
            }
        }
    }

    fn wait_with(&mut self, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Ok(status) => status.and_then(|status| {
                    let code = status.exit_status().map(ExitStatus::Code);
                    code.or_else(|| status.terminating_signal().map(ExitStatus::Signal))
                }),
                Err(Errno::INTR) => None,
                Err(errno) => return Err(errno.into()),
            };
        }
        Ok(self.ended)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.leashed && self.ended.is_none() {
            let _ = self.signal(libc::SIGKILL);
            let _ = self.wait();
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Its exit code, unless a signal ended it.
    pub fn code(self) -> Option<i32> {
        match self {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) => None,
        }
    }

    /// Its exit code, or 128 + signal, as shells say it.
    pub fn code_or_signal(self) -> i32 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exit code {code}"),
            ExitStatus::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}
