//! A service that holds its folder's lock on purpose: it delays nobody but itself.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request, Session, SessionACL,
};
use harness::{Host, head, is_revoked, text};
use rustix::mount::{MoveMountFlags, UnmountFlags};

const FILE: INodeNo = INodeNo(2);
/// Lists a folder into memory that is a mapping of a file; getdents64(2) holds the folder's lock
/// while it waits for that file's page.
const HOLDER: &str = "
import ctypes, mmap, os, platform, sys
file = os.open(sys.argv[2], os.O_RDONLY)
page = mmap.mmap(file, 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
folder = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
number = 217 if platform.machine() == 'x86_64' else 61
ctypes.CDLL(None).syscall(ctypes.c_long(number), folder, ctypes.c_void_p(address), 4096)
";

/// One file, whose reads are never answered.
struct Stalled {
    asked: Mutex<Sender<()>>,
    waiting: Mutex<Vec<ReplyData>>,
}

fn attributes(ino: INodeNo) -> FileAttr {
    let is_file = ino == FILE;
    FileAttr {
        ino,
        size: if is_file { 4096 } else { 0 },
        blocks: 8,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: match is_file {
            true => FileType::RegularFile,
            false => FileType::Directory,
        },
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Stalled {
    fn lookup(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.entry(&Duration::ZERO, &attributes(FILE), Generation(0));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &attributes(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.waiting.lock().unwrap().push(reply);
        let _ = self.asked.lock().unwrap().send(());
    }
}

/// A process that holds a folder's lock until it is dropped.
struct Holder {
    child: Child,
    mount: PathBuf,
}

impl Holder {
    fn of(folder: &Path) -> Holder {
        let mount = tempfile::Builder::new().prefix("dv-").tempdir().unwrap();
        let mount = mount.keep();
        let (device, root) = sys::fuse::connect("deploy-secrets:test").unwrap();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&root, "", rustix::fs::CWD, &mount, flags).unwrap();
        let (asked, stalled): (_, Receiver<()>) = channel();
        let file_system = Stalled {
            asked: Mutex::new(asked),
            waiting: Mutex::default(),
        };
        let session = Session::from_fd(file_system, device, SessionACL::All, Default::default());
        let session = session.unwrap();
        std::thread::spawn(move || session.run());
        let mut command = Command::new("python3");
        command
            .args(["-c", HOLDER])
            .arg(folder)
            .arg(mount.join("x"));
        let child = command.spawn().unwrap();
        let holder = Holder { child, mount };
        stalled.recv_timeout(Duration::from_secs(60)).unwrap();
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = rustix::mount::unmount(&self.mount, UnmountFlags::FORCE);
        let _ = self.child.wait();
        while rustix::mount::unmount(&self.mount, UnmountFlags::DETACH).is_ok() {}
        let _ = std::fs::remove_dir(&self.mount);
    }
}

/// Instances 7 and 8 of one service.
fn host() -> Host {
    let host = Host::start();
    for name in ["a", "b", "other"] {
        host.set(name, "one");
    }
    host.grant(&["a", "b", "other"]);
    host.make(&["a", "b"], &[]);
    let mut spec = host.spec(&["a", "b", "other"], &[]);
    spec.number = 8;
    host.views.make(spec).unwrap();
    host
}

#[test]
fn a_rotation_waits_for_nobody_who_holds_his_folders_lock_and_names_him() {
    let host = host();
    let web = || "web".parse().unwrap();
    // Known to the kernel, so that there is something to forget.
    for instance in [7, 8] {
        assert_eq!(text(&host.secret_of(instance, "a")), Ok("one".into()));
    }
    let holder = Holder::of(&host.secret(""));
    for value in ["one more", "two"] {
        assert_eq!(host.set("a", value).stuck, [(7, web())]);
        assert_eq!(text(&host.secret_of(8, "a")), Ok(value.into()));
    }
    assert_eq!(host.set("other", "two").stuck, [], "it is none of his");
    assert_eq!(text(&host.secret_of(8, "other")), Ok("two".into()));

    drop(holder);
    let until = Instant::now() + Duration::from_secs(60);
    while !host.set("a", "three").stuck.is_empty() {
        assert!(Instant::now() < until, "nobody holds it any more");
    }
    assert_eq!(text(&host.secret_of(7, "a")), Ok("three".into()));
}

#[test]
fn a_revoke_is_final_for_who_holds_his_folders_lock_too() {
    let host = host();
    let name = "a".parse().unwrap();
    let held = [7, 8].map(|instance| File::open(host.secret_of(instance, "a")).unwrap());
    held.iter()
        .for_each(|file| assert_eq!(head(file), Ok("one".into())));
    let holder = Holder::of(&host.secret(""));
    let web = "web".parse().unwrap();
    let names = [name];
    let revocation = host.store.revoke(&host.operator, &web, &names).unwrap();
    let touched = host.views.denied(Some(&web), &names);
    revocation.commit().unwrap();
    for file in &held {
        assert!(is_revoked(&head(file)), "{:?}", head(file));
    }
    assert_eq!(host.views.forget_gone(touched.gone), [(7, web)]);
    assert_eq!(text(&host.secret_of(8, "a")), Err(libc::ENOENT));
    assert_eq!(text(&host.secret_of(8, "b")), Ok("one".into()));
    drop(holder);
    assert_eq!(text(&host.secret_of(7, "a")), Err(libc::ENOENT));
}
