//! Who reads: what can be said of a thread that waits in a FUSE request, by its id alone.
//!
//! An id is used again once its thread has ended. So what is cached is never an answer by id, but a
//! descriptor of the thread, which says ESRCH from then on, whoever has the id by now.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::lock::lock;
use crate::mountinfo;

/// Threads in each of the two generations, with up to three descriptors each: at most 768 of the
/// 1024 that a process has by default.
const GENERATION: usize = 128;
/// A thread's name has at most 15 bytes.
const COMM_MAX: usize = 16;
/// A path of a cgroup is at most this long; the lines of eleven v1 hierarchies stand before ours.
const CGROUP_MAX: usize = 64 * 1024;

/// What the cgroup of a thread is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderCgroup {
    /// Its path as /proc/PID/cgroup says it after `0::`; of cgroup v2, and seen from our own cgroup
    /// namespace.
    pub path: String,
}

/// Who a thread is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The process that it belongs to.
    pub pid: u32,
    /// Its cgroup v2, as in [`ReaderCgroup`]; empty if there is none.
    pub cgroup: Arc<str>,
    comm: [u8; COMM_MAX],
    comm_length: usize,
}

impl Identity {
    /// As it calls itself: any bytes but NUL.
    pub fn comm(&self) -> &[u8] {
        &self.comm[..self.comm_length]
    }
}

/// Remembers descriptors of threads that asked before, a bounded number of them.
#[derive(Debug, Default)]
pub struct ReaderCache(Mutex<Generations>);

/// Those of late, and those before; who comes back from before is of late again.
#[derive(Debug, Default)]
struct Generations {
    late: HashMap<u32, Arc<Reader>>,
    before: HashMap<u32, Arc<Reader>>,
}

impl ReaderCache {
    /// The cgroup v2 that a thread is in now.
    ///
    /// # Errors
    /// There is no such thread, or no cgroup v2.
    pub fn cgroup_of(&self, tid: u32) -> io::Result<ReaderCgroup> {
        let path = self.ask(tid, Reader::cgroup)?;
        Ok(ReaderCgroup {
            path: path.as_ref().to_owned(),
        })
    }

    /// The thread group (the process) that a thread belongs to.
    ///
    /// # Errors
    /// There is no such thread.
    pub fn tgid_of(&self, tid: u32) -> io::Result<u32> {
        self.ask(tid, Reader::tgid)
    }

    /// Who a thread is.
    ///
    /// # Errors
    /// There is no such thread.
    pub fn identity_of(&self, tid: u32) -> io::Result<Identity> {
        self.ask(tid, Reader::identity)
    }

    fn ask<T>(&self, tid: u32, question: impl Fn(&Reader) -> io::Result<T>) -> io::Result<T> {
        if let Some(reader) = self.known(tid) {
            match question(&reader) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                    self.forget(tid, &reader)
                }
                answer => return answer,
            }
        }
        // Whoever has the id now, and gives it up no sooner than we are done if it waits for us.
        let reader = Arc::new(Reader::open(tid)?);
        let answer = question(&reader)?;
        self.remember(tid, reader);
        Ok(answer)
    }

    fn known(&self, tid: u32) -> Option<Arc<Reader>> {
        let mut generations = lock(&self.0);
        if let Some(reader) = generations.late.get(&tid) {
            return Some(Arc::clone(reader));
        }
        let reader = generations.before.remove(&tid)?;
        generations.add(tid, Arc::clone(&reader));
        Some(reader)
    }

    fn remember(&self, tid: u32, reader: Arc<Reader>) {
        lock(&self.0).add(tid, reader);
    }

    fn forget(&self, tid: u32, reader: &Arc<Reader>) {
        let mut generations = lock(&self.0);
        let same = |known: &Arc<Reader>| Arc::ptr_eq(known, reader);
        if generations.late.get(&tid).is_some_and(same) {
            generations.late.remove(&tid);
        }
    }
}

impl Generations {
    fn add(&mut self, tid: u32, reader: Arc<Reader>) {
        if self.late.len() >= GENERATION {
            self.before = std::mem::take(&mut self.late);
        }
        self.before.remove(&tid);
        self.late.insert(tid, reader);
    }
}

/// Descriptors of one thread.
#[derive(Debug)]
struct Reader {
    /// Of the thread; `None` before Linux 6.14, which has the questions that we ask it.
    pidfd: Option<OwnedFd>,
    /// Its /proc/TID/cgroup.
    cgroup: OwnedFd,
    /// Its /proc/TID/comm.
    comm: OwnedFd,
    /// Of the same thread for as long as it lives.
    tgid: u32,
    /// The cgroup that it was in when last asked: number and path. The number is never used again,
    /// and a cgroup v2 cannot be renamed.
    last: Mutex<Option<(u64, Arc<str>)>>,
}

impl Reader {
    fn open(tid: u32) -> io::Result<Reader> {
        let pidfd = open_thread(tid);
        let flags = OFlags::CLOEXEC | OFlags::RDONLY;
        // One look-up, so that all files below it are of one thread.
        let folder = rustix::fs::open(
            format!("/proc/{tid}"),
            flags | OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .map_err(no_such_thread)?;
        let open = |name: &str| {
            rustix::fs::openat(&folder, name, flags, Mode::empty()).map_err(no_such_thread)
        };
        let (cgroup, comm, status) = (open("cgroup")?, open("comm")?, open("status")?);
        let mut text = [0; 4096];
        let length = rustix::io::read(&status, &mut text[..]).map_err(no_such_thread)?;
        let tgid =
            tgid(text.get(..length).unwrap_or_default()).ok_or(io::ErrorKind::InvalidData)?;
        // The pidfd was there first: if its thread lives now, the folder is the same thread's.
        let pidfd = pidfd.filter(|pidfd| info(pidfd).is_ok());
        Ok(Reader {
            pidfd,
            cgroup,
            comm,
            tgid,
            last: Mutex::default(),
        })
    }

    fn cgroup(&self) -> io::Result<Arc<str>> {
        let Some(pidfd) = &self.pidfd else {
            return self.read_cgroup();
        };
        let number = info(pidfd)?;
        if let Some((last, path)) = lock(&self.last).as_ref()
            && *last == number
        {
            return Ok(Arc::clone(path));
        }
        let path = self.read_cgroup()?;
        // It may have been moved between the two questions: then the next one asks again.
        if info(pidfd)? == number {
            *lock(&self.last) = Some((number, Arc::clone(&path)));
        }
        Ok(path)
    }

    fn read_cgroup(&self) -> io::Result<Arc<str>> {
        let mut text = vec![0; 1024];
        loop {
            // Always from the start, and thus anew.
            let length = rustix::io::pread(&self.cgroup, &mut text[..], 0)?;
            if length < text.len() {
                text.truncate(length);
                break;
            }
            if length >= CGROUP_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            text.resize(length * 4, 0);
        }
        let path = text
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(b"0::"))
            .ok_or(io::ErrorKind::Unsupported)?;
        let path = std::str::from_utf8(path).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(path.into())
    }

    fn identity(&self) -> io::Result<Identity> {
        // Who asks has just been asked for its cgroup, as a rule.
        let known = lock(&self.last).as_ref().map(|(_, path)| Arc::clone(path));
        let cgroup = match known.map_or_else(|| self.cgroup(), Ok) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => "".into(),
            cgroup => cgroup?,
        };
        let mut comm = [0; COMM_MAX];
        let length = rustix::io::pread(&self.comm, &mut comm[..], 0)?;
        // It ends with a line end of the kernel's, and may hold others.
        let comm_length = length.saturating_sub(1);
        Ok(Identity {
            pid: self.tgid,
            cgroup,
            comm,
            comm_length,
        })
    }

    fn tgid(&self) -> io::Result<u32> {
        match &self.pidfd {
            Some(pidfd) => info(pidfd).map(drop)?,
            None => {
                rustix::io::pread(&self.cgroup, &mut [0; 1][..], 0)?;
            }
        }
        Ok(self.tgid)
    }
}

/// A pidfd of a thread (Linux 6.9); none on older ones, which is no error.
fn open_thread(tid: u32) -> Option<OwnedFd> {
    // PIDFD_THREAD has the value of O_EXCL.
    let thread = PidfdFlags::from_bits_retain(libc::PIDFD_THREAD);
    let tid = Pid::from_raw(i32::try_from(tid).ok()?)?;
    rustix::process::pidfd_open(tid, thread).ok()
}

/// The number of the cgroup v2 that a thread is in (PIDFD_GET_INFO, Linux 6.14); ESRCH once it has
/// ended.
fn info(pidfd: &OwnedFd) -> io::Result<u64> {
    // SAFETY: a struct of integers.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_CGROUPID);
    // SAFETY: the pidfd is open, and the number says the size of what the kernel fills.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    if info.mask & u64::from(libc::PIDFD_INFO_CGROUPID) == 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(info.cgroupid)
}

fn no_such_thread(errno: Errno) -> io::Error {
    match errno {
        Errno::NOENT | Errno::SRCH => io::Error::from_raw_os_error(libc::ESRCH),
        errno => errno.into(),
    }
}

fn tgid(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let text = lines.find_map(|line| line.strip_prefix(b"Tgid:"))?;
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The folders of the file system with device `0:minor` that are mounted in a thread's mount
/// namespace.
///
/// # Errors
/// There is no such thread, or it has no mount namespace any more.
pub fn mounts_of(tid: u32, minor: u32) -> io::Result<Vec<String>> {
    let table = std::fs::read(format!("/proc/{tid}/mountinfo"))?;
    let device = format!("0:{minor}");
    let roots = mountinfo::lines(&table)
        .filter(|line| line.device == device.as_bytes())
        .filter_map(|line| line.root().into_string().ok())
        .collect();
    Ok(roots)
}
