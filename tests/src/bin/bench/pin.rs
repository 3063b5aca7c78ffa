//! Keeping a process on one processor.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps the calling thread on a processor.
pub fn this_thread(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).unwrap();
}

/// Keeps every thread of a process on a processor.
pub fn process(pid: i32, processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread = thread.unwrap().file_name();
        let id = Pid::from_raw(thread.to_str().unwrap().parse().unwrap());
        // A thread may have ended since it was listed.
        let _ = sched_setaffinity(id, &set);
    }
}
