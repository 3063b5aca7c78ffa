//! Putting a file system on a FUSE connection: a new one, or one that another secretsd has left.
//!
//! The kernel sends INIT once in a connection's life, and a session of fuser waits for one. So INIT
//! goes to the session over a socket pair: as it came from a new connection, or as the first secretsd
//! kept it. Then the device takes the socket's place under the session's descriptor. What was
//! negotiated thus stays what it was, whoever serves.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use fuser::{Config, Filesystem, Session, SessionACL};
use model::Tree;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::adapter::Adapter;
use crate::kernel::Kernel;
use crate::tree::Views;

/// What outlives a secretsd, beside the device. Whoever holds the device holds this too.
#[derive(Debug)]
pub struct Handover {
    /// Nobody has served this connection yet.
    pub fresh: bool,
    /// A memfd, empty for a fresh connection. Layout: `DSF2`, a random number of four bytes that
    /// names the connection, then the INIT message as the kernel sent it; its first four bytes are its
    /// length. `DSF1`, of an earlier version, is without the number, and that is 0.
    pub memfd: OwnedFd,
}

const MAGIC: &[u8; 4] = b"DSF2";
const MAGIC_1: &[u8; 4] = b"DSF1";
/// The kernel refuses a read into a buffer that is smaller than 8 KiB.
const BUFFER: usize = 64 * 1024;
/// INIT is there as soon as the connection is mounted.
const PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};
/// fuse_out_header of FUSE_NOTIFY_RESEND (linux/fuse.h): length 16, code 7, unique 0.
const RESEND: [u8; 16] = [16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Serves a tree of the services' on a connection, from threads of its own, until the connection
/// ends.
///
/// # Errors
/// The connection has ended, or is not what `handover` says.
pub fn serve(
    tree: Tree,
    device: OwnedFd,
    views: &Arc<Views>,
    handover: &Handover,
) -> io::Result<()> {
    // One thread answers while another waits for a page of the store.
    let threads = match tree {
        Tree::Secret => 2,
        Tree::Config => 1,
    };
    let session = session(
        Adapter::new(tree, Arc::clone(views)),
        &device,
        handover,
        threads,
    )?;
    let (connection, _) = load(&handover.memfd)?;
    let own = session.as_fd().try_clone_to_owned()?;
    let kernel = Kernel::new(session.notifier(), own);
    views.serves(tree, kernel, connection, handover.fresh);
    resend(&device, handover)?;
    let name = match tree {
        Tree::Secret => "secret",
        Tree::Config => "config",
    };
    run(name, session)
}

/// A session that the kernel believes to be the one it has always talked to.
pub(crate) fn session<F: Filesystem>(
    file_system: F,
    device: &OwnedFd,
    handover: &Handover,
    threads: usize,
) -> io::Result<Session<F>> {
    let init = if handover.fresh {
        let init = read_init(device)?;
        keep(&handover.memfd, &init)?;
        init
    } else {
        load(&handover.memfd)?.1
    };
    let (ours, sessions) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::send(&ours, &init, SendFlags::NOSIGNAL)?;
    let mut config = Config::default();
    config.n_threads = Some(threads);
    let session = Session::from_fd(file_system, sessions, SessionACL::All, config)?;
    if handover.fresh {
        let mut answer = [0; 4096];
        let (length, _) = rustix::net::recv(&ours, &mut answer[..], RecvFlags::empty())?;
        rustix::io::write(device, &answer[..length])?;
    }
    drop(ours);
    sys::fuse::replace(session.as_fd(), device.as_fd())?;
    Ok(session)
}

/// Asks the kernel to send again what the one before us took and did not answer.
pub(crate) fn resend(device: &OwnedFd, handover: &Handover) -> io::Result<()> {
    if handover.fresh {
        return Ok(());
    }
    match rustix::io::write(device, &RESEND) {
        Ok(_) => Ok(()),
        // Linux before 6.9.
        Err(rustix::io::Errno::INVAL) => {
            log::warn!(
                "this kernel cannot send requests again: a read that was under way when secretsd \
                 ended may hang until its process is killed"
            );
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

pub(crate) fn run<F: Filesystem>(name: &'static str, session: Session<F>) -> io::Result<()> {
    let serve = move || match session.run() {
        Ok(()) => log::info!("the {name} connection has ended"),
        Err(error) => log::error!("the {name} connection has ended: {error}"),
    };
    std::thread::Builder::new()
        .name(format!("fuse-{name}"))
        .spawn(serve)?;
    Ok(())
}

fn read_init(device: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut ready = [PollFd::new(device, PollFlags::IN)];
    if poll(&mut ready, Some(&PATIENCE))? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the kernel does not begin: is this connection mounted, and new?",
        ));
    }
    let mut init = vec![0; BUFFER];
    let length = rustix::io::read(device, &mut init[..])?;
    init.truncate(length);
    Ok(init)
}

fn keep(memfd: &OwnedFd, init: &[u8]) -> io::Result<()> {
    let mut connection = [0; 4];
    getrandom::fill(&mut connection).map_err(io::Error::from)?;
    rustix::io::pwrite(memfd, &[MAGIC, &connection[..], init].concat(), 0)?;
    Ok(())
}

/// The connection's number, and its INIT.
fn load(memfd: &OwnedFd) -> io::Result<(u32, Vec<u8>)> {
    let mut kept = vec![0; BUFFER];
    let length = rustix::io::pread(memfd, &mut kept[..], 0)?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "what was kept of it is damaged");
    let (connection, kept) = match kept[..length].split_first_chunk::<4>() {
        Some((MAGIC, rest)) => rest
            .split_first_chunk()
            .map(|(number, rest)| (u32::from_ne_bytes(*number), rest))
            .ok_or_else(damaged)?,
        Some((MAGIC_1, rest)) => (0, rest),
        _ => return Err(damaged()),
    };
    let size = kept
        .first_chunk()
        .map(|size| u32::from_ne_bytes(*size) as usize);
    let init = size.and_then(|size| kept.get(..size)).ok_or_else(damaged)?;
    Ok((connection, init.to_vec()))
}

/// The kernel's caches hold what they hold until they are told otherwise (docs/semantics.md).
pub(crate) const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_negotiated_comes_back_as_it_was() {
        let memfd = rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut init = vec![7; 104];
        init[..4].copy_from_slice(&104_u32.to_ne_bytes());
        keep(&memfd, &init).unwrap();
        let (connection, kept) = load(&memfd).unwrap();
        assert_eq!(kept, init);
        assert_eq!(load(&memfd).unwrap().0, connection);
        let earlier = [&MAGIC_1[..], &init].concat();
        rustix::fs::ftruncate(&memfd, 0).unwrap();
        rustix::io::pwrite(&memfd, &earlier, 0).unwrap();
        assert_eq!(load(&memfd).unwrap(), (0, init));
    }

    #[test]
    fn an_empty_or_damaged_memfd_is_refused() {
        let memfd = rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert!(load(&memfd).is_err());
        rustix::io::pwrite(&memfd, b"DSF1\xff\xff\xff\xff", 0).unwrap();
        assert!(load(&memfd).is_err());
    }
}
