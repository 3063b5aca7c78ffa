//! What is written down.
//!
//! Texts are borrowed on both ways: an append allocates nothing, and a reader copies only what it
//! keeps. What an outsider chose (comm, cgroup) is bytes here, and is shown escaped; see `json`.

use crate::anchor::Hash;
use crate::time::Time;

/// One entry, as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Counts up by one from 1; jumps only over what was damaged.
    pub seq: u64,
    /// By the wall clock.
    pub time: Time,
    /// Microseconds since the boot that the last `Start` or `Segment` names.
    pub uptime: u64,
    /// A text was too long and was cut.
    pub cut: bool,
    /// Over this entry and all before.
    pub hash: Hash,
    /// What happened.
    pub record: Record<'a>,
}

/// What happened. The log itself writes those that are no [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// Something of readers and operators.
    Event(Event<'a>),
    /// The log was opened: secretsd started.
    Start(Start<'a>),
    /// The log was closed in order.
    Stop,
    /// The first entry of each segment.
    Segment(Switch<'a>),
    /// Several events that were over a quota.
    Merged(Merged<'a>),
}

/// What is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A file of a secret was opened, or was not.
    Open(Access<'a>),
    /// Bytes of one were read (`audit: every-read`), or were not.
    Read(Access<'a>),
    /// An operator changed something, or was not allowed to.
    Change(Change<'a>),
    /// The store was sealed.
    Seal(Change<'a>),
    /// The store was unsealed.
    Unseal(Change<'a>),
}

/// Who asked for which secret, and what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    /// The process; 0: unknown.
    pub pid: u32,
    /// The thread that waited for the answer.
    pub tid: u32,
    /// As the kernel said it with the request.
    pub uid: u32,
    /// As the process calls itself.
    pub comm: &'a [u8],
    /// Its path in cgroup v2; of a unit of systemd, it ends with the unit's name.
    pub cgroup: &'a [u8],
    /// Whose view it was.
    pub service: &'a str,
    /// Which instance's.
    pub instance: u32,
    /// What was asked for.
    pub secret: &'a str,
    /// Which field of it.
    pub field: Option<&'a str>,
    /// Which version; 0: none.
    pub version: u32,
    /// What was answered.
    pub verdict: Verdict,
    /// Why, in a few words of our own; may be empty.
    pub why: &'a str,
    /// Which FUSE connection: never given to two of them, as their requests count from the start.
    pub connection: u32,
    /// The request's number in it, without the bit that says "sent again".
    pub unique: u64,
}

/// What was answered to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It got what it asked for.
    Allowed,
    /// It may not have it.
    Denied,
    /// It might have had it, but something broke.
    Failed,
}

/// An act of an operator, or of secretsd for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// The operator's name, as far as known.
    pub operator: &'a str,
    /// Its uid.
    pub uid: u32,
    /// Its process; 0: unknown.
    pub pid: u32,
    /// `secret.rotate`, `secret.grant`, `on_change`.
    pub act: &'a str,
    /// What it was done to: the name of a secret, a config, a service.
    pub what: &'a str,
    /// More of it: the new version, the grant's names. Never a value.
    pub detail: &'a str,
    /// How it went.
    pub outcome: Outcome,
    /// Why, if it was not done.
    pub why: &'a str,
}

/// How an act went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It is about to be done; another entry says how it went. Without one: secretsd ended in between.
    Begun,
    /// Done.
    Done,
    /// The operator may not.
    Denied,
    /// Tried, and not done.
    Failed,
}

/// A start of secretsd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start<'a> {
    /// /proc/sys/kernel/random/boot_id; zeros: unknown.
    pub boot: [u8; 16],
    /// The process that writes from here on.
    pub pid: u32,
    /// Which secretsd.
    pub program: &'a str,
    /// What was found at the log's end, if it did not end in order.
    pub found: &'a str,
}

/// The begin of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch<'a> {
    /// As in [`Start`].
    pub boot: [u8; 16],
    /// This segment's number.
    pub number: u64,
    /// Those before this one were removed, because the log has a limit.
    pub oldest: u64,
    /// Why the log does not go on where it was, if that is not because the segment was full.
    pub note: &'a str,
}

/// Events that were counted instead of written one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged<'a> {
    /// Which kind of events.
    pub of: Kind,
    /// How many.
    pub count: u64,
    /// When the first happened.
    pub first: Time,
    /// When the last happened.
    pub last: Time,
    /// Of accesses: whose view; empty: of several services.
    pub service: &'a str,
    /// Which instance's; 0: of several.
    pub instance: u32,
    /// What was asked for; empty: several.
    pub secret: &'a str,
    /// The last one's version.
    pub version: u32,
    /// What was answered to all of them.
    pub verdict: Verdict,
    /// Why; empty: none, or several reasons.
    pub why: &'a str,
    /// The last one's process.
    pub pid: u32,
    /// The last one's thread.
    pub tid: u32,
    /// The last one's user.
    pub uid: u32,
    /// As the last one called itself.
    pub comm: &'a [u8],
    /// Of changes: whose; empty: of several.
    pub operator: &'a str,
    /// Of changes: what was tried; empty: several acts.
    pub act: &'a str,
    /// Which place of the merging table, and after which entry it was begun: no two merged entries
    /// have both, so that none is written twice.
    pub slot: u16,
    /// See `slot`.
    pub since: u64,
}

/// The kinds of entries; the numbers are those on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "see `Record` and `Event`")]
pub enum Kind {
    Open = 1,
    Read = 2,
    Change = 3,
    Seal = 4,
    Unseal = 5,
    Start = 6,
    Stop = 7,
    Segment = 8,
    Merged = 9,
}

impl Kind {
    /// As JSON says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Open => "open",
            Kind::Read => "read",
            Kind::Change => "change",
            Kind::Seal => "seal",
            Kind::Unseal => "unseal",
            Kind::Start => "start",
            Kind::Stop => "stop",
            Kind::Segment => "segment",
            Kind::Merged => "merged",
        }
    }
}

impl Verdict {
    /// As JSON says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::Failed => "failed",
        }
    }
}

impl Outcome {
    /// As JSON says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Begun => "begun",
            Outcome::Done => "done",
            Outcome::Denied => "denied",
            Outcome::Failed => "failed",
        }
    }
}

impl Event<'_> {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Event::Open(_) => Kind::Open,
            Event::Read(_) => Kind::Read,
            Event::Change(_) => Kind::Change,
            Event::Seal(_) => Kind::Seal,
            Event::Unseal(_) => Kind::Unseal,
        }
    }
}

impl Record<'_> {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Record::Event(event) => event.kind(),
            Record::Start(_) => Kind::Start,
            Record::Stop => Kind::Stop,
            Record::Segment(_) => Kind::Segment,
            Record::Merged(_) => Kind::Merged,
        }
    }
}
