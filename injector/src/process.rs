//! What /proc and pidfds say of a process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The process behind a pidfd, as our pid namespace numbers it.
///
/// # Errors
/// It is gone, lives outside our pid namespace, or this is no pidfd.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> io::Result<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    info.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .filter(|pid| *pid > 0)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Has the process behind a pidfd ended?
pub(crate) fn has_ended(pidfd: impl AsFd) -> bool {
    ends_within(pidfd, Duration::ZERO)
}

/// Waits for the end of the process behind a pidfd; false if it still lives after `patience`.
pub(crate) fn ends_within(pidfd: impl AsFd, patience: Duration) -> bool {
    let patience = Timespec::try_from(patience).unwrap_or(Timespec {
        tv_sec: i64::MAX,
        tv_nsec: 0,
    });
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&patience)), Ok(n) if n > 0)
}

/// Two facts of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub parent: i32,
    /// In clock ticks since boot: with the pid it names a process for good.
    pub start_time: u64,
}

/// Reads them.
///
/// # Errors
/// The process is gone.
pub(crate) fn stat(pid: i32) -> io::Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The command may hold spaces and parentheses; what follows the last one does not.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

/// The user that a process runs as: its real one.
///
/// # Errors
/// The process is gone.
pub(crate) fn uid(pid: i32) -> io::Result<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("Uid:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The inode of a process's mount namespace.
///
/// # Errors
/// The process is gone, or has none any more.
pub(crate) fn mount_namespace(pid: i32) -> io::Result<u64> {
    Ok(std::fs::metadata(format!("/proc/{pid}/ns/mnt"))?.ino())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_shifts_nothing() {
        let text = "12 (a) (b c)) S 7 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2";
        let expected = Stat {
            parent: 7,
            start_time: 4711,
        };
        assert_eq!(parse_stat(text), Some(expected));
    }

    #[test]
    fn a_pidfd_tells_its_process_and_its_end() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert_eq!(pid_of(fd.as_fd()).unwrap(), pid.as_raw_nonzero().get());
        assert!(!has_ended(&fd));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(&fd));
        assert!(pid_of(fd.as_fd()).is_err());
    }
}
