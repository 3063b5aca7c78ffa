//! The host: its kernel, security modules, and room on its disks.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use super::finding::{Finding, within};

const PATIENCE: Duration = Duration::from_secs(5);
/// With less, the next snapshot may not fit.
const ROOM: u64 = 64 << 20;

pub fn look(folders: &[&Path]) -> Vec<Finding> {
    let mut findings = vec![kernel(), fuse()];
    findings.extend(timeout());
    findings.extend(modules());
    findings.push(cgroups());
    findings.push(clock());
    findings.extend(folders.iter().map(|folder| room(folder)));
    findings
}

fn kernel() -> Finding {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    match version(&release) {
        Some(version) if version < (6, 1) => Finding::warning(
            "kernel",
            format!("Linux {release} is older than any that was tried"),
        )
        .mend("run Linux 6.1 or later"),
        Some(version) if version < (6, 9) => Finding::note(
            "kernel",
            format!("Linux {release} sends no request again: a restart of secretsd sweeps them"),
        ),
        _ => Finding::ok("kernel", format!("Linux {release}")),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn fuse() -> Finding {
    match fs::metadata("/dev/fuse") {
        Ok(meta) if meta.file_type().is_char_device() => Finding::ok("fuse", "/dev/fuse is there"),
        Ok(_) => {
            Finding::error("fuse", "/dev/fuse is no device").mend("rm /dev/fuse; modprobe fuse")
        }
        Err(error) => Finding::error("fuse", format!("/dev/fuse: {error}")).mend("modprobe fuse"),
    }
}

/// A connection whose server is away for longer than this is aborted by the kernel.
fn timeout() -> Option<Finding> {
    let limits = ["max_request_timeout", "default_request_timeout"];
    limits.into_iter().find_map(|limit| {
        let set = fs::read_to_string(format!("/proc/sys/fs/fuse/{limit}")).ok()?;
        let set = set.trim();
        (set != "0").then(|| {
            Finding::warning(
                "fuse",
                format!("the kernel ends a connection that does not answer for {set} s"),
            )
            .mend(format!("sysctl -w fs.fuse.{limit}=0"))
        })
    })
}

fn modules() -> Vec<Finding> {
    let about = "security modules";
    let Ok(list) = fs::read_to_string("/sys/kernel/security/lsm") else {
        return vec![Finding::note(about, "not known: securityfs is not mounted")];
    };
    let list = list.trim();
    let mut findings = vec![Finding::ok(about, list)];
    if !list.split(',').any(|one| one == "landlock") {
        findings.push(
            Finding::note(
                about,
                "without Landlock, file modes alone restrict secretsd",
            )
            .mend(format!("boot with lsm=landlock,{list}")),
        );
    }
    let enforces = fs::read_to_string("/sys/fs/selinux/enforce");
    if enforces.is_ok_and(|enforces| enforces.trim() == "1") {
        findings.push(Finding::note(
            about,
            "SELinux enforces a policy, which must allow fuse mounts",
        ));
    }
    findings
}

fn cgroups() -> Finding {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if mounts.lines().any(|line| line.contains(" - cgroup2 ")) {
        Finding::ok("cgroups", "version 2 is mounted")
    } else {
        Finding::note(
            "cgroups",
            "no version 2: children that leave a service are not found again",
        )
    }
}

/// Leases do not depend on it; times in the audit log, and certificates, do.
fn clock() -> Finding {
    let now = std::time::SystemTime::now();
    let built = fs::metadata("/proc/self/exe").and_then(|meta| meta.modified());
    match built {
        Ok(built) if now < built => Finding::warning(
            "clock",
            "it is before the day on which this program was written",
        )
        .mend("timedatectl set-ntp true"),
        _ => Finding::ok("clock", "it is not before this program"),
    }
}

fn room(folder: &Path) -> Finding {
    let (asked, shown) = (folder.to_owned(), folder.display());
    match within(PATIENCE, move || rustix::fs::statvfs(&asked)) {
        Some(Ok(found)) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            // Some file systems count no files.
            let no_files = found.f_files > 0 && found.f_favail == 0;
            let percent = (found.f_bavail * 100)
                .checked_div(found.f_blocks)
                .unwrap_or(100);
            let says = format!("{} MiB free at {shown}", free >> 20);
            let mend = "make room; see what takes it: du -xh --max-depth=1 / | sort -h";
            match (free, percent) {
                _ if no_files => {
                    Finding::error("room", format!("no more files at {shown}")).mend(mend)
                }
                (..ROOM, _) => Finding::error("room", says).mend(mend),
                (_, ..5) => Finding::warning("room", says).mend(mend),
                _ => Finding::ok("room", says),
            }
        }
        Some(Err(error)) if error == rustix::io::Errno::NOENT => {
            Finding::warning("room", format!("{shown} is not there"))
        }
        Some(Err(error)) => {
            Finding::warning("room", format!("{shown}: {}", io::Error::from(error)))
        }
        None => Finding::error(
            "room",
            format!("the file system at {shown} does not answer"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_release_is_read() {
        assert_eq!(version("6.1.0-56-amd64"), Some((6, 1)));
        assert_eq!(version("6.18-rc3"), Some((6, 18)));
        assert_eq!(version("x"), None);
    }
}
