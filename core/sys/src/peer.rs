//! Who is at the other end of a Unix socket, by the kernel's word.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, PidfdFlags};

/// More groups than this has nobody (NGROUPS_MAX of Linux).
const GROUPS_MAX: usize = 65536;

/// A peer as it was when it connected (or made the pair).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Its process; 0 if it is in no pid namespace that we see.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Asks for the peer's credentials (SO_PEERCRED).
///
/// # Errors
/// As getsockopt(2).
pub fn credentials(stream: &UnixStream) -> io::Result<PeerCredentials> {
    // Not by rustix: its pid is a NonZero, and the kernel does say 0.
    let mut found = [libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    }];
    if option(stream, libc::SO_PEERCRED, &mut found)? != size_of::<libc::ucred>() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let [libc::ucred { pid, uid, gid }] = found;
    Ok(PeerCredentials { pid, uid, gid })
}

/// Asks for the peer's supplementary groups (SO_PEERGROUPS).
///
/// # Errors
/// As getsockopt(2).
pub fn groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        match option(stream, libc::SO_PEERGROUPS, &mut groups) {
            Ok(length) => {
                groups.truncate(length / size_of::<u32>());
                return Ok(groups);
            }
            // What a peer has is fixed at its connect, so that the next size suffices.
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) => {
                if groups.len() >= GROUPS_MAX {
                    return Err(error);
                }
                groups.resize(groups.len() * 4, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A pidfd of the peer: SO_PEERPIDFD, which names the very process that connected (Linux 6.5);
/// before that, whoever has its pid now.
///
/// # Errors
/// The peer is gone, or is in no pid namespace that we see.
pub fn pidfd(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut fd = [-1_i32];
    match option(stream, libc::SO_PEERPIDFD, &mut fd) {
        Ok(_) if fd[0] >= 0 => {
            // SAFETY: the kernel has just made this descriptor for us, close-on-exec.
            Ok(unsafe { OwnedFd::from_raw_fd(fd[0]) })
        }
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            let pid = Pid::from_raw(credentials(stream)?.pid)
                .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
            Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
        }
        Err(error) => Err(error),
    }
}

/// Types of which every bit pattern is a value, so that the kernel may fill them.
///
/// # Safety
/// Implementors are plain integers or structs of them.
unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for i32 {}
// SAFETY: three integers of 32 bits.
unsafe impl Plain for libc::ucred {}

/// Fills `value` and says how many bytes the kernel wrote.
fn option<T: Plain>(stream: &UnixStream, name: i32, value: &mut [T]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(size_of_val(value)).unwrap_or(0);
    // SAFETY: `value` is writable for `length` bytes, which is its size or less, and any bytes make
    // a `Plain`. The descriptor is open as long as `stream` lives.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            value.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(length).unwrap_or(0).min(size_of_val(value)))
}
