//! What the kernel asks, put to the tree. Nothing is cached by the kernel: every call comes here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use sys::lock::lock;

use super::State;
use super::tree::{Body, Change, Node, Tree};

type Listing = Vec<(u64, FileType, OsString)>;

pub(super) struct Adapter {
    state: Arc<Mutex<State>>,
    /// Folders that are open, as they were when they were opened: one that is emptied while it is
    /// read is read whole.
    listings: Mutex<BTreeMap<u64, Listing>>,
    next: AtomicU64,
}

impl Adapter {
    pub(super) fn new(state: Arc<Mutex<State>>) -> Self {
        Self {
            state,
            listings: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn attributes(tree: &Tree, number: u64, node: &Node) -> FileAttr {
    let (size, kind) = match &node.body {
        Body::File { seen, .. } => (seen.len() as u64, FileType::RegularFile),
        Body::Folder { .. } => (0, FileType::Directory),
    };
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: node.mode,
        nlink: 1,
        uid: tree.owner,
        gid: tree.owner,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// What is done for a sync once it is its turn.
pub(super) fn sync(state: &mut State, number: u64, reply: ReplyEmpty) {
    let lies = state.lies;
    let sync = |tree: &mut Tree| if lies { Ok(()) } else { tree.sync(number) };
    let done = state.change("sync", number, sync);
    if done.is_err() && !state.off {
        state.tree.fail_sync(number);
    }
    empty(reply, done);
}

fn found(tree: &Tree, number: u64) -> Result<FileAttr, Errno> {
    tree.node(number).map(|node| attributes(tree, number, node))
}

fn entry(reply: ReplyEntry, done: Result<FileAttr, Errno>) {
    match done {
        Ok(attr) => reply.entry(&Duration::ZERO, &attr, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn attr(reply: ReplyAttr, done: Result<FileAttr, Errno>) {
    match done {
        Ok(attr) => reply.attr(&Duration::ZERO, &attr),
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn mode_of(mode: u32, umask: u32) -> u16 {
    (mode & 0o7777 & !umask) as u16
}

impl Filesystem for Adapter {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let done = self.state().look(|tree| {
            let number = tree.lookup(parent.0, name)?;
            found(tree, number)
        });
        entry(reply, done);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let done = self.state().look(|tree| found(tree, ino.0));
        attr(reply, done);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
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
        let mut state = self.state();
        let mut done = Ok(());
        if let Some(size) = size {
            done = state.change("resize", ino.0, |tree| {
                tree.change(ino.0, Change::Length(size))
            });
        }
        if let (Some(mode), Ok(())) = (mode, done) {
            done = state.look(|tree| {
                tree.node_mut(ino.0)?.mode = mode_of(mode, 0);
                Ok(())
            });
        }
        let done = done.and_then(|()| state.look(|tree| found(tree, ino.0)));
        attr(reply, done);
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let done = self.state().change("make", parent.0, |tree| {
            let number = tree.make(parent.0, name, mode_of(mode, umask), Body::folder())?;
            found(tree, number)
        });
        entry(reply, done);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let done = self.state().change("make", parent.0, |tree| {
            let number = tree.make(parent.0, name, mode_of(mode, umask), Body::file())?;
            found(tree, number)
        });
        match done {
            Ok(attr) => reply.created(
                &Duration::ZERO,
                &attr,
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = |tree: &mut Tree| tree.remove(parent.0, name, false);
        let done = self.state().change("remove", parent.0, remove);
        empty(reply, done);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = |tree: &mut Tree| tree.remove(parent.0, name, true);
        let done = self.state().change("remove", parent.0, remove);
        empty(reply, done);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let rename = |tree: &mut Tree| tree.rename((parent.0, name), (newparent.0, newname));
        let done = self.state().change("rename", parent.0, rename);
        empty(reply, done);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let done = self
            .state()
            .try_to("open", ino.0, |tree| tree.node(ino.0).map(drop));
        match done {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = |tree: &mut Tree| tree.read(ino.0, offset, size).map(<[u8]>::to_vec);
        let done = self.state().try_to("read", ino.0, read);
        match done {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let done = self.state().change("write", ino.0, |tree| {
            let (at, bytes) = (offset, data.to_vec());
            tree.change(ino.0, Change::Data { at, bytes })
        });
        match done {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut state = self.state();
        let path = state.tree.path(ino.0);
        if let Some(reply) = state.held.take(&path, ino.0, reply) {
            sync(&mut state, ino.0, reply);
        }
    }

    fn fsyncdir(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.fsync(request, ino, fh, datasync, reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let list = |tree: &mut Tree| {
            let all = tree.names(ino.0)?.iter();
            all.map(|(name, number)| {
                let kind = attributes(tree, *number, tree.node(*number)?).kind;
                Ok((*number, kind, name.clone()))
            })
            .collect::<Result<Listing, Errno>>()
        };
        let done = self.state().try_to("open", ino.0, list);
        match done {
            Ok(listing) => {
                let handle = self.next.fetch_add(1, Ordering::Relaxed);
                lock(&self.listings).insert(handle, listing);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if let Err(errno) = self.state().try_to("list", ino.0, |_| Ok(())) {
            return reply.error(errno);
        }
        let listings = lock(&self.listings);
        let listing = listings.get(&fh.0).into_iter().flatten();
        for ((number, kind, name), next) in listing.zip(1u64..).skip(offset as usize) {
            if reply.add(INodeNo(*number), next, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        lock(&self.listings).remove(&fh.0);
        reply.ok();
    }

    // What follows has no answer here, and the defaults would log that.

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }
}
