//! The probe: a service that does what it is asked, one line of JSON each, and answers with what
//! the kernel said. `bin/probe.rs` is the other end.

use serde::{Deserialize, Serialize};

use crate::Service;
use crate::command::Finished;

/// What the probe is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Nothing; shows that it runs.
    Ping,
    /// Opens a file for reading and keeps it; answers [`Answer::Descriptor`].
    Open(String),
    /// Opens a folder and keeps it; answers [`Answer::Descriptor`].
    OpenFolder(String),
    /// Closes a kept descriptor.
    Close(i32),
    /// Opens a name below a kept folder; answers [`Answer::Descriptor`].
    OpenAt(i32, String),
    /// Reads at most so many bytes at an offset of a kept descriptor.
    Pread(i32, u64, usize),
    /// Opens, reads to the end, closes.
    Read(String),
    /// Names in a folder, sorted.
    List(String),
    /// Names in a kept folder, read from its start.
    ListAt(i32),
    /// lstat(2).
    Stat(String),
    /// fstat(2) of a kept descriptor.
    StatAt(i32),
    /// fstatat(2) of a name in a kept folder.
    StatIn(i32, String),
    /// getxattr(2) of `user.x`.
    Xattr(String),
    /// listxattr(2).
    Xattrs(String),
    /// Tries to change something.
    Change(Change, String),
    /// chdir(2).
    Chdir(String),
    /// Connects to a Unix stream socket, writes a line, reads one byte.
    Connect(String),
    /// Starts a child that holds a kept descriptor as its standard input.
    Child(i32),
    /// Has that child read its standard input; answers its output and exit code.
    ChildReads,
    /// getuid(2), getgid(2), and the groups.
    Who,
    /// The environment.
    Environment,
    /// Opens, reads and compares a file again and again on a thread, until [`Ask::LoopEnds`].
    Loop(String, Vec<String>),
    /// Ends the loops; answers [`Answer::Loops`].
    LoopEnds,
    /// Reads two files, one after the other, again and again, so many times: they say the same.
    /// Answers [`Answer::Loops`].
    Pairs(String, String, u64),
    /// Opens, reads, looks at and holds files, and lists their folders, on threads, until
    /// [`Ask::BusyEnds`]. Their content is [`Coming`]'s.
    Busy {
        /// Those that are always there.
        files: Vec<String>,
        /// Those that come and go.
        coming: Vec<String>,
    },
    /// Ends that; answers [`Answer::Busy`].
    BusyEnds,
}

/// Content that says of which version it is.
#[derive(Debug, Clone, Copy)]
pub struct Coming;

impl Coming {
    /// The bytes of a version: as many as the version asks for, below 64 KiB, all different from
    /// those of another version.
    pub fn of(version: u64) -> String {
        let line = format!("{version:012};");
        line.repeat(usize::try_from(1 + version * 7919 % 5000).unwrap())
    }

    /// Whether these are all bytes of one version.
    pub fn is_whole(bytes: &[u8]) -> bool {
        Coming::version(bytes).is_some()
    }

    /// Which version's bytes these are, if they are whole.
    pub fn version(bytes: &[u8]) -> Option<u64> {
        let version = std::str::from_utf8(bytes.get(..12)?).ok()?.parse().ok()?;
        (Coming::of(version).as_bytes() == bytes).then_some(version)
    }
}

/// Ways to change a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// open(2) for writing.
    Write,
    /// open(2) for writing, with O_TRUNC.
    Truncate,
    /// A new file beside.
    Create,
    /// A new folder beside.
    Mkdir,
    /// rename(2) to a name beside.
    Rename,
    /// link(2) to a name beside.
    Link,
    /// symlink(2) beside.
    Symlink,
    /// unlink(2).
    Unlink,
    /// chmod(2) to 0666.
    Chmod,
    /// utimensat(2) to now.
    Touch,
    /// setxattr(2) of `user.x`.
    SetXattr,
    /// removexattr(2) of `user.x`.
    RemoveXattr,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 12] = [
        Change::Write,
        Change::Truncate,
        Change::Create,
        Change::Mkdir,
        Change::Rename,
        Change::Link,
        Change::Symlink,
        Change::Unlink,
        Change::Chmod,
        Change::Touch,
        Change::SetXattr,
        Change::RemoveXattr,
    ];
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, and there is nothing to tell.
    Done,
    /// A descriptor's number.
    Descriptor(i32),
    /// Content.
    Bytes(Vec<u8>),
    /// Names.
    Names(Vec<String>),
    /// Attributes.
    Attributes {
        /// Inode number.
        ino: u64,
        /// Type and permissions.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Size in bytes.
        size: u64,
        /// Seconds since the epoch.
        mtime: i64,
    },
    /// A child's exit code and output.
    Child(i32, Vec<u8>),
    /// User, group, groups.
    Who(u32, u32, Vec<u32>),
    /// Rounds of all loops, and each failure in words.
    Loops(u64, Vec<String>),
    /// What came of [`Ask::Busy`].
    Busy {
        /// How many calls there were.
        calls: u64,
        /// Each failure in words.
        failures: Vec<String>,
        /// The longest call, in milliseconds.
        longest_ms: u64,
        /// Which one that was.
        longest: String,
    },
    /// The kernel refused, with this errno.
    Errno(i32),
}

impl Answer {
    /// The text that was read.
    #[track_caller]
    pub fn text(self) -> String {
        match self {
            Answer::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("no content but {other:?}"),
        }
    }

    /// The number of the descriptor.
    #[track_caller]
    pub fn descriptor(self) -> i32 {
        match self {
            Answer::Descriptor(number) => number,
            other => panic!("no descriptor but {other:?}"),
        }
    }

    /// The names.
    #[track_caller]
    pub fn names(self) -> Vec<String> {
        match self {
            Answer::Names(names) => names,
            other => panic!("no names but {other:?}"),
        }
    }

    /// Checks that it was refused because what is open was revoked (Linux 7.3 makes EIO of it).
    #[track_caller]
    pub fn is_revoked(&self) {
        assert!(
            matches!(self.errno(), Some(libc::EKEYREVOKED | libc::EIO)),
            "{self:?}"
        );
    }

    /// The errno, if it was refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Answer::Errno(errno) => Some(*errno),
            _ => None,
        }
    }
}

/// A probe that runs as a service.
pub struct Probe {
    service: Service,
}

impl Probe {
    /// Takes a service whose command is `probe serve`, and waits until it answers.
    #[track_caller]
    pub fn of(service: Service) -> Probe {
        let mut probe = Probe { service };
        assert_eq!(probe.ask(Ask::Ping), Answer::Done);
        probe
    }

    /// Asks, and waits for the answer.
    #[track_caller]
    pub fn ask(&mut self, ask: Ask) -> Answer {
        self.service.write(&serde_json::to_string(&ask).unwrap());
        let line = self.service.line();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"))
    }

    /// Opens, reads to the end, closes.
    #[track_caller]
    pub fn read(&mut self, path: &str) -> Answer {
        self.ask(Ask::Read(path.into()))
    }

    /// Opens and keeps.
    #[track_caller]
    pub fn open(&mut self, path: &str) -> Answer {
        self.ask(Ask::Open(path.into()))
    }

    /// Names of a folder.
    #[track_caller]
    pub fn list(&mut self, path: &str) -> Answer {
        self.ask(Ask::List(path.into()))
    }

    /// Attributes.
    #[track_caller]
    pub fn stat(&mut self, path: &str) -> Answer {
        self.ask(Ask::Stat(path.into()))
    }

    /// The first 64 bytes of a kept descriptor.
    #[track_caller]
    pub fn pread(&mut self, descriptor: i32) -> Answer {
        self.ask(Ask::Pread(descriptor, 0, 64))
    }

    /// The service.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Ends the service.
    #[track_caller]
    pub fn end(self) -> Finished {
        self.service.end()
    }
}
