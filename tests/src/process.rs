//! What /proc says of a process.

use std::os::unix::fs::MetadataExt as _;

use crate::wait;

/// Some fields of /proc/PID/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z` and so on.
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The process group in the foreground of its terminal; -1 without one.
    pub foreground: i32,
}

impl Stat {
    /// It has not ended.
    pub fn runs(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// `None`: there is no such process, not even as a zombie.
pub fn stat(pid: i32) -> Option<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let mut numbers = fields.map(|field| field.parse().unwrap_or(0));
    let mut number = || numbers.next();
    let (parent, group, session) = (number()?, number()?, number()?);
    number()?;
    Some(Stat {
        state,
        parent,
        group,
        session,
        foreground: number()?,
    })
}

/// Whether a process runs: it is there, and no zombie.
pub fn runs(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat.runs())
}

/// Waits until nothing is left of a process, not even a zombie.
#[track_caller]
pub fn goes(pid: i32) {
    wait::until(&format!("process {pid} to be gone"), || {
        stat(pid).is_none().then_some(())
    });
}

/// A line of /proc/PID/status.
pub fn status(pid: i32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(|line| line.trim().to_owned())
}

/// Its cgroup v2, as a path below [`crate::traces::cgroup_root`].
pub fn cgroup(pid: i32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("0::").map(str::to_owned))
}

/// The number of one of its namespaces: `mnt`, `net`.
pub fn namespace(pid: i32, kind: &str) -> Option<u64> {
    let meta = std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some(meta.ino())
}
