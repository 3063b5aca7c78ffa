//! What secretsd gives up.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use rustix::process::{DumpableBehavior, Resource, Signal};

use crate::helper;

/// The part of [`hardened_a_process_leaves_no_core_and_gains_nothing`] that cannot be undone.
pub fn harden_helper() {
    sys::sandbox::harden().unwrap();
    assert_eq!(
        rustix::process::dumpable_behavior().unwrap(),
        DumpableBehavior::NotDumpable
    );
    let limit = rustix::process::getrlimit(Resource::Core);
    assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    assert!(rustix::thread::no_new_privs().unwrap());
}

#[test]
fn hardened_a_process_leaves_no_core_and_gains_nothing() {
    helper::run(helper::spawn("harden"));
}

/// The part of [`no_exec_no_mounts_no_others_while_threads_and_unix_sockets_go_on`] that cannot be
/// undone. It stays root with all capabilities: what fails, fails by the filter.
pub fn forbid_helper() {
    let dir = tempfile::tempdir().unwrap();
    let (start, started) = std::sync::mpsc::channel::<()>();
    let before = std::thread::spawn(move || {
        started.recv().unwrap();
        all_forbidden();
    });
    // We cannot end it any more: it ends with this thread.
    let child = crate::common::sleeper()
        .parent_death_signal(libc::SIGKILL)
        .start()
        .unwrap();
    sys::sandbox::forbid_exec_and_mounts().unwrap();

    // In this thread, in one that was there before, and in a new one.
    all_forbidden();
    start.send(()).unwrap();
    before.join().unwrap();
    std::thread::spawn(all_forbidden).join().unwrap();

    // Others are out of reach, by number and by pidfd.
    assert_eq!(errno(child.signal(libc::SIGKILL)), libc::EPERM);
    let pid = rustix::process::Pid::from_raw(child.pid()).unwrap();
    let killed = rustix::process::kill_process(pid, Signal::KILL);
    assert_eq!(errno(killed.map_err(io::Error::from)), libc::EPERM);
    // We are not: abort(3) must end us.
    rustix::process::test_kill_process(rustix::process::getpid()).unwrap();

    works_as_before(dir.path());
}

fn all_forbidden() {
    let exec = Command::new("/bin/true").status();
    assert_eq!(errno(exec.map(drop)), libc::EPERM, "exec");
    assert_eq!(
        errno(TcpListener::bind("127.0.0.1:0").map(drop)),
        libc::EPERM,
        "tcp"
    );
    assert_eq!(
        errno(UdpSocket::bind("[::1]:0").map(drop)),
        libc::EPERM,
        "udp"
    );
    let zero = |number| (number, [0, 0, 0]);
    let calls = [
        zero(libc::SYS_execve),
        zero(libc::SYS_execveat),
        (libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0]),
        (
            libc::SYS_clone,
            [
                (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD).into(),
                0,
                0,
            ],
        ),
        zero(libc::SYS_ptrace),
        zero(libc::SYS_process_vm_readv),
        zero(libc::SYS_pidfd_getfd),
        zero(libc::SYS_mount),
        zero(libc::SYS_umount2),
        zero(libc::SYS_move_mount),
        zero(libc::SYS_open_tree),
        zero(libc::SYS_fsopen),
        (libc::SYS_unshare, [libc::CLONE_NEWNS.into(), 0, 0]),
        zero(libc::SYS_setns),
        zero(libc::SYS_chroot),
        zero(libc::SYS_bpf),
        zero(libc::SYS_io_uring_setup),
        (
            libc::SYS_socket,
            [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), 0],
        ),
        (
            libc::SYS_socket,
            [libc::AF_ALG.into(), libc::SOCK_SEQPACKET.into(), 0],
        ),
        (libc::SYS_kill, [1, 0, 0]),
        (libc::SYS_kill, [-1, 0, 0]),
        (libc::SYS_tgkill, [1, 1, 0]),
    ];
    for (number, [a, b, c]) in calls {
        assert_eq!(raw(number, a, b, c), libc::EPERM, "system call {number}");
    }
    #[cfg(target_arch = "x86_64")]
    {
        assert_eq!(raw(libc::SYS_fork, 0, 0, 0), libc::EPERM);
        assert_eq!(raw(libc::SYS_vfork, 0, 0, 0), libc::EPERM);
        // execve(2) by its number of the x32 ABI, which the kernel itself may not know (ENOSYS).
        assert_eq!(raw(0x4000_0000 + 520, 0, 0, 0), libc::EPERM);
    }
    assert_eq!(raw(libc::SYS_clone3, 0, 0, 0), libc::ENOSYS);
}

/// The errno of a system call, 0 if there was none.
fn raw(number: i64, a: i64, b: i64, c: i64) -> i32 {
    // SAFETY: null pointers, numbers and flags alone; each call is refused at once, by the filter or
    // for what it is given. (A fork that was not refused would share nothing that is written.)
    match unsafe { libc::syscall(number, a, b, c, 0, 0) } {
        -1 => io::Error::last_os_error().raw_os_error().unwrap_or(0),
        _ => 0,
    }
}

fn works_as_before(dir: &std::path::Path) {
    let path = dir.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let server = listener.accept().unwrap().0;
    assert_eq!(
        sys::peer::credentials(&server).unwrap().pid,
        std::process::id() as i32
    );
    drop(client);
    UnixStream::pair().unwrap();
    // The C library leaves the upper half of an int's register as it is.
    let unix = i64::from(libc::AF_UNIX) | 1 << 32;
    assert_eq!(raw(libc::SYS_socket, unix, libc::SOCK_STREAM.into(), 0), 0);
    std::fs::write(dir.join("file"), "written").unwrap();
    assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"written");
    assert_eq!(sys::users::account("root").unwrap().unwrap().uid, 0);
    let own = std::process::id();
    let readers = sys::reader::ReaderCache::default();
    assert_eq!(readers.tgid_of(own).unwrap(), own);
    sys::memory::LockedBytes::new_zeroed(1).unwrap();
    let description = format!("sys-test:sandbox:{own}");
    sys::keyring::put(&description, b"x").unwrap();
    assert!(sys::keyring::get(&description).unwrap().is_some());
    sys::keyring::remove(&description).unwrap();
    let sum: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|n| scope.spawn(move || n)).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(sum, 28);
}

fn errno(result: io::Result<()>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap_or(0)
}

#[test]
fn no_exec_no_mounts_no_others_while_threads_and_unix_sockets_go_on() {
    helper::run(helper::spawn("forbid"));
}

/// The part of [`who_mounts_still_mounts_and_executes_nothing`] that cannot be undone: as the
/// injector, with root's capabilities.
pub fn mounts_helper() {
    let child = crate::common::sleeper()
        .new_mount_namespace()
        .parent_death_signal(libc::SIGKILL)
        .start()
        .unwrap();
    sys::sandbox::forbid_exec_and_networks().unwrap();

    let exec = Command::new("/bin/true").status();
    assert_eq!(errno(exec.map(drop)), libc::EPERM, "exec");
    assert_eq!(
        errno(TcpListener::bind("127.0.0.1:0").map(drop)),
        libc::EPERM,
        "tcp"
    );
    let netlink = libc::AF_NETLINK.into();
    for (number, [a, b, c]) in [
        (libc::SYS_execve, [0, 0, 0]),
        (libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0]),
        (libc::SYS_socket, [netlink, libc::SOCK_RAW.into(), 0]),
        (libc::SYS_ptrace, [0, 0, 0]),
        (libc::SYS_process_vm_readv, [0, 0, 0]),
        (libc::SYS_pidfd_getfd, [0, 0, 0]),
        (libc::SYS_kill, [1, 0, 0]),
        (libc::SYS_bpf, [0, 0, 0]),
        (libc::SYS_finit_module, [0, 0, 0]),
        (libc::SYS_mount, [0, 0, 0]),
        (libc::SYS_chroot, [0, 0, 0]),
        (libc::SYS_unshare, [libc::CLONE_NEWNS.into(), 0, 0]),
        (libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0]),
        (libc::SYS_setns, [-1, libc::CLONE_NEWNET.into(), 0]),
        (libc::SYS_setns, [-1, 0, 0]),
    ] {
        assert_eq!(raw(number, a, b, c), libc::EPERM, "system call {number}");
    }

    // What it is for: a mount, made here and attached there.
    let dir = tempfile::tempdir().unwrap();
    let (device, mount) = sys::fuse::connect("sys-test").unwrap();
    let at = std::fs::File::open(dir.path()).unwrap();
    let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | rustix::mount::MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    sys::namespace::inside(child.pidfd(), || {
        let at = std::fs::File::open(dir.path())?;
        Ok(rustix::mount::move_mount(&mount, "", at, "", flags)?)
    })
    .unwrap();
    drop((at, device));
    child.signal(libc::SIGKILL).unwrap();
}

#[test]
fn who_mounts_still_mounts_and_executes_nothing() {
    helper::run(helper::spawn("mounts"));
}

/// The part of [`files_change_below_ones_own_folders_alone`] that cannot be undone. It stays root:
/// what fails, fails by Landlock.
pub fn files_helper() {
    let dir = std::path::PathBuf::from(std::env::var_os("SYS_FOLDER").unwrap());
    let (own, other) = (dir.join("own"), dir.join("other"));
    let script = own.join("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for folder in [&own, &other] {
        std::fs::create_dir(folder.join("empty")).unwrap();
        std::fs::write(folder.join("file"), "whole").unwrap();
    }
    sys::sandbox::harden().unwrap();
    assert!(sys::sandbox::restrict_files(&[&own]).unwrap());

    for (what, change) in CHANGES {
        assert_eq!(errno(change(&other)), libc::EACCES, "{what}");
        let there = other.clone();
        let by_thread = std::thread::spawn(move || change(&there)).join();
        assert_eq!(errno(by_thread.unwrap()), libc::EACCES, "{what}");
    }
    let taken = std::fs::rename(other.join("file"), own.join("taken"));
    assert_eq!(errno(taken), libc::EACCES);
    let exec = Command::new(&script).status();
    assert_eq!(errno(exec.map(drop)), libc::EACCES);
    let null = rustix::fs::stat("/dev/null").unwrap();
    let kind = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::RUSR;
    let made = rustix::fs::mknodat(rustix::fs::CWD, own.join("null"), kind, mode, null.st_rdev);
    assert_eq!(errno(made.map_err(io::Error::from)), libc::EACCES);

    for (what, change) in CHANGES {
        change(&own).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    // A key file may be anywhere, and /proc and the lists of users are read.
    std::fs::File::create_new(other.join("key")).unwrap();
    assert_eq!(std::fs::read(other.join("file")).unwrap(), b"whole");
    std::fs::read("/proc/1/mountinfo").unwrap();
    assert_eq!(sys::users::account("root").unwrap().unwrap().uid, 0);
}

type Change = fn(&std::path::Path) -> io::Result<()>;

/// In this order they work in a folder that may be changed.
const CHANGES: [(&str, Change); 7] = [
    ("make a folder", |dir| std::fs::create_dir(dir.join("made"))),
    ("make a socket", |dir| {
        UnixListener::bind(dir.join("socket")).map(drop)
    }),
    ("make a symlink", |dir| {
        std::os::unix::fs::symlink("x", dir.join("symlink"))
    }),
    ("truncate", |dir| {
        std::fs::File::create(dir.join("file")).map(drop)
    }),
    ("rename", |dir| {
        std::fs::rename(dir.join("file"), dir.join("renamed"))
    }),
    ("remove", |dir| {
        let file = dir.join("renamed");
        let there = if file.exists() {
            file
        } else {
            dir.join("file")
        };
        std::fs::remove_file(there)
    }),
    ("remove a folder", |dir| {
        std::fs::remove_dir(dir.join("empty"))
    }),
];

#[test]
fn files_change_below_ones_own_folders_alone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["own", "other"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    helper::run(helper::spawn("files").env("SYS_FOLDER", dir.path()));
}
