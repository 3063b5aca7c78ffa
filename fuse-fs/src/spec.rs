//! What goes in and out of [`Views`](crate::Views): instances, and what a change has touched.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{ConfigKey, ConfigName, Entry, Modes, SecretName, ServiceName, Tree};

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
    /// The secrets that its manifest asks for.
    pub secrets: Vec<SecretName>,
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
