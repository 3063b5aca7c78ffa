//! What goes in and out of [`Views`](crate::Views): instances, and what a change has touched.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{ConfigKey, ConfigName, Entry, FieldName, Modes, SecretName, ServiceName, Tree};

use crate::tree::Stale;

/// What tells an instance's processes apart from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceKey {
    /// Its number; its folder in the master mounts has it as name.
    pub number: u32,
    /// Its cgroup v2, as `/proc/PID/cgroup` has it; its processes may be in cgroups below.
    pub cgroup: Option<String>,
}

/// Who is reading.
pub trait Membership: Send + Sync + 'static {
    /// Does the thread `tid` belong to the instance? Asked inside the handler of its open, while it
    /// cannot exit.
    fn belongs(&self, tid: u32, instance: &InstanceKey) -> bool;

    /// The process that the thread belongs to.
    fn thread_group(&self, tid: u32) -> Option<u32>;
}

/// Who makes instances for units: systemd binds `views/secret/UNIT` into a unit's namespace, and the
/// look-up of that name, by root and from the unit's cgroup, is the moment to make its instance.
pub trait Units: Send + Sync + 'static {
    /// The instance of the unit in which `tid` runs; its first look-up makes it. On a thread that may
    /// wait, while the caller of the look-up waits for its end.
    ///
    /// # Errors
    /// See [`NoInstance`].
    fn instance_of(&self, unit: &str, tid: u32) -> Result<u32, NoInstance>;
}

/// Why a unit gets no instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoInstance {
    /// There is no such unit, or whoever asks is not in it.
    Unknown,
    /// It may not have what it asks for.
    Denied,
    /// The store is sealed.
    Sealed,
    /// It could not be made.
    Failed,
}

/// Who asked for a secret, and what he is answered.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// Which call.
    pub kind: AccessKind,
    /// The thread that waits for the answer.
    pub tid: u32,
    /// Its user, as the kernel says.
    pub uid: u32,
    /// Which FUSE connection: the same after a take-over, another one for each new connection.
    pub connection: u32,
    /// The request's number in it.
    pub unique: u64,
    /// The kernel sends it again, because whoever took it first has ended.
    pub resent: bool,
    /// Whose view it is.
    pub instance: u32,
    /// Its service.
    pub service: &'a ServiceName,
    /// What is asked for.
    pub secret: &'a SecretName,
    /// Which field of it.
    pub field: Option<&'a FieldName>,
    /// Which version; 0: none.
    pub version: u32,
    /// What is answered.
    pub verdict: AccessVerdict,
    /// Why; empty where it is allowed.
    pub why: &'static str,
}

/// What a reader calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// open(2); of what is not shown, any call by its name.
    Open,
    /// read(2), of what is not cached.
    Read,
}

/// What a reader is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessVerdict {
    /// It gets it.
    Allowed,
    /// It may not have it.
    Denied,
    /// It may, but it cannot be read.
    Failed,
}

/// Writes down who asked for what. Called before the answer, on the thread that answers.
pub trait Witness: Send + Sync + 'static {
    /// # Errors
    /// It is not written down: what was allowed is answered with EIO then.
    fn access(&self, access: &Access<'_>) -> Result<(), Unwritten>;
}

/// An access that was not written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it could not be written down")]
pub struct Unwritten;

/// A secret that an instance asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretSpec {
    /// Its name.
    pub name: SecretName,
    /// Each read of it comes to us, and is written down.
    pub every_read: bool,
    /// The version before is shown too, while its grace lasts.
    pub previous: bool,
    /// The instance is made without it too.
    pub optional: bool,
    /// Permissions of its files; `None`: those of the instance.
    pub mode: Option<u16>,
    /// User and group of its files and their folder; `None`: the instance's.
    pub owner: Option<(u32, u32)>,
}

impl SecretSpec {
    /// One without any of that.
    #[must_use]
    pub fn plain(name: SecretName) -> SecretSpec {
        SecretSpec {
            name,
            every_read: false,
            previous: false,
            optional: false,
            mode: None,
            owner: None,
        }
    }
}

/// An instance to be shown.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// From 1 to 2^20 - 1.
    pub number: u32,
    /// Its service.
    pub service: ServiceName,
    /// The owner of its files.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// See [`InstanceKey::cgroup`].
    pub cgroup: Option<String>,
    /// The systemd unit that it runs in, as the injector says.
    pub unit: Option<String>,
    /// The digest of its container's image, as the injector says.
    pub image: Option<String>,
    /// The secrets that its manifest asks for.
    pub secrets: Vec<SecretSpec>,
    /// The manifest's own settings; they win.
    pub config: BTreeMap<ConfigKey, String>,
    /// Stored configs, a later one wins.
    pub config_from: Vec<ConfigName>,
    /// How often `config` and `config_from` were replaced.
    pub reloads: u32,
    /// Permissions of its files and folders.
    pub modes: Modes,
    /// Numbers that its names have already; none for a new instance.
    pub entries: Vec<Entry>,
}

/// Why an instance is not made. Nothing of it is shown then.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// These secrets may not be read, each with the reason.
    #[error("{} of the secrets asked for may not be read", .0.len())]
    Missing(Vec<(SecretName, store::Denied)>),
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
    /// A stored config is not there, or cannot be read.
    #[error(transparent)]
    Config(#[from] store::ConfigError),
    /// A secret cannot be read.
    #[error(transparent)]
    Read(#[from] store::ReadError),
    /// More names than an inode number has room for.
    #[error("an instance has at most 65535 files in each tree")]
    TooMany,
    /// There is no such instance.
    #[error("there is no instance {0}")]
    Unknown(u32),
}

/// A file that has to be touched through the master mount, so that inotify fires.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingPath {
    /// In which tree.
    pub tree: Tree,
    /// Below the root of the master mount: `7/db_password`, or `.inode/NUMBER`.
    pub path: PathBuf,
}

/// What a change has touched, for those who act outside.
#[derive(Debug, Default)]
pub struct Touched {
    /// Files whose watchers are to be woken.
    pub rings: Vec<RingPath>,
    /// Names that are no more, to be unlinked through the master mount: their watchers hear of it.
    pub unlinks: Vec<RingPath>,
    /// Names that the kernel is to forget once the injector has rung and unlinked, or could not: to
    /// be given to [`Views::forget_gone`](crate::Views::forget_gone) then.
    pub gone: Gone,
    /// Instances whose kernel caches could not be brought up to date in time, because a process of
    /// theirs holds the folder's lock. They alone may see an old name.
    pub stuck: Vec<(u32, ServiceName)>,
    /// All entries of each instance that got new ones.
    pub new_entries: Vec<(u32, Vec<Entry>)>,
}

impl Touched {
    /// With what another change has touched.
    pub(crate) fn extend(&mut self, other: Touched) {
        let Touched {
            rings,
            unlinks,
            gone,
            stuck,
            new_entries,
        } = other;
        self.rings.extend(rings);
        self.unlinks.extend(unlinks);
        self.gone.0.extend(gone.0);
        self.stuck.extend(stuck);
        self.new_entries.extend(new_entries);
    }
}

/// Names that are no more, and that the kernel may still have.
#[derive(Debug, Default)]
#[must_use = "the kernel is to forget them"]
pub struct Gone(pub(crate) Vec<Stale>);

/// Counts for `deploy status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewsStatus {
    /// Instances that are shown.
    pub instances: usize,
    /// Inodes that the kernel holds.
    pub inodes: usize,
}
