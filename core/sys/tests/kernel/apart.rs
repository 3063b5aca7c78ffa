//! Jobs of a process apart: this very program, started again for each of the two.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sys::apart::Apart;

use crate::common::{start, until, wait_for_end};
use crate::helper;

const LOOKUP: u32 = 1;

fn act(job: &[u8], on: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    match job {
        b"pid" => rustix::io::write(on, &std::process::id().to_ne_bytes()).map(|_| None),
        b"read" => rustix::io::read(on, &mut [0; 1][..]).map(|_| None),
        b"look" => rustix::fs::openat(on, "7", OFlags::PATH, Mode::empty()).map(Some),
        _ => Err(Errno::NOSYS),
    }
}

pub fn serve_helper() {
    sys::apart::serve(act).unwrap();
}

fn apart() -> Apart {
    let nowhere = helper::nowhere();
    let serve = helper::spawn("apart-serve").stdout(nowhere.as_fd());
    Apart::start(serve, || std::process::exit(7)).unwrap()
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

fn number(from: OwnedFd) -> i32 {
    let mut number = [0; 4];
    std::fs::File::from(from).read_exact(&mut number).unwrap();
    i32::from_ne_bytes(number)
}

fn pid(apart: &Apart) -> i32 {
    let (read, write) = pipe();
    apart.ask(b"pid", write.as_fd()).unwrap();
    number(read)
}

/// What is left of it. A zombie that has a thread still is not gone.
fn threads(pid: i32) -> usize {
    let path = PathBuf::from(format!("/proc/{pid}/task"));
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

#[test]
fn a_job_is_done_by_another_process_and_its_error_comes_back() {
    let apart = apart();
    let (read, _write) = pipe();
    assert_ne!(pid(&apart), std::process::id() as i32);
    assert_eq!(apart.ask(b"other", read.as_fd()).err(), Some(Errno::NOSYS));
    assert_eq!(apart.ask(b"", read.as_fd()).err(), Some(Errno::MSGSIZE));
    // Not kept open by it once it has answered.
    let (read, write) = pipe();
    apart.ask(b"other", write.as_fd()).unwrap_err();
    drop(write);
    assert_eq!(rustix::io::read(&read, &mut [0; 1][..]), Ok(0));
    // What it has made is ours.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("7"), "").unwrap();
    let made = apart.ask(b"look", std::fs::File::open(folder.path()).unwrap().as_fd());
    let made = rustix::fs::fstat(made.unwrap().unwrap()).unwrap();
    let file = rustix::fs::stat(folder.path().join("7")).unwrap();
    assert_eq!((made.st_dev, made.st_ino), (file.st_dev, file.st_ino));
}

#[test]
fn jobs_that_hang_hold_up_no_other() {
    let apart = apart();
    let pipes: Vec<_> = (0..20).map(|_| pipe()).collect();
    let pid = pid(&apart);
    std::thread::scope(|scope| {
        let asked: Vec<_> = pipes
            .iter()
            .map(|(read, _)| scope.spawn(|| apart.ask(b"read", read.as_fd())))
            .collect();
        until("one thread for each", || threads(pid) > pipes.len());
        assert_eq!(self::pid(&apart), pid);
        for (_, write) in &pipes {
            rustix::io::write(write, b"!").unwrap();
        }
        for one in asked {
            one.join().unwrap().unwrap();
        }
    });
    assert_eq!(self::pid(&apart), pid);
}

#[test]
fn it_ends_with_who_started_it() {
    let apart = apart();
    let process = crate::common::pidfd(pid(&apart));
    drop(apart);
    wait_for_end(process.as_fd());
}

/// Asks for what is never answered, in a process that can be killed.
pub fn ask_helper() {
    let mut fds = sys::process::listen_fds().unwrap();
    let mut take = |name: &str| {
        let at = fds.iter().position(|(other, _)| other == name).unwrap();
        fds.swap_remove(at).1
    };
    let (mount, tell) = (take("mount"), take("tell"));
    let apart = apart();
    let mut tell = std::fs::File::from(tell);
    tell.write_all(&pid(&apart).to_ne_bytes()).unwrap();
    apart.ask(b"look", mount.as_fd()).unwrap();
}

#[test]
fn who_is_killed_is_gone_while_what_he_asked_for_waits_in_the_kernel() {
    let (device, mount) = sys::fuse::connect("deploy-test-secret").unwrap();
    let mut device = std::fs::File::from(device);
    let (read, write) = pipe();
    let nowhere = helper::nowhere();
    let mut asks = start(
        helper::spawn("apart-ask")
            .stdout(nowhere.as_fd())
            .listen_fd("mount", mount.as_fd())
            .listen_fd("tell", write.as_fd()),
    );
    drop(write);
    let apart = number(read);
    let mut request = vec![0; 1 << 20];
    loop {
        let length = device.read(&mut request).unwrap();
        let code = u32::from_ne_bytes(request[4..8].try_into().unwrap());
        if code == LOOKUP {
            break;
        }
        let answered = crate::fuse::reply(&request[..length]).unwrap();
        device.write_all(&answered).unwrap();
    }
    asks.signal(libc::SIGKILL).unwrap();
    wait_for_end(asks.pidfd());
    asks.wait().unwrap();
    // The kernel keeps the thread until it has its answer.
    until("its main thread has ended", || {
        let stat = std::fs::read_to_string(format!("/proc/{apart}/stat"));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    });
    assert!(threads(apart) > 0);
    let answered = crate::fuse::reply(&request).unwrap();
    device.write_all(&answered).unwrap();
    until("nothing is left of it", || threads(apart) == 0);
}
