//! What a started program finds, and how it ends.

use std::io;
use std::os::fd::AsFd;

use sys::process::{ExitStatus, Spawn, StartError};

use crate::common::{Running, output, pidfd, shell, sleeper, start, status, wait_for_end};
use crate::helper;

#[test]
fn the_environment_is_exactly_what_was_given() {
    let spawn = Spawn::new("/usr/bin/env")
        .env("A", "1")
        .env("PATH", "/nowhere")
        .env("EMPTY", "")
        .env("A", "two words=3");
    assert_eq!(output(spawn), "A=two words=3\nPATH=/nowhere\nEMPTY=\n");
    assert_eq!(output(Spawn::new("/usr/bin/env")), "");
}

#[test]
fn arguments_and_the_working_folder_arrive_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut spawn = shell("pwd; printf '<%s>' \"$0\" \"$@\"").cwd(dir.path());
    for arg in ["", "a b", "*"] {
        spawn = spawn.arg(arg);
    }
    let here = dir.path().canonicalize().unwrap();
    assert_eq!(output(spawn), format!("{}\n<><a b><*>", here.display()));
}

#[test]
fn a_program_runs_where_another_process_sees_its_mounts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    let script =
        format!("mount -t tmpfs none {path}; echo inside >{path}/file; echo; exec sleep 600");
    let (reads, writes) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let other = start(
        shell(&script)
            .new_mount_namespace()
            .stdout(writes.as_fd())
            .parent_death_signal(libc::SIGKILL),
    );
    rustix::io::read(&reads, &mut [0][..]).unwrap();
    let file = dir.path().join("file");
    let cat = || Spawn::new("/bin/cat").arg(&file).user(54321, 54321, &[]);
    assert_eq!(output(cat().mount_namespace_of(other.pidfd())), "inside\n");
    assert!(!file.exists());
}

#[test]
fn what_exec_says_comes_back_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("no-program");
    std::fs::write(&file, "").unwrap();
    for (program, errno) in [
        (dir.path().join("absent"), libc::ENOENT),
        (file, libc::EACCES),
        (dir.path().to_owned(), libc::EACCES),
    ] {
        let error = Spawn::new(&program).start().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{error}");
        let paused = Spawn::new(&program).start_paused().unwrap();
        let pid = paused.pid();
        let error = paused.release().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{error}");
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "a zombie is left"
        );
    }
}

#[test]
fn what_fails_before_exec_is_named() {
    let error = sleeper().cwd("/nowhere/at/all").start().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(
        error
            .to_string()
            .starts_with("cannot enter the working folder: "),
        "{error}"
    );
    assert!(
        error
            .get_ref()
            .is_some_and(|inner| inner.is::<StartError>())
    );
}

#[test]
fn what_cannot_be_said_to_exec_is_refused_before_a_process_is_made() {
    for spawn in [
        sleeper().arg("a\0b"),
        sleeper().env("A", "a\0b"),
        sleeper().env("A=B", "c"),
        sleeper().env("", "c"),
        sleeper().parent_death_signal(4711),
        // For setresuid(2) the highest number means: stay root.
        sleeper().user(u32::MAX, 0, &[]),
        sleeper().user(0, u32::MAX, &[]),
        sleeper().user(0, 0, &[u32::MAX]),
    ] {
        assert_eq!(
            spawn.start().unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}

#[test]
fn no_signal_is_blocked_ignored_or_handled() {
    // The harness ignores SIGPIPE, as every Rust program does.
    let own = status(std::process::id() as i32, "SigIgn");
    assert_ne!(
        u64::from_str_radix(&own, 16).unwrap() & (1 << (libc::SIGPIPE - 1)),
        0
    );
    let mut child = start(sleeper());
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(status(child.pid(), set), "0".repeat(16), "{set}");
    }
    child.signal(libc::SIGPIPE).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Signal(libc::SIGPIPE));
}

#[test]
fn a_process_group_of_its_own_bears_its_number() {
    let child = start(sleeper().new_process_group());
    let pid = rustix::process::Pid::from_raw(child.pid());
    assert_eq!(rustix::process::getpgid(pid).ok(), pid);
}

#[test]
fn the_end_is_told_as_code_or_signal_and_told_again() {
    let mut child = start(shell("exit 7"));
    let ended = child.wait().unwrap();
    assert_eq!((ended.code(), ended.code_or_signal()), (Some(7), 7));
    assert_eq!(ended.to_string(), "exit code 7");
    assert_eq!(child.try_wait().unwrap(), Some(ended));

    let mut child = start(sleeper());
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(libc::SIGKILL).unwrap();
    let ended = child.wait().unwrap();
    assert_eq!((ended.code(), ended.code_or_signal()), (None, 137));
    assert_eq!(ended.to_string(), "signal 9");
    // Its number may be another's by now; the pidfd never is.
    assert_eq!(
        child.signal(libc::SIGTERM).unwrap_err().raw_os_error(),
        Some(libc::ESRCH)
    );
}

/// The part of [`the_program_gets_its_signal_when_its_parent_ends`] that ends.
pub fn death_signal_helper() {
    let child = sleeper()
        .user(54321, 54321, &[])
        .no_new_privileges()
        .drop_capabilities()
        .parent_death_signal(libc::SIGTERM)
        .start()
        .unwrap();
    eprintln!("{}", child.pid());
    loop {
        std::thread::park();
    }
}

#[test]
fn the_program_gets_its_signal_when_its_parent_ends() {
    let (mut parent, pid) = start_and_read_pid("death-signal");
    let pidfd = pidfd(pid);
    parent.signal(libc::SIGKILL).unwrap();
    parent.wait().unwrap();
    wait_for_end(pidfd.as_fd());
}

/// Starts a helper that says the number of a child of its own.
pub fn start_and_read_pid(part: &str) -> (Running, i32) {
    use std::io::BufRead;
    let nowhere = helper::nowhere();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let spawn = helper::spawn(part)
        .stdout(nowhere.as_fd())
        .stderr(write.as_fd());
    let parent = start(spawn);
    drop(write);
    let mut line = String::new();
    io::BufReader::new(std::fs::File::from(read))
        .read_line(&mut line)
        .unwrap();
    (parent, line.trim().parse().unwrap())
}

#[test]
fn starts_from_many_threads_that_allocate_never_hang_or_mix_up() {
    // A child that took a lock of the allocator's would wait for ever.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let all: Vec<String> = (0..64).map(|n| "x".repeat(n * 64)).collect();
                    std::hint::black_box(all);
                }
            });
        }
        let starters: Vec<_> = (0..4)
            .map(|thread| {
                scope.spawn(move || {
                    for round in 0..50 {
                        let text = format!("{thread}-{round}");
                        let spawn = Spawn::new("/bin/echo").arg(&text).new_mount_namespace();
                        assert_eq!(output(spawn), text + "\n");
                    }
                })
            })
            .collect();
        let results: Vec<_> = starters.into_iter().map(|one| one.join()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
}
