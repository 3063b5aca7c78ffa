//! Who is at the other end.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::common::as_user;

/// A connection that a thread made as `uid` with `groups`.
fn connection(uid: u32, groups: &[u32]) -> (UnixStream, UnixStream) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    for (path, mode) in [(dir.path(), 0o755), (path.as_path(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let client = as_user(uid, groups, || UnixStream::connect(&path).unwrap());
    (listener.accept().unwrap().0, client)
}

#[test]
fn the_kernel_names_the_user_and_all_groups_of_who_connected() {
    let groups: Vec<u32> = (1000..1300).collect();
    let (stream, _client) = connection(54321, &groups);
    let peer = sys::peer::credentials(&stream).unwrap();
    assert_eq!((peer.uid, peer.gid), (54321, 54321));
    assert_eq!(peer.pid, std::process::id() as i32);
    assert_eq!(sys::peer::groups(&stream).unwrap(), groups);

    let (stream, _client) = connection(54321, &[]);
    assert_eq!(sys::peer::groups(&stream).unwrap(), []);
}

#[test]
pub fn the_pidfd_is_of_the_process_that_connected() {
    let (stream, _other) = UnixStream::pair().unwrap();
    let pidfd = sys::peer::pidfd(&stream).unwrap();
    let info = format!(
        "/proc/self/fdinfo/{}",
        std::os::fd::AsRawFd::as_raw_fd(&pidfd)
    );
    let text = std::fs::read_to_string(info).unwrap();
    assert_eq!(
        crate::common::field(&text, "Pid"),
        std::process::id().to_string()
    );
}
