//! FUSE connections that a test leaves: a thread that waits for the answer of a daemon that is gone
//! holds its own connection open, and ends only when that is aborted.

use std::collections::BTreeSet;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The numbers of the connections that threads of these processes have open: of a process that was
/// killed, too, while one of its threads waits.
fn open_by(pids: &BTreeSet<i32>) -> BTreeSet<u64> {
    let entries = |path: String| std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut found = BTreeSet::new();
    for thread in pids
        .iter()
        .flat_map(|pid| entries(format!("/proc/{pid}/task")))
    {
        for entry in entries(format!("{}/fdinfo", thread.path().display())) {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let numbers = text
                .lines()
                .filter_map(|line| line.strip_prefix("fuse_connection:"));
            found.extend(numbers.filter_map(|number| number.trim().parse::<u64>().ok()));
        }
    }
    found
}

/// Ends the connections of processes that were killed and have not ended; nobody else's: a number is
/// given again as soon as its connection has gone.
pub(crate) fn abort_those_of(pids: &BTreeSet<i32>) {
    let numbers = open_by(pids);
    if numbers.is_empty() {
        return;
    }
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
