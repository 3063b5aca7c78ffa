//! FUSE connections and clones of their mounts, with a server of a few lines: a tree of one folder,
//! `7`, which is empty.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MoveMountFlags, UnmountFlags};
use sys::mount::clone_readonly;

use crate::common::{sleeper, until};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const BATCH_FORGET: u32 = 42;
/// The folder `7`; the root is 1.
const FOLDER: u64 = 7 << 44;

/// `struct fuse_attr` of a folder, and what else there is, is zero.
fn attributes(inode: u64) -> Vec<u8> {
    let mut bytes = inode.to_ne_bytes().to_vec();
    bytes.resize(60, 0);
    bytes.extend(0o40555_u32.to_ne_bytes());
    bytes.extend(2_u32.to_ne_bytes());
    bytes.resize(88, 0);
    bytes
}

fn answer(request: &[u8]) -> Option<Result<Vec<u8>, i32>> {
    let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
    let node = u64::from_ne_bytes(request[16..24].try_into().unwrap());
    Some(Ok(match word(4) {
        FORGET | BATCH_FORGET => return None,
        INIT => {
            let mut out = request[40..48].to_vec();
            out.resize(64, 0);
            // max_write
            out[20..24].copy_from_slice(&4096_u32.to_ne_bytes());
            out
        }
        LOOKUP if node == 1 && request[40..].starts_with(b"7\0") => {
            let mut out = FOLDER.to_ne_bytes().to_vec();
            out.resize(40, 0);
            out.extend(attributes(FOLDER));
            out
        }
        LOOKUP => return Some(Err(libc::ENOENT)),
        GETATTR => {
            let mut out = vec![0; 16];
            out.extend(attributes(node));
            out
        }
        _ => return Some(Err(libc::ENOSYS)),
    }))
}

/// The whole answer to a request, if it gets one.
pub fn reply(request: &[u8]) -> Option<Vec<u8>> {
    let (errno, body) =
        answer(request)?.map_or_else(|errno| (-errno, Vec::new()), |body| (0, body));
    let mut reply = (16 + body.len() as u32).to_ne_bytes().to_vec();
    reply.extend(errno.to_ne_bytes());
    reply.extend(&request[8..16]);
    reply.extend(body);
    Some(reply)
}

/// Answers until the connection ends.
fn serve(mut device: File) {
    let mut request = vec![0; 1 << 20];
    loop {
        let length = match device.read(&mut request) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return,
            // A request that was taken back.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => panic!("{error}"),
        };
        if let Some(reply) = reply(&request[..length]) {
            // ENOENT: taken back meanwhile.
            let _ = device.write_all(&reply);
        }
    }
}

/// A connection that is served and attached; detached again at the end.
struct Attached {
    at: PathBuf,
    mount: OwnedFd,
    _folder: tempfile::TempDir,
}

impl Attached {
    fn new(source: &str) -> Attached {
        let folder = tempfile::tempdir().unwrap();
        let (device, mount) = sys::fuse::connect(source).unwrap();
        std::thread::spawn(move || serve(File::from(device)));
        let at = folder.path().canonicalize().unwrap();
        attach(mount.as_fd(), &at).unwrap();
        Attached {
            at,
            mount,
            _folder: folder,
        }
    }

    fn minor(&self) -> u32 {
        rustix::fs::minor(std::fs::metadata(&self.at).unwrap().dev())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.at, UnmountFlags::DETACH);
    }
}

fn attach(mount: std::os::fd::BorrowedFd<'_>, at: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(
        mount,
        "",
        rustix::fs::CWD,
        at,
        flags,
    )?)
}

/// The line of a mount point in a mount table, in two halves.
fn mount_line(pid: i32, at: &Path) -> Option<(Vec<String>, Vec<String>)> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4) == at.to_str())?;
    let (mount, file_system) = line.split_once(" - ").unwrap();
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    Some((words(mount), words(file_system)))
}

#[test]
fn a_connection_has_its_source_and_checks_modes_for_everybody() {
    let attached = Attached::new("deploy-test-secret");
    let (mount, file_system) = mount_line(std::process::id() as i32, &attached.at).unwrap();
    assert_eq!(file_system[..2], ["fuse", "deploy-test-secret"]);
    for option in [
        "user_id=0",
        "group_id=0",
        "default_permissions",
        "allow_other",
    ] {
        assert!(
            file_system[2].split(',').any(|one| one == option),
            "{file_system:?}"
        );
    }
    for option in ["rw", "nosuid", "nodev", "noexec"] {
        assert!(mount[5].split(',').any(|one| one == option), "{mount:?}");
    }
    assert_eq!(
        std::fs::metadata(attached.at.join("7")).unwrap().ino(),
        FOLDER
    );
}

#[test]
fn a_clone_is_one_folder_read_only_in_the_namespace_of_the_service_alone() {
    let attached = Attached::new("deploy-test-secret");
    let clone = clone_readonly(attached.mount.as_fd(), Path::new("7")).unwrap();
    let service = sleeper().new_mount_namespace().start_paused().unwrap();
    let target = tempfile::tempdir().unwrap();
    let at = target.path().canonicalize().unwrap();
    let made = sys::namespace::inside(service.pidfd(), || {
        attach(clone.as_fd(), &at)?;
        Ok(std::fs::create_dir(at.join("x"))
            .unwrap_err()
            .raw_os_error())
    });
    assert_eq!(made.unwrap(), Some(libc::EROFS));

    let (mount, _) = mount_line(service.pid(), &at).unwrap();
    assert_eq!(mount[3], "/7");
    for option in ["ro", "nosuid", "nodev", "noexec", "nosymfollow"] {
        assert!(mount[5].split(',').any(|one| one == option), "{mount:?}");
    }
    assert_eq!(mount.len(), 6, "no propagation: {mount:?}");
    assert_eq!(mount_line(std::process::id() as i32, &at), None);

    // The master is copied into every new namespace: only the root tells the two apart.
    let roots = |pid: i32| {
        let mut roots = sys::reader::mounts_of(pid.unsigned_abs(), attached.minor()).unwrap();
        roots.sort();
        roots
    };
    assert_eq!(roots(service.pid()), ["/", "/7"]);
    assert_eq!(roots(std::process::id() as i32), ["/"]);
}

#[test]
fn a_clone_is_of_a_folder_below_its_master_only() {
    let attached = Attached::new("deploy-test-secret");
    for folder in ["", ".", "..", "/", "/etc", "7/..", "7/../../etc"] {
        let refused = clone_readonly(attached.mount.as_fd(), Path::new(folder)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{folder:?}");
    }
    let absent = clone_readonly(attached.mount.as_fd(), Path::new("8")).unwrap_err();
    assert_eq!(absent.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_descriptor_that_is_replaced_leads_to_the_other_and_is_not_handed_on() {
    let (session, peer) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::empty(),
        None,
    )
    .unwrap();
    let number = session.as_raw_fd();
    let (device, mount) = sys::fuse::connect("deploy-test-secret").unwrap();
    sys::fuse::replace(session.as_fd(), device.as_fd()).unwrap();
    drop(device);
    assert_eq!(session.as_raw_fd(), number);
    let fuse = std::fs::metadata("/dev/fuse").unwrap().rdev();
    assert_eq!(rustix::fs::fstat(&session).unwrap().st_rdev, fuse);
    let flags = rustix::io::fcntl_getfd(&session).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    // What was there is closed, and the connection lives on: its INIT is there to be read.
    until("the end of the peer", || {
        matches!(
            rustix::net::recv(&peer, &mut [0; 1][..], rustix::net::RecvFlags::DONTWAIT),
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET)
        )
    });
    let mut request = vec![0; 1 << 20];
    let length = rustix::io::read(&session, &mut request[..]).unwrap();
    assert!(length >= 56);
    assert_eq!(request[4..8], INIT.to_ne_bytes());
    drop(mount);
}
