//! What else a service can do to secretsd than to open a secret.

use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, FlockOperation, Mode, OFlags, SeekFrom, XattrFlags};

/// Each of them once, around a file of a view; `number` makes names that nobody has asked for.
/// Nothing of it succeeds but what reads.
pub fn all(path: &str, number: u64) {
    let folder = Path::new(path).parent().unwrap();
    let absent = folder.join(format!("absent-{number}"));
    let long = folder.join("x".repeat(256));
    for name in [&absent, &long] {
        assert!(fs::stat(name).is_err());
        assert!(fs::open(name, OFlags::RDONLY, Mode::empty()).is_err());
    }
    let mode = Mode::from_raw_mode(0o600);
    let made = [
        fs::mkdir(&absent, mode),
        fs::unlink(path),
        fs::rename(path, &absent),
        fs::symlink("elsewhere", &absent),
        fs::chmod(path, mode),
        fs::setxattr(path, "user.x", b"y", XattrFlags::empty()),
        fs::open(path, OFlags::RDWR | OFlags::TRUNC, mode).map(drop),
    ];
    assert!(made.iter().all(Result::is_err), "{made:?}");
    let _ = fs::getxattr(path, "security.capability", &mut [0; 64][..]);
    let _ = fs::listxattr(path, &mut [0; 64][..]);
    let _ = fs::statvfs(path);
    let listed = std::fs::read_dir(folder).unwrap();
    assert!(listed.flatten().any(|entry| entry.metadata().is_ok()));
    let file = fs::open(path, OFlags::RDONLY, Mode::empty()).unwrap();
    let _ = fs::seek(&file, SeekFrom::End(0));
    let _ = fs::seek(&file, SeekFrom::Hole(0));
    let _ = rustix::io::ioctl_fionread(&file);
    let _ = poll(
        &mut [PollFd::new(&file, PollFlags::IN)],
        Some(&Timespec::default()),
    );
    for lock in [
        FlockOperation::NonBlockingLockExclusive,
        FlockOperation::Unlock,
    ] {
        let _ = fs::flock(&file, lock);
        let _ = fs::fcntl_lock(&file, lock);
    }
}
