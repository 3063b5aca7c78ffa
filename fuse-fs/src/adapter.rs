//! The thin adapter to fuser: asks the tree, and answers the kernel. One for both trees of the
//! services; they differ in what an open is.
//!
//! | | secret | config |
//! |---|---|---|
//! | open | comes to us each time, and is where a reader is refused | the kernel's own (ENOSYS) |
//! | pages | cached, kept over opens, dropped by a revocation | cached, dropped by a change |
//! | close | no message (FOPEN_NOFLUSH) | no message |

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use model::Tree;

use crate::errno::Refusal;
use crate::inflight::{Call, InFlight, Name, Noted};
use crate::inode::Ino;
use crate::takeover::LONG;
use crate::tree::{Attr, Caller, NAME_MAX, OpenAs, Part, Ttl, Turn, Views};
use crate::units::UnitLookups;

/// A ring is one byte.
const MAX_WRITE: u32 = 4096;
const BLOCK: u32 = 4096;

/// One tree, for the kernel.
#[derive(Debug)]
pub(crate) struct Adapter {
    tree: Tree,
    views: Arc<Views>,
    in_flight: Arc<InFlight>,
    units: UnitLookups,
}

impl Adapter {
    pub fn new(tree: Tree, views: Arc<Views>, in_flight: Arc<InFlight>) -> Adapter {
        Adapter {
            tree,
            units: UnitLookups::new(tree, Arc::clone(&views)),
            views,
            in_flight,
        }
    }

    /// Held until the answer has been sent.
    fn begin(&self, request: &Request, call: Call, ino: INodeNo) -> (Turn<'_>, Noted) {
        // Noted at once, though it may wait for its turn: what is not noted cannot be answered later.
        let noted = self.in_flight.note(request, call, Ino(ino.0));
        (self.views.turn(), noted)
    }
}

/// `.` and `..` of a listing that begins at `offset`, each with the place after it.
fn dots(offset: u64) -> impl Iterator<Item = (u64, &'static str)> {
    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    [(1, "."), (2, "..")].into_iter().skip(skipped)
}

/// How long the kernel may go on without asking again.
fn duration(ttl: Ttl) -> Duration {
    match ttl {
        Ttl::Long => LONG,
        Ttl::Zero | Ttl::Going => Duration::ZERO,
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // A capability that the kernel lacks is one that we do without. Never FUSE_ALLOW_IDMAP: from
        // then on no LOOKUP would say who asks.
        let _ = config.add_capabilities(InitFlags::FUSE_DO_READDIRPLUS);
        let _ = config.add_capabilities(InitFlags::FUSE_READDIRPLUS_AUTO);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if Ino(parent.0) == Ino::ROOT
            && request.uid() == 0
            && let Some(unit) = name.to_str().filter(|name| model::is_unit(name))
        {
            let noted = self
                .in_flight
                .note(request, Call::Lookup(Name::of(name)), Ino(parent.0));
            return self.units.look_up(unit, request.pid(), noted, reply);
        }
        let _begun = self.begin(request, Call::Lookup(Name::of(name)), parent);
        match self
            .views
            .lookup(self.tree, caller(request), Ino(parent.0), name)
        {
            Ok(node) => {
                let of_attr = match node.ttl {
                    Ttl::Going => Duration::ZERO,
                    Ttl::Long | Ttl::Zero => LONG,
                };
                reply.entry_with_ttls(
                    &of_attr,
                    &duration(node.ttl),
                    &attributes(&node.attr),
                    Generation(0),
                );
            }
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.views.forget(self.tree, Ino(ino.0), count);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let _begun = self.begin(request, Call::Getattr, ino);
        match self.views.attr(self.tree, Ino(ino.0)) {
            Ok(attr) => reply.attr(&LONG, &attributes(&attr)),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    /// Of the link to an instance's folder: its number, as the folder is named.
    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match Ino(ino.0) {
            link if link.is_link() => reply.data(link.instance().to_string().as_bytes()),
            _ => reply.error(Refusal::Invalid.into()),
        }
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.tree == Tree::Config {
            return reply.error(Refusal::LeftToKernel.into());
        }
        let _begun = self.begin(request, Call::Open(flags.0), ino);
        let cached = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
        // Only the superblock is writable, and only root gets at it without a clone: a ring.
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return match request.uid() {
                0 => reply.opened(FileHandle(0), cached),
                _ => reply.error(Refusal::ReadOnly.into()),
            };
        }
        match self.views.open(caller(request), Ino(ino.0)) {
            Ok(OpenAs::Cached) => reply.opened(FileHandle(0), cached),
            Ok(OpenAs::Direct) => {
                let direct = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH;
                reply.opened(FileHandle(0), direct);
            }
            Err(refusal) => reply.error(refusal.into()),
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
        let _begun = self.begin(request, Call::Read(offset, size), ino);
        let part = Part { offset, size };
        self.views.read(
            self.tree,
            caller(request),
            Ino(ino.0),
            part,
            |bytes| match bytes {
                Ok(bytes) => reply.data(bytes),
                Err(refusal) => reply.error(refusal.into()),
            },
        );
    }

    /// A ring: it wakes watchers, and changes nothing.
    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.written(u32::try_from(data.len()).unwrap_or(0));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Refusal::LeftToKernel.into());
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _begun = self.begin(request, Call::Readdir(offset), ino);
        let folder = Ino(ino.0);
        let listed = match self.views.list(self.tree, caller(request), folder, offset) {
            Ok(listed) => listed,
            Err(refusal) => return reply.error(refusal.into()),
        };
        for (next, name) in dots(offset) {
            if reply.add(ino, next, FileType::Directory, name) {
                return reply.ok();
            }
        }
        for one in listed {
            if reply.add(
                INodeNo(one.ino.0),
                one.next,
                kind(one.is_folder),
                &*one.name,
            ) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _begun = self.begin(request, Call::Readdirplus(offset), ino);
        let folder = Ino(ino.0);
        let listed = match self.views.list(self.tree, caller(request), folder, offset) {
            Ok(listed) => listed,
            Err(refusal) => return reply.error(refusal.into()),
        };
        // The kernel takes no look-up from these two.
        for (next, name) in dots(offset) {
            let Ok(attr) = self.views.attr(self.tree, folder) else {
                return reply.ok();
            };
            if reply.add(
                ino,
                next,
                name,
                &Duration::ZERO,
                &attributes(&attr),
                Generation(0),
            ) {
                return reply.ok();
            }
        }
        for one in listed {
            // The name may lead elsewhere by now, or this process be kept to an older version; what
            // a look-up says is what the kernel may remember.
            let name = OsStr::new(&*one.name);
            let Ok(node) = self.views.lookup(self.tree, caller(request), folder, name) else {
                continue;
            };
            let ttl = duration(node.ttl);
            let attr = attributes(&node.attr);
            if reply.add(attr.ino, one.next, name, &ttl, &attr, Generation(0)) {
                self.views.forget(self.tree, node.attr.ino, 1);
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, BLOCK, NAME_MAX as u32, BLOCK);
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

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Refusal::LeftToKernel.into());
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Refusal::LeftToKernel.into());
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Refusal::LeftToKernel.into());
    }

    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Refusal::ReadOnly.into());
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Refusal::ReadOnly.into());
    }

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
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
        reply.error(Refusal::ReadOnly.into());
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Refusal::ReadOnly.into());
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Refusal::ReadOnly.into());
    }

    /// Of a name that is not shown any more, by the injector: watchers hear DELETE.
    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.views.turn();
        match self.views.unlink(self.tree, Ino(parent.0), name) {
            Ok(()) => reply.ok(),
            Err(refusal) => reply.error(refusal.into()),
        }
    }

    /// Never: a folder that was removed is dead for the kernel for as long as anybody has it open,
    /// and would stay empty when its secret is granted again.
    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Refusal::ReadOnly.into());
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &std::path::Path, reply: ReplyEntry) {
        reply.error(Refusal::ReadOnly.into());
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Refusal::ReadOnly.into());
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Refusal::ReadOnly.into());
    }
}

pub(crate) fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        tid: request.pid(),
        unique: request.unique().0,
    }
}

pub(crate) fn kind(is_folder: bool) -> FileType {
    if is_folder {
        FileType::Directory
    } else {
        FileType::RegularFile
    }
}

pub(crate) fn attributes(attr: &Attr) -> FileAttr {
    let changed = UNIX_EPOCH
        .checked_add(Duration::from_secs(attr.changed.0))
        .unwrap_or(UNIX_EPOCH);
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: changed,
        mtime: changed,
        ctime: changed,
        crtime: changed,
        kind: match attr.ino.is_link() {
            true => FileType::Symlink,
            false => kind(attr.is_folder),
        },
        perm: attr.mode,
        nlink: if attr.is_folder { 2 } else { 1 },
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}
