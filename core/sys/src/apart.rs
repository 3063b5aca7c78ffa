//! Calls that may wait in the kernel for somebody else, made by a process of their own.
//!
//! A killed process is not gone before each of its threads is out of the kernel: until then nobody
//! can wait for it to its end, and what it has open stays open. If a thread waits for an answer that
//! only the next one of us can give, and the next one is started when this one is gone, that is
//! never. So such calls are made by another program, which nobody waits for: it has a descriptor for
//! as long as a call lasts and no other, ends with whoever started it, and if a thread of it is stuck
//! then, that holds nothing that the next one needs.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::process::Spawn;

/// The longest job.
pub const JOB_MAX: usize = 64 * 1024;
/// Threads that wait for a job stay, up to so many.
const IDLE: usize = 4;
/// Until another descriptor may be free.
const PAUSE: Duration = Duration::from_millis(10);

/// What a job is about, and where its answer goes.
const DESCRIPTORS: usize = 2;

/// A process that makes calls for us.
#[derive(Debug)]
pub struct Apart {
    socket: OwnedFd,
    gone: fn() -> !,
}

impl Apart {
    /// Starts a program that does nothing but [`serve`]. What happens if it has ended before us, is
    /// for `gone` to do: a job may be half done then.
    ///
    /// # Errors
    /// As [`Spawn::start`].
    pub fn start(program: Spawn<'_>, gone: fn() -> !) -> io::Result<Apart> {
        let (socket, theirs) = socketpair()?;
        // A group of its own: Ctrl-C is not meant for it.
        program
            .stdin(theirs.as_fd())
            .new_process_group()
            .start()
            .map(|_| Apart { socket, gone })
    }

    /// Has a job done, of [`JOB_MAX`] bytes at most and one at least, on a descriptor. Takes as long
    /// as the job; any number of threads may ask at once. While there is no descriptor or no memory
    /// for it, here or there, it waits: what must be done must not fail for that. Gives what the job made.
    ///
    /// # Errors
    /// Of the job itself, or it is too long.
    pub fn ask(&self, job: &[u8], on: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
        if job.is_empty() || job.len() > JOB_MAX {
            return Err(Errno::MSGSIZE);
        }
        loop {
            match self.try_to_ask(job, on) {
                Ok(Some((0, made))) => return Ok(made),
                Ok(Some((errno, _))) => return Err(Errno::from_raw_os_error(errno)),
                Err(Errno::PIPE | Errno::CONNRESET) => (self.gone)(),
                // Without an answer, the other side had no room for it.
                Ok(None) if self.has_ended() => (self.gone)(),
                Ok(None)
                | Err(
                    Errno::MFILE | Errno::NFILE | Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM,
                ) => {
                    std::thread::sleep(PAUSE);
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    /// `None`: nobody has the other end any more, and no answer came.
    fn try_to_ask(
        &self,
        job: &[u8],
        on: BorrowedFd<'_>,
    ) -> Result<Option<(i32, Option<OwnedFd>)>, Errno> {
        let (ours, theirs) = socketpair()?;
        send(&self.socket, job, &[on, theirs.as_fd()])?;
        drop(theirs);
        let mut errno = [0; 4];
        match receive(&ours, &mut errno) {
            Ok((4, mut made)) => Ok(Some((i32::from_ne_bytes(errno), made.pop()))),
            Ok(_) | Err(Errno::CONNRESET) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::empty())];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(poll(&mut fds, Some(&at_once)), Ok(count) if count > 0)
    }
}

/// How a job is done: on a descriptor that is closed after it. May make another.
pub type Act = fn(&[u8], BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno>;

/// In the other program: does what is asked for on standard input, each job on a thread that no other
/// job waits for, until whoever asks has ended. To be called at the end of its `main`, for a thread
/// may be stuck then.
///
/// # Errors
/// Standard input is no socket, or there can be no thread.
pub fn serve(act: Act) -> io::Result<()> {
    // What it was executed as may say nothing: /proc/self/exe.
    rustix::thread::set_name(c"apart")?;
    let socket = rustix::stdio::stdin().try_clone_to_owned()?;
    let served = Arc::new(Served {
        socket,
        act,
        idle: AtomicUsize::new(0),
    });
    served.staff()?;
    // Nothing is asked of it but what it always tells: that the other end is closed.
    let mut fds = [PollFd::new(&served.socket, PollFlags::empty())];
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    Ok(())
}

struct Served {
    socket: OwnedFd,
    act: Act,
    /// Threads that wait for a job. There is always one, or one that is about to.
    idle: AtomicUsize,
}

impl Served {
    /// One more thread. Whoever asks bounds how many there are, by how much he asks at once.
    fn staff(self: &Arc<Self>) -> io::Result<()> {
        let served = Arc::clone(self);
        self.idle.fetch_add(1, Ordering::SeqCst);
        let started = std::thread::Builder::new()
            .name("apart".into())
            .spawn(move || served.work());
        if started.is_err() {
            self.idle.fetch_sub(1, Ordering::SeqCst);
        }
        started.map(drop)
    }

    /// Begins as one that is counted as idle.
    fn work(self: &Arc<Self>) {
        let mut job = vec![0; JOB_MAX];
        loop {
            let received = receive(&self.socket, &mut job);
            if matches!(received, Ok((0, _))) {
                return;
            }
            if self.idle.fetch_sub(1, Ordering::SeqCst) == 1 {
                // Without another thread, the next job waits for this one.
                let _ = self.staff();
            }
            // Who asked for what came cut, or is no job, gets no answer.
            if let Ok((length, fds)) = received
                && let Ok([on, answer]) = <[OwnedFd; DESCRIPTORS]>::try_from(fds)
            {
                self.answer(&job[..length], on, &answer);
            }
            if self.idle.fetch_add(1, Ordering::SeqCst) >= IDLE {
                self.idle.fetch_sub(1, Ordering::SeqCst);
                return;
            }
        }
    }

    fn answer(&self, job: &[u8], on: OwnedFd, answer: &OwnedFd) {
        let done = (self.act)(job, on.as_fd());
        // Not before the descriptor is closed: who has the answer may rely on that.
        drop(on);
        let errno = done.as_ref().err().map_or(0, |errno| errno.raw_os_error());
        let made = done.as_ref().ok().and_then(Option::as_ref);
        let made: Vec<_> = made.map(AsFd::as_fd).into_iter().collect();
        let _ = send(answer, &errno.to_ne_bytes(), &made);
    }
}

fn socketpair() -> Result<(OwnedFd, OwnedFd), Errno> {
    // A packet arrives whole or not at all.
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)
}

fn send(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let parts = [IoSlice::new(bytes)];
    let send = || rustix::net::sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL);
    rustix::io::retry_on_intr(send).map(drop)
}

/// A packet; of no bytes at the end, and when there was no room for what came with it.
fn receive(socket: &OwnedFd, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(bytes)];
        rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let fds = rights.flatten().collect();
    let cut = ReturnFlags::CTRUNC | ReturnFlags::TRUNC;
    match received.flags.intersects(cut) {
        true => Err(Errno::MFILE),
        false => Ok((received.bytes, fds)),
    }
}
