//! The inner link: between the injector on one side, and secretsd and supervisors on the other.
//! Both sides may ask; messages carry descriptors.
//!
//! Nothing here holds a value. A message names things by number and path, and what secretsd serves
//! goes by descriptors.

mod link;
mod wire;

use std::fmt;
use std::path::PathBuf;

use model::{Manifest, SecretName, ServiceName, Targets, Tree};
use serde::{Deserialize, Serialize};

pub use link::{Link, LinkError};
pub use model::Entry;
pub use wire::{MAX_DESCRIPTORS, MAX_FRAME, VERSION};

/// Who connects to the injector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// secretsd.
    Daemon,
    /// The parent of a service.
    Supervisor,
}

/// What the injector is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToInjector {
    /// Here I am; secretsd gets [`FromInjector::TakeOver`] after it.
    Hello {
        /// As whom.
        role: Role,
        /// The sender's [`VERSION`].
        version: u32,
    },
    /// Make an instance for the process behind the pidfd that comes with this. Root alone.
    MakeInstance {
        /// What the service asks for.
        manifest: Manifest,
        /// Where that came from.
        manifest_path: PathBuf,
        /// The service's user.
        uid: u32,
        /// Its first group.
        gid: u32,
        /// Its cgroup, as /proc/PID/cgroup says it.
        cgroup: Option<String>,
        /// Where the root of that process will be, in the mount namespace that it has, once its runtime
        /// has pivoted to it; targets are below that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<PathBuf>,
        /// The container that it is the first process of, as its runtime names it: then the instance
        /// ends with that process, and whoever asks need not stay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        /// The digest of the image that its container was made of, `sha256:...`, for grants that are
        /// pinned to one. The injector believes root alone, and who sends this has it from the
        /// container's runtime and not from the container.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        /// It was refused a moment ago, and waits: the same refusal is in the audit log already.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// End an instance. Root alone.
    EndInstance {
        /// Which.
        number: u32,
    },
    /// List the instances. Root alone.
    Instances,
    /// Take the configuration of the manifest for the instances of its service. Root alone.
    Reload {
        /// The manifest as it is now.
        manifest: Manifest,
        /// Where that came from.
        manifest_path: PathBuf,
    },
    /// Make inotify fire. Answered by [`Reply::Late`] if an instance keeps its own waiting. secretsd
    /// alone.
    Ring {
        /// For these files.
        targets: Vec<RingTarget>,
    },
    /// Make inotify tell that names are gone. Answered as `Ring` is. secretsd alone.
    Unlink {
        /// These names.
        targets: Vec<RingTarget>,
    },
    /// Keep the descriptor that comes with this, in place of one of that name. secretsd alone.
    Hold {
        /// The name.
        name: String,
    },
    /// An instance's entries have grown; the registry keeps them. secretsd alone.
    Entries {
        /// Which instance.
        number: u32,
        /// All its entries.
        entries: Vec<Entry>,
    },
    /// Names are at these versions: services whose manifest says `on_change` hear of it, each of its
    /// own. Versions and no events, so that whoever was away learns the same from the next one.
    /// secretsd alone.
    Changed {
        /// Names and versions.
        versions: Vec<NameVersion>,
        /// These are all: a name that is not among them is not there.
        all: bool,
    },
    /// A process of root's in a systemd unit looks for that unit's view: give the instance that it
    /// has, or make one by the unit's drop-in. Answered as `MakeInstance` is. secretsd alone.
    Unit {
        /// Its whole name.
        unit: String,
        /// Who looks.
        pid: u32,
    },
    /// Everything is about to be stopped, the connections with it: have all forgotten that the kernel
    /// has cached of them. Root alone.
    Stopping,
    /// What a supervisor did after a change; answered when secretsd has it. Root alone.
    Outcome(ChangeOutcome),
}

/// What secretsd is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromInjector {
    /// Some of the instances that there are, before [`FromInjector::TakeOver`]: as many messages as
    /// it takes.
    Instances {
        /// Their records.
        instances: Vec<InstanceRecord>,
    },
    /// Serve these. With it come the descriptors of the connections, then of what was held, then of
    /// what was lost, in the order of the names.
    TakeOver {
        /// The names of the connections.
        connections: Vec<String>,
        /// The names of what an earlier secretsd gave to hold.
        held: Vec<String>,
        /// The names of connections that were aborted, and are among `connections` anew. What the
        /// kernel has cached of them is to be forgotten before this is answered.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lost: Vec<String>,
        /// Instances that have ended while no secretsd was there to be told. What the kernel has
        /// cached of them is to be forgotten too.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ended: Vec<InstanceRecord>,
    },
    /// Decide, and make the view of a new instance.
    Make {
        /// Its record; no entries yet.
        instance: InstanceRecord,
        /// See [`ToInjector::MakeInstance`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// Take the configuration of the record's manifest.
    Reload {
        /// The record, with the manifest as it is now.
        instance: InstanceRecord,
    },
    /// Forget an instance.
    End {
        /// Which.
        number: u32,
    },
    /// All is about to be stopped: serve nothing any more, and have all forgotten that the kernel has
    /// cached.
    Stopping,
    /// What the supervisor of an instance did after a change.
    Outcome(ChangeOutcome),
    /// Instances that were late have been told everything by now.
    CaughtUp {
        /// Which.
        numbers: Vec<u32>,
    },
}

/// The version that a secret or a stored config is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameVersion {
    /// A secret or a config.
    pub tree: Tree,
    /// Its name.
    pub name: String,
    /// Its newest version; 0: it is not there.
    pub version: u64,
}

/// What became of a manifest's `on_change`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeOutcome {
    /// The instance; it may have ended meanwhile, by this very act.
    pub number: u32,
    /// Its service.
    pub service: ServiceName,
    /// What the manifest asks for.
    pub act: ChangeAct,
    /// How it went.
    pub outcome: Outcome,
    /// Why, if it was not done; never with a value or an argument in it.
    pub why: String,
}

/// The kinds of `on_change`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeAct {
    /// A signal to the service's first process.
    Signal,
    /// A command beside the service.
    Command,
    /// The service is started again.
    Restart,
}

impl fmt::Display for ChangeAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChangeAct::Signal => "signal",
            ChangeAct::Command => "command",
            ChangeAct::Restart => "restart",
        })
    }
}

/// How an act went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Done,
    /// Tried in vain.
    Failed,
    /// Not tried: one of the service's files does not open.
    Skipped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Skipped => "skipped",
        })
    }
}

/// An answer, either way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// Done.
    Ok,
    /// Not done.
    Failed {
        /// Why.
        message: String,
    },
    /// An instance is made.
    Made {
        /// Its number.
        number: u32,
        /// The numbers of its names.
        entries: Vec<Entry>,
    },
    /// An instance may not have what its manifest asks for.
    Refused {
        /// Why.
        kind: RefusedKind,
        /// Every grant that is missing.
        missing: Vec<MissingGrant>,
        /// The same in words.
        message: String,
        /// What mends it, where `missing` does not say it.
        hint: Option<String>,
    },
    /// Done, but for some instances, which hold their folder's lock: they are told as soon as they
    /// let it go, and then [`FromInjector::CaughtUp`] says so.
    Late {
        /// Their numbers.
        numbers: Vec<u32>,
    },
    /// All instances.
    Instances {
        /// Their records.
        instances: Vec<InstanceRecord>,
    },
}

/// Why an instance was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedKind {
    /// Grants are missing.
    Missing,
    /// The store is sealed.
    Sealed,
    /// A stored config is missing or cannot be used.
    Config,
    /// Something of the kind is there already.
    Conflict,
}

/// A secret that a manifest asks for in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MissingGrant {
    /// Which.
    pub secret: SecretName,
    /// Why.
    pub reason: String,
    /// What mends it, where that is not a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// A file of a view, as the bell finds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingTarget {
    /// `secret` or `config`.
    pub tree: String,
    /// Relative to that tree's master mount.
    pub path: PathBuf,
}

/// An inode number has the instance's in the bits from here on.
const INSTANCE_SHIFT: u32 = 44;

impl RingTarget {
    /// Which instance it belongs to: `7/db_password` and `.inode/NUMBER` belong to one, and nothing
    /// else does.
    pub fn instance(&self) -> Option<u32> {
        let mut parts = self.path.components().map(|part| part.as_os_str().to_str());
        match parts.next()?? {
            ".inode" => {
                let ino: u64 = parts.next()??.parse().ok()?;
                u32::try_from(ino >> INSTANCE_SHIFT).ok()
            }
            number => number.parse().ok(),
        }
    }
}

/// Who started a service, and so what the end of its instance is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Origin {
    /// `deploy run`: it ends with its first process, and that with its supervisor.
    #[default]
    Supervisor,
    /// systemd: it ends with the cgroup of its unit.
    Unit {
        /// What that has and no other cgroup of this boot.
        cgroup_id: u64,
    },
    /// A container's runtime: it ends with the container's first process.
    Container {
        /// As the runtime names it.
        id: String,
    },
}

/// All that outlives the injector and secretsd of an instance; RUN_DIR/instances/NUMBER holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceRecord {
    /// Version of this record's form.
    pub format: u32,
    /// The instance's number.
    pub number: u32,
    /// The service.
    pub service: ServiceName,
    /// Its user.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Its first process.
    pub pid: i32,
    /// That process's start, in clock ticks since boot: with the pid it names a process for good.
    pub start_time: u64,
    /// The inode of its mount namespace.
    pub mount_ns: u64,
    /// Its cgroup, as /proc/PID/cgroup says it.
    pub cgroup: Option<String>,
    /// The systemd unit that it runs in, as the injector has read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The digest of its container's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Who started it.
    #[serde(default)]
    pub origin: Origin,
    /// Where its views are.
    pub targets: Targets,
    /// Where its manifest came from.
    pub manifest_path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// The numbers of its names.
    pub entries: Vec<Entry>,
    /// How often its manifest's configuration was replaced while it runs.
    pub reloads: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_tells_its_instance() {
        for (path, instance) in [
            ("7/db_password", Some(7)),
            ("7/tls/cert.pem", Some(7)),
            (".inode/123145571020801", Some(7)),
            (".inode/x", None),
            ("../7", None),
            ("", None),
        ] {
            let target = RingTarget {
                tree: "secret".to_owned(),
                path: path.into(),
            };
            assert_eq!(target.instance(), instance, "{path}");
        }
    }
}
