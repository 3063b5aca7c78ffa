//! Cgroups of services.

use std::io;
use std::os::fd::AsFd;

use sys::cgroup::Cgroup;

use crate::common::{TestCgroups, pidfd, shell, sleeper, start, until, wait_for_end};

fn cgroup_of(pid: i32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap()
        .to_owned()
}

#[test]
fn a_process_is_in_its_cgroup_before_it_executes_anything() {
    let Some(cgroups) = TestCgroups::new("before") else {
        return;
    };
    let cgroup = cgroups.create("web.1");
    assert!(cgroup.path().starts_with('/') && cgroup.path().ends_with("/web.1"));
    let paused = sleeper()
        .user(54321, 54321, &[])
        .cgroup(&cgroup)
        .start_paused()
        .unwrap();
    assert_eq!(cgroup_of(paused.pid()), cgroup.path());
    assert_eq!(Cgroup::open(cgroup.path()).unwrap().path(), cgroup.path());
}

#[test]
fn kill_ends_every_process_also_those_that_left_their_parent() {
    let Some(cgroups) = TestCgroups::new("kill") else {
        return;
    };
    let cgroup = cgroups.create("web.1");
    let script = "setsid sleep 600 & setsid sh -c 'sleep 600 & sleep 600' & wait";
    let spawn = shell(script).env("PATH", "/usr/bin:/bin").cgroup(&cgroup);
    let mut child = start(spawn);
    let procs = cgroups.parent().join("web.1/cgroup.procs");
    let members = || -> Vec<i32> {
        let text = std::fs::read_to_string(&procs).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    until("five processes", || members().len() == 5);
    let all: Vec<_> = members().into_iter().map(pidfd).collect();
    cgroup.kill().unwrap();
    assert_eq!(members(), []);
    child.wait().unwrap();
    all.iter().for_each(|one| wait_for_end(one.as_fd()));
    cgroup.remove().unwrap();
    assert!(!procs.exists());
    // Nothing more to do is no error.
    cgroup.kill().and_then(|()| cgroup.remove()).unwrap();
}

#[test]
fn remove_takes_what_the_service_made_and_leaves_what_others_use() {
    let Some(cgroups) = TestCgroups::new("remove") else {
        return;
    };
    let parent = cgroups.parent().join("run");
    let (one, other) = (
        Cgroup::create(&parent, "a").unwrap(),
        Cgroup::create(&parent, "b").unwrap(),
    );
    std::fs::create_dir_all(parent.join("a/made/by/service")).unwrap();
    one.remove().unwrap();
    assert!(!parent.join("a").exists() && parent.join("b").exists());
    other.remove().unwrap();
    // Up to what another test or service may use.
    assert!(!parent.exists() && cgroups.parent().exists());
}

#[test]
fn a_cgroup_with_a_process_is_neither_removed_nor_taken_by_another() {
    let Some(cgroups) = TestCgroups::new("busy") else {
        return;
    };
    let cgroup = cgroups.create("web.1");
    let paused = sleeper().cgroup(&cgroup).start_paused().unwrap();
    assert_eq!(
        cgroup.remove().unwrap_err().raw_os_error(),
        Some(libc::EBUSY)
    );
    let taken = Cgroup::create(cgroups.parent(), "web.1").unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    drop(paused);
    // Left behind by one that was killed: empty, so that it may be used again.
    let cgroup = cgroups.create("web.1");
    cgroup.remove().unwrap();
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let Some(cgroups) = TestCgroups::new("names") else {
        return;
    };
    for name in ["", ".", "..", "a/b", "/a", "a/", "a\nb"] {
        assert!(Cgroup::create(cgroups.parent(), name).is_err(), "{name:?}");
    }
    let outside = tempfile::tempdir().unwrap();
    assert!(Cgroup::create(outside.path(), "a").is_err());
    assert!(!outside.path().join("a").exists());
    for path in ["", "a", "/..", "/a/../..", "/a/./../b"] {
        assert_eq!(
            Cgroup::open(path).unwrap_err().kind(),
            io::ErrorKind::InvalidInput,
            "{path:?}"
        );
    }
    assert_eq!(
        Cgroup::open("/not/there").unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn cgroups_made_and_removed_at_the_same_time_do_not_hinder_each_other() {
    let Some(cgroups) = TestCgroups::new("race") else {
        return;
    };
    let parent = cgroups.parent().join("run");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let parent = &parent;
            scope.spawn(move || {
                for _ in 0..100 {
                    let cgroup = Cgroup::create(parent, &thread.to_string()).unwrap();
                    cgroup.remove().unwrap();
                }
            });
        }
    });
    assert!(!parent.exists());
}
