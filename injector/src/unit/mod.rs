//! The systemd unit of a process, by its cgroup: what a grant with `--unit` is checked against. Only
//! root, or whom root has given a part of the tree, makes a cgroup or moves a process; so the first
//! unit on the way counts, and never one below it, which its owner may have named as he likes.

pub mod drop_in;
pub mod systemctl;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use control::inner::{InstanceRecord, Origin};
use rustix::process::PidfdFlags;
use sys::cgroup::Cgroup;

use crate::process;

/// The cgroup of a unit, while that is active: another start makes another one.
#[derive(Debug)]
pub(crate) struct UnitCgroup {
    cgroup: Cgroup,
    /// What it has and no other cgroup of this boot.
    id: u64,
}

/// Where a process is that looks for its unit's view: the unit, and its cgroup v2; `None`: in no unit.
///
/// # Errors
/// The process is gone, or there is no cgroup v2.
pub(crate) fn look(pid: i32) -> io::Result<Option<(String, UnitCgroup)>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else {
        return Ok(None);
    };
    let Some((unit, path)) = unit_and_cgroup(path) else {
        return Ok(None);
    };
    let cgroup = Cgroup::open(path)?;
    let id = cgroup.id()?;
    Ok(Some((unit, UnitCgroup { cgroup, id })))
}

impl UnitCgroup {
    /// That of an instance, if it is still there.
    pub fn of(record: &InstanceRecord) -> Option<UnitCgroup> {
        let Origin::Unit { cgroup_id: id } = record.origin else {
            return None;
        };
        let cgroup = Cgroup::open(record.cgroup.as_deref()?).ok()?;
        let found = UnitCgroup { cgroup, id };
        found.is_there().then_some(found)
    }

    /// Has it not been removed?
    pub fn is_there(&self) -> bool {
        self.cgroup.id().is_ok_and(|id| id == self.id)
    }

    /// Its path as /proc/PID/cgroup says it after `0::`.
    pub fn path(&self) -> &str {
        self.cgroup.path()
    }

    /// Of an instance that lives as long as this.
    pub fn origin(&self) -> Origin {
        Origin::Unit { cgroup_id: self.id }
    }

    /// Its processes, one for each mount namespace, with their pidfds, and `record` as if made for it:
    /// each Exec of a unit has a namespace of its own.
    pub fn namespaces(&self, record: &InstanceRecord) -> Vec<(InstanceRecord, OwnedFd)> {
        let mut found: Vec<(InstanceRecord, OwnedFd)> = Vec::new();
        for pid in self.cgroup.processes().unwrap_or_default() {
            let one = || {
                let pidfd = rustix::process::Pid::from_raw(pid)
                    .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok())?;
                let mut own = record.clone();
                own.pid = pid;
                own.mount_ns = process::mount_namespace(pid).ok()?;
                own.start_time = process::stat(pid).ok()?.start_time;
                (!process::has_ended(&pidfd)).then_some((own, pidfd))
            };
            if let Some((own, pidfd)) = one()
                && found
                    .iter()
                    .all(|(other, _)| other.mount_ns != own.mount_ns)
            {
                found.push((own, pidfd));
            }
        }
        found
    }
}

/// The unit of a process that has not ended; `None`: it is in none.
///
/// # Errors
/// The process is gone.
pub(crate) fn of(pid: i32) -> io::Result<Option<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(parse(&text))
}

/// The unit of whoever runs `deploy run`: that puts the service into a cgroup of its own beside all
/// units. `None` also if it has ended, as nobody waits for its service then.
pub(crate) fn of_supervisor(pidfd: BorrowedFd<'_>) -> io::Result<Option<String>> {
    let unit = process::pid_of(pidfd).and_then(of)?;
    Ok(unit.filter(|_| !process::has_ended(pidfd)))
}

/// Of `/proc/PID/cgroup`: cgroup v2, or else the hierarchy that systemd keeps beside v1's.
fn parse(text: &str) -> Option<String> {
    let path = |hierarchy: &str| text.lines().find_map(|line| line.strip_prefix(hierarchy));
    let mut lines = text.lines();
    let v1 = lines.find_map(|line| line.split_once(":name=systemd:").map(|(_, path)| path));
    path("0::").and_then(unit_in).or_else(|| unit_in(v1?))
}

/// The first name on the way that is no slice, if it is a unit's.
fn unit_in(path: &str) -> Option<String> {
    Some(unit_and_cgroup(path)?.0)
}

/// The same, and the path up to it.
fn unit_and_cgroup(path: &str) -> Option<(String, &str)> {
    let mut end = 0;
    for name in path.split('/') {
        end += name.len();
        if !name.is_empty() && !name.ends_with(".slice") {
            // systemd puts a `_` before a name that the kernel has a file of.
            let name = name.strip_prefix('_').unwrap_or(name);
            return model::is_unit(name).then(|| (name.to_owned(), &path[..end]));
        }
        end += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_unit_on_the_way_counts() {
        for (path, unit) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            (
                "/system.slice/system-web.slice/web@1.service",
                Some("web@1.service"),
            ),
            // A user's manager, and a delegated unit, name what is below as they like.
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service",
                Some("user@1000.service"),
            ),
            (
                "/system.slice/other.service/nginx.service",
                Some("other.service"),
            ),
            ("/system.slice/nginx.service/sub", Some("nginx.service")),
            (
                "/machine.slice/libpod-0a.scope/container",
                Some("libpod-0a.scope"),
            ),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            ("/", None),
            ("/init.slice", None),
            ("/deploy-secrets/1-2/nginx.service", None),
            ("/../nginx.service", None),
        ] {
            assert_eq!(unit_in(path).as_deref(), unit, "{path}");
        }
    }

    #[test]
    fn the_cgroup_is_that_of_the_unit_and_none_below_it() {
        for (path, cgroup) in [
            ("/system.slice/nginx.service", "/system.slice/nginx.service"),
            ("/system.slice/a.service/sub/x", "/system.slice/a.service"),
            ("/a.service", "/a.service"),
        ] {
            assert_eq!(unit_and_cgroup(path).unwrap().1, cgroup);
        }
    }

    #[test]
    fn the_second_version_is_asked_first_and_a_name_in_another_hierarchy_is_none() {
        let both = "9:name=systemd:/system.slice/old.service\n0::/system.slice/web.service\n";
        assert_eq!(parse(both).as_deref(), Some("web.service"));
        let one = "9:name=systemd:/system.slice/web.service\n4:memory:/a.service\n0::/\n";
        assert_eq!(parse(one).as_deref(), Some("web.service"));
        assert_eq!(parse("4:memory:/a.service\n0::/\n"), None);
    }
}
