//! FUSE connections that a test leaves: a thread that waits for the answer of a daemon that is gone
//! holds its own connection open, and ends only when that is aborted.

use std::collections::BTreeSet;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The numbers of the connections that these processes have open.
pub(crate) fn of<'a>(pids: impl Iterator<Item = &'a i32>) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for pid in pids {
        let folder = format!("/proc/{pid}/fdinfo");
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let numbers = text
                .lines()
                .filter_map(|line| line.strip_prefix("fuse_connection:"));
            found.extend(numbers.filter_map(|number| number.trim().parse::<u64>().ok()));
        }
    }
    found
}

/// Ends those that are still there; nobody else's.
pub(crate) fn abort(numbers: &BTreeSet<u64>) {
    // Not mounted on every host, and not for us to leave mounted.
    let Ok(folder) = tempfile::Builder::new().prefix("dc-").tempdir_in("/tmp") else {
        return;
    };
    if mount("none", folder.path(), "fusectl", MountFlags::empty(), None).is_err() {
        return;
    }
    for number in numbers {
        let _ = std::fs::write(folder.path().join(number.to_string()).join("abort"), "1");
    }
    let _ = unmount(folder.path(), UnmountFlags::DETACH);
}
