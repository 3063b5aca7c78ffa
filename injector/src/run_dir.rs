//! Where things lie in a run folder. One place, so that keeper, injector and supervisor agree.

use std::path::{Path, PathBuf};

/// A run folder: the paths below it, and nothing else (no I/O).
///
/// | path | mode | made by |
/// |---|---|---|
/// | `control.sock` | 0660 root:deploy, or root:root | keeper, for secretsd |
/// | `credentials.sock` | 0600 root | keeper, for secretsd: `LoadCredential=` of systemd asks here |
/// | `inject.sock` | 0660 root:secretsd's group | keeper, for the injector |
/// | `notify/{secretsd,injector}` | 0600, its program's user | keeper |
/// | `views/{secret,config}` | `views` 0700 root | injector: the master mounts |
/// | `secrets` | 0700 root | injector: the operators' tree |
/// | `instances/NUMBER` | 0600 in 0700 | injector: the registry |
/// | `changes/NUMBER` | 0600 in 0700 | injector: what a service with `on_change` hears of |
/// | `last-instance` | 0600 | injector: the number that was given last |
/// | `supervisors/PID` | 0600 in 0700 | each supervisor |
/// | `keeper.pid` | 0600, locked while the keeper lives | keeper |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The run folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> RunDir {
        RunDir(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// secretsd's varlink socket.
    pub fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// Where systemd asks secretsd for a unit's credentials.
    pub fn credentials_socket(&self) -> PathBuf {
        self.0.join("credentials.sock")
    }

    /// The injector's socket.
    pub fn inject_socket(&self) -> PathBuf {
        self.0.join("inject.sock")
    }

    /// The folder of the sockets on which the keeper hears its programs.
    pub fn notify(&self) -> PathBuf {
        self.0.join("notify")
    }

    /// The 0700 folder of the services' master mounts.
    pub fn views(&self) -> PathBuf {
        self.0.join("views")
    }

    /// Where the operators' tree is mounted.
    pub fn operator_tree(&self) -> PathBuf {
        self.0.join("secrets")
    }

    /// The registry of instances.
    pub fn instances(&self) -> PathBuf {
        self.0.join("instances")
    }

    /// A file for each instance whose manifest says `on_change`.
    pub fn changes(&self) -> PathBuf {
        self.0.join("changes")
    }

    /// The number of the instance that was made last.
    pub fn last_instance(&self) -> PathBuf {
        self.0.join("last-instance")
    }

    /// A file for each supervisor that runs.
    pub fn supervisors(&self) -> PathBuf {
        self.0.join("supervisors")
    }

    /// The keeper's lock, and what it must remember for its successor.
    pub fn keeper_lock(&self) -> PathBuf {
        self.0.join("keeper.pid")
    }
}
