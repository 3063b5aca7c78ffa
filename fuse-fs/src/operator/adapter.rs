//! The adapter to fuser. Nothing is cached: every look-up, size and byte is asked for again.

use std::ffi::OsStr;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use model::Timestamp;
use sys::lock::lock;

use super::names::Names;
use super::{CtlError, CtlLine, OperatorActs};
use crate::adapter::{attributes, kind};
use crate::errno::Refusal;
use crate::inflight::{Call, InFlight, Name, Noted};
use crate::inode::Ino;
use crate::tree::Attr;

/// A longer write than this cannot be one command, and the kernel must not cut one in two.
const MAX_WRITE: u32 = 128 * 1024;
/// Commands that wait for the one before.
const QUEUE: usize = 64;

const ROOT: u64 = 1;
const CTL: u64 = 2;
const KEY: u64 = 3;
const STORE: u64 = 4;
const GRANTS: u64 = 5;
/// The fixed part: name, inode, whether it is a folder, permissions.
const TOP: [(&str, u64, bool, u16); 4] = [
    ("ctl", CTL, false, 0o200),
    ("grants", GRANTS, true, 0o500),
    ("key", KEY, false, 0),
    ("store", STORE, true, 0o500),
];

/// A command, and how its writer is answered.
struct Written {
    line: CtlLine,
    uid: u32,
    length: u32,
    reply: ReplyWrite,
    noted: Noted,
}

/// The operators' tree.
pub(super) struct OperatorTree {
    acts: Arc<dyn OperatorActs>,
    names: Mutex<Names>,
    commands: SyncSender<Written>,
    in_flight: Arc<InFlight>,
}

impl OperatorTree {
    /// Starts the worker that does what is written to `ctl`: a handler waits for no disk.
    pub fn start(
        acts: Arc<dyn OperatorActs>,
        in_flight: Arc<InFlight>,
    ) -> io::Result<OperatorTree> {
        let (commands, queue) = sync_channel::<Written>(QUEUE);
        let worker = Arc::clone(&acts);
        std::thread::Builder::new()
            .name("ctl".into())
            .spawn(move || {
                for written in queue {
                    written.noted.goes_on_here();
                    match worker.command(written.line, written.uid) {
                        Ok(()) => written.reply.written(written.length),
                        Err(error) => {
                            log::warn!("ctl: {error}");
                            written.reply.error(Refusal::from(&error).into());
                        }
                    }
                }
            })?;
        Ok(OperatorTree {
            acts,
            in_flight,
            names: Mutex::new(Names::new()),
            commands,
        })
    }

    /// Held until the answer has been sent.
    fn note(&self, request: &Request, call: Call, ino: INodeNo) -> Noted {
        self.in_flight.note(request, call, Ino(ino.0))
    }

    /// The whole content of a file below `store` or `grants`.
    fn content(&self, folder: u64, name: &str) -> Result<Vec<u8>, Refusal> {
        match folder {
            STORE => {
                let name = name.parse().map_err(|_| Refusal::NoEntry)?;
                Ok(self.acts.record(&name)?)
            }
            _ => {
                let service = name.parse().map_err(|_| Refusal::NoEntry)?;
                match self.acts.grants(&service)? {
                    none if none.is_empty() => Err(Refusal::NoEntry),
                    text => Ok(text.into_bytes()),
                }
            }
        }
    }

    fn content_of(&self, ino: u64) -> Result<Vec<u8>, Refusal> {
        let found = lock(&self.names).name(ino);
        let (folder, name) = found.ok_or(Refusal::Superseded)?;
        self.content(folder, &name)
    }

    fn find(&self, parent: u64, name: &OsStr) -> Result<Attr, Refusal> {
        let name = name.to_str().ok_or(Refusal::NoEntry)?;
        match parent {
            ROOT => TOP
                .iter()
                .find(|(other, ..)| *other == name)
                .map(|(_, ino, is_folder, mode)| attr(*ino, *is_folder, *mode, 0))
                .ok_or(Refusal::NoEntry),
            STORE | GRANTS => {
                let size = self.content(parent, name)?.len();
                let ino = lock(&self.names).number(parent, name);
                Ok(attr(ino, false, 0o400, size))
            }
            _ => Err(Refusal::NotFolder),
        }
    }

    fn attr(&self, ino: u64) -> Result<Attr, Refusal> {
        if ino == ROOT {
            return Ok(attr(ROOT, true, 0o700, 0));
        }
        match TOP.iter().find(|(_, other, ..)| *other == ino) {
            Some((_, _, is_folder, mode)) => Ok(attr(ino, *is_folder, *mode, 0)),
            None => Ok(attr(ino, false, 0o400, self.content_of(ino)?.len())),
        }
    }

    fn list(&self, folder: u64) -> Result<Vec<(u64, bool, String)>, Refusal> {
        let names: Vec<String> = match folder {
            ROOT => {
                let fixed = TOP
                    .iter()
                    .map(|(name, ino, is_folder, _)| (*ino, *is_folder, (*name).into()));
                return Ok(fixed.collect());
            }
            STORE => self
                .acts
                .secrets()?
                .iter()
                .map(ToString::to_string)
                .collect(),
            GRANTS => self
                .acts
                .services()?
                .iter()
                .map(ToString::to_string)
                .collect(),
            _ => return Err(Refusal::NotFolder),
        };
        let mut numbers = lock(&self.names);
        Ok(names
            .into_iter()
            .map(|name| (numbers.number(folder, &name), false, name))
            .collect())
    }
}

fn attr(ino: u64, is_folder: bool, mode: u16, size: usize) -> Attr {
    Attr {
        ino: Ino(ino),
        is_folder,
        size: size as u64,
        changed: Timestamp(0),
        uid: 0,
        gid: 0,
        mode,
    }
}

impl From<&CtlError> for Refusal {
    fn from(error: &CtlError) -> Refusal {
        match error {
            CtlError::Sealed => Refusal::Sealed,
            CtlError::NotFound => Refusal::NoEntry,
            CtlError::Failed(_) => Refusal::Unreadable,
        }
    }
}

impl From<CtlError> for Refusal {
    fn from(error: CtlError) -> Refusal {
        Refusal::from(&error)
    }
}

impl Filesystem for OperatorTree {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _noted = self.note(request, Call::Lookup(Name::of(name)), parent);
        match self.find(parent.0, name) {
            Ok(attr) => reply.entry(&Duration::ZERO, &attributes(&attr), Generation(0)),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let _noted = self.note(request, Call::Getattr, ino);
        match self.attr(ino.0) {
            Ok(attr) => reply.attr(&Duration::ZERO, &attributes(&attr)),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    /// `>` cuts a file off before it writes: `ctl` has no length to lose.
    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let cut = size == Some(0) && mode.is_none() && uid.is_none() && gid.is_none();
        match self.attr(ino.0) {
            Ok(attr) if ino.0 == CTL && cut => reply.attr(&Duration::ZERO, &attributes(&attr)),
            Ok(_) => reply.error(Refusal::ReadOnly.into()),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    /// By its own check too: default_permissions let root open what nobody may.
    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _noted = self.note(request, Call::Open(flags.0), ino);
        let reads = flags.acc_mode() == OpenAccMode::O_RDONLY;
        let writes = flags.acc_mode() == OpenAccMode::O_WRONLY;
        let refused = match ino.0 {
            _ if request.uid() != 0 => Some(Refusal::Foreign),
            KEY => Some(Refusal::NeverReadable),
            CTL if writes => None,
            CTL => Some(Refusal::NeverReadable),
            _ if reads => None,
            _ => Some(Refusal::ReadOnly),
        };
        match refused {
            None => reply.opened(
                FileHandle(0),
                FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH,
            ),
            Some(refusal) => reply.error(refusal.into()),
        }
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _noted = self.note(request, Call::Read(offset, size), ino);
        match self.content_of(ino.0) {
            Ok(all) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
                let to = from.saturating_add(size as usize).min(all.len());
                reply.data(&all[from..to]);
            }
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let noted = self.note(request, Call::Write, ino);
        let line = if ino.0 == CTL {
            CtlLine::parse(data)
        } else {
            None
        };
        let Some(line) = line else {
            return reply.error(Refusal::Invalid.into());
        };
        noted.goes_on_elsewhere();
        let written = Written {
            line,
            uid: request.uid(),
            length: u32::try_from(data.len()).unwrap_or(0),
            reply,
            noted,
        };
        if let Err(full) = self.commands.try_send(written) {
            let (std::sync::mpsc::TrySendError::Full(written)
            | std::sync::mpsc::TrySendError::Disconnected(written)) = full;
            written.reply.error(Refusal::Busy.into());
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Refusal::LeftToKernel.into());
    }

    /// What was written is durable when the write returns.
    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _noted = self.note(request, Call::Readdir(offset), ino);
        let listed = match self.list(ino.0) {
            Ok(listed) => listed,
            Err(refusal) => return reply.error(refusal.into()),
        };
        let dots = [(ino.0, true, ".".to_owned()), (ROOT, true, "..".to_owned())];
        let all = dots.into_iter().chain(listed).zip(1..);
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for ((ino, is_folder, name), next) in all.skip(skipped) {
            if reply.add(INodeNo(ino), next, kind(is_folder), name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 4096, 253, 4096);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Refusal::NoTerminal.into());
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Refusal::LeftToKernel.into());
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Refusal::LeftToKernel.into());
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Refusal::ReadOnly.into());
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Refusal::ReadOnly.into());
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Refusal::ReadOnly.into());
    }
}
