//! Both ends of systemd's own protocol: `NOTIFY_SOCKET` with `READY=1`, `FDSTORE=1`,
//! `FDNAME=`, `FDSTOREREMOVE=1`, and what comes back as `LISTEN_FDS` and `LISTEN_FDNAMES`
//! (sd_notify(3), sd_listen_fds(3)). secretsd and the injector thus have one way, under systemd
//! and under [`crate::keeper`].
//!
//! Each program has a socket of its own, which only its user may write to: who sent a message is
//! known without asking.

use std::fs::Permissions;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// As systemd's `FileDescriptorStoreMax=` in our units.
const STORE_MAX: usize = 32;
/// sd_notify messages are short; a longer one is cut and so ignored by the line.
const MESSAGE_MAX: usize = 4096;
/// SCM_MAX_FD of the kernel is 253; nobody of ours sends more than this.
const FDS_MAX: usize = 16;

/// What one message asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `READY=1`.
    pub ready: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
}

/// Descriptors kept for a program between two of its lives, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct FdStore(Vec<(String, OwnedFd)>);

impl FdStore {
    /// Names and descriptors, as they go into `LISTEN_FDS`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.0.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()))
    }

    /// Keeps `fd`, unless the store is full.
    fn keep(&mut self, name: &str, fd: OwnedFd) {
        if self.0.len() < STORE_MAX {
            self.0.push((name.to_owned(), fd));
        } else {
            log::warn!("descriptor `{name}` not kept: the store is full ({STORE_MAX})");
        }
    }

    fn forget(&mut self, name: &str) {
        self.0.retain(|(kept, _)| kept != name);
    }
}

/// Where one program's messages arrive. Removes its socket when dropped.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    /// Binds `path`, writable for `uid` alone (and root).
    ///
    /// # Errors
    /// As bind(2) and chown(2).
    pub fn bind(path: &Path, uid: u32) -> io::Result<NotifySocket> {
        let socket = UnixDatagram::bind(path)?;
        let bound = NotifySocket {
            socket,
            path: path.to_owned(),
        };
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        chown(path, Some(uid), None)?;
        bound.socket.set_nonblocking(true)?;
        Ok(bound)
    }

    /// What goes into `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes one message, if there is one, and does what it says to `store`.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn receive(&self, store: &mut FdStore) -> io::Result<Option<Asked>> {
        let mut text = [0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut text)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let got = match got {
            Ok(got) => got,
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let fds = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        let text = String::from_utf8_lossy(&text[..got.bytes.min(MESSAGE_MAX)]);
        Ok(Some(act(&text, fds, store)))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn act(text: &str, fds: Vec<OwnedFd>, store: &mut FdStore) -> Asked {
    let has = |wanted: &str| text.lines().any(|line| line == wanted);
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("FDNAME="))
        .filter(|name| is_fd_name(name))
        .unwrap_or("stored");
    if has("FDSTOREREMOVE=1") {
        store.forget(name);
    } else if has("FDSTORE=1") {
        for fd in fds {
            store.keep(name, fd);
        }
    }
    Asked {
        ready: has("READY=1"),
        stopping: has("STOPPING=1"),
    }
}

/// sd_listen_fds(3): up to 255 ASCII characters, no control characters, no colon.
fn is_fd_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name
            .bytes()
            .all(|b| (b == b' ' || b.is_ascii_graphic()) && b != b':')
}

/// The program's end: asks whoever started us to keep `fd` under `name` between our lives. Nothing
/// happens if nobody started us with a `NOTIFY_SOCKET`.
///
/// # Errors
/// The keeper does not listen.
pub(crate) fn store(name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
    // FDPOLL=0: systemd would drop a connection that was aborted, and we want to see that.
    tell(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), &[fd])
}

/// Asks the keeper to drop what it keeps under `name`.
///
/// # Errors
/// The keeper does not listen.
pub(crate) fn forget(name: &str) -> io::Result<()> {
    tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
}

/// What the keeper handed over at our start (sd_listen_fds(3)), with its names.
///
/// # Errors
/// The variables are not as they should be.
pub(crate) fn inherited() -> io::Result<Vec<(String, OwnedFd)>> {
    sys::process::listen_fds()
}

/// Tells the keeper that we serve.
///
/// # Errors
/// The keeper does not listen.
pub(crate) fn ready() -> io::Result<()> {
    tell("READY=1", &[])
}

/// How often the keeper wants to hear [`alive`], if it does (`WatchdogSec=`).
pub(crate) fn watchdog() -> Option<std::time::Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 3)
}

/// Tells the keeper that we are not stuck.
///
/// # Errors
/// The keeper does not listen.
pub(crate) fn alive() -> io::Result<()> {
    tell("WATCHDOG=1", &[])
}

fn tell(text: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(path) => send(Path::new(&path), text, fds),
        None => Ok(()),
    }
}

fn send(path: &Path, text: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // Older systemd names an abstract socket so.
    match path.as_os_str().as_encoded_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(path)?,
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(text.as_bytes())];
    sendmsg(&socket, &parts, &mut control, SendFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_stored_descriptor_outlives_its_sender_and_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let socket = NotifySocket::bind(&dir.path().join("n"), 0).unwrap();
        let mut store = FdStore::default();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"kept").unwrap();
        let text = "FDSTORE=1\nFDNAME=fuse-secret\nFDPOLL=0";
        send(socket.path(), text, &[file.as_fd()]).unwrap();
        drop(file);

        assert_eq!(socket.receive(&mut store).unwrap(), Some(Asked::default()));
        let (name, fd) = store.iter().next().unwrap();
        assert_eq!(name, "fuse-secret");
        let mut kept = std::fs::File::from(fd.try_clone_to_owned().unwrap());
        kept.rewind().unwrap();
        let mut text = String::new();
        kept.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
    }

    #[test]
    fn remove_forgets_every_descriptor_of_the_name_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let socket = NotifySocket::bind(&dir.path().join("n"), 0).unwrap();
        let mut store = FdStore::default();
        let file = tempfile::tempfile().unwrap();
        send(socket.path(), "FDSTORE=1\nFDNAME=a", &[file.as_fd()]).unwrap();
        send(socket.path(), "FDSTORE=1\nFDNAME=b", &[file.as_fd()]).unwrap();
        send(socket.path(), "FDSTOREREMOVE=1\nFDNAME=a", &[]).unwrap();
        while socket.receive(&mut store).unwrap().is_some() {}
        assert_eq!(store.iter().map(|(n, _)| n).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn readiness_is_heard_among_other_lines() {
        let mut store = FdStore::default();
        let asked = act("STATUS=unsealed\nREADY=1\n", Vec::new(), &mut store);
        assert!(asked.ready && !asked.stopping);
    }

    #[test]
    fn a_name_that_would_break_listen_fdnames_is_not_taken() {
        let mut store = FdStore::default();
        let fd = OwnedFd::from(tempfile::tempfile().unwrap());
        act("FDSTORE=1\nFDNAME=a:b", vec![fd], &mut store);
        assert_eq!(store.iter().next().unwrap().0, "stored");
    }

    #[test]
    fn a_flood_of_descriptors_is_bounded() {
        let mut store = FdStore::default();
        let fd = || OwnedFd::from(tempfile::tempfile().unwrap());
        for _ in 0..STORE_MAX + 5 {
            act("FDSTORE=1\nFDNAME=a", vec![fd()], &mut store);
        }
        assert_eq!(store.iter().count(), STORE_MAX);
    }

    #[test]
    fn the_socket_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        drop(NotifySocket::bind(&path, 0).unwrap());
        assert!(!path.exists());
    }
}
