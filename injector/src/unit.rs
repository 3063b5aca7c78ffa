//! The systemd unit of a process, by its cgroup: what a grant with `--unit` is checked against. Only
//! root, or whom root has given a part of the tree, makes a cgroup or moves a process; so the first
//! unit on the way counts, and never one below it, which its owner may have named as he likes.

use std::io;
use std::os::fd::BorrowedFd;

use crate::process;

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
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let name = names.find(|name| !name.ends_with(".slice"))?;
    // systemd puts a `_` before a name that the kernel has a file of.
    let name = name.strip_prefix('_').unwrap_or(name);
    model::is_unit(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
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
    fn the_second_version_is_asked_first_and_a_name_in_another_hierarchy_is_none() {
        let both = "9:name=systemd:/system.slice/old.service\n0::/system.slice/web.service\n";
        assert_eq!(parse(both).as_deref(), Some("web.service"));
        let one = "9:name=systemd:/system.slice/web.service\n4:memory:/a.service\n0::/\n";
        assert_eq!(parse(one).as_deref(), Some("web.service"));
        assert_eq!(parse("4:memory:/a.service\n0::/\n"), None);
    }
}
