//! `deploy-inject oci-hook`: an OCI hook of the kind createRuntime, run by runc, crun or podman after a
//! container's namespaces and mounts are made, and before its root file system is pivoted to. A
//! container with the annotation `io.deploy.service` gets that service's view, or does not start.

mod bundle;

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use control::inner::{Link, Reply, ToInjector};
use model::{Manifest, ServiceName, Targets};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use self::bundle::{Bundle, State};
use crate::explain::explain;
use crate::journal;
use crate::owners;
use crate::run_dir::RunDir;
use crate::unit::drop_in;

/// Names the service.
const SERVICE: &str = "io.deploy.service";
/// A state is some hundred bytes.
const STATE_MAX: u64 = 1 << 20;
/// Where a container's secrets are, if its manifest does not say it.
const SECRETS: &str = "/run/secrets";

/// Why a container does not start. The runtime shows it.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// What the runtime gave us.
    #[error("the container's {what} cannot be understood: {why}")]
    Runtime {
        /// Which part.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The service's name or manifest.
    #[error("service {service}: {why}")]
    Manifest {
        /// Which.
        service: String,
        /// Why.
        why: String,
    },
    /// Nobody to ask.
    #[error(
        "the injector does not answer on {}: {why}; secrets are given to root's containers alone, while \
         deploy-inject runs",
        socket.display()
    )]
    NoInjector {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        why: String,
    },
    /// It may not have what it asks for.
    #[error("{0}")]
    Refused(String),
}

/// Reads a container's state from `input`, and gives the container its view.
///
/// # Errors
/// See [`HookError`].
pub fn hook(input: impl Read, run_dir: &Path, manifests: &Path) -> Result<(), HookError> {
    let state = State::read(input.take(STATE_MAX))?;
    give(&state, run_dir, manifests).inspect_err(|error| {
        // crun shows no word of a hook.
        let words = error.to_string();
        let words: Vec<_> = words.lines().map(str::trim).collect();
        let line = format!("container {}: {}", state.id, words.join("; "));
        journal::tell(state.pid, &line);
    })
}

fn give(state: &State, run_dir: &Path, manifests: &Path) -> Result<(), HookError> {
    let bundle = Bundle::read(state)?;
    let Some(name) = bundle.annotation(SERVICE) else {
        return Ok(());
    };
    // First of all: in the user namespace of a rootless runtime no file is root's.
    let socket = RunDir::new(run_dir).inject_socket();
    let no_injector = |why: String| HookError::NoInjector {
        socket: socket.clone(),
        why,
    };
    let link = Link::connect(&socket).map_err(|error| no_injector(error.to_string()))?;
    let (path, mut manifest) = manifest(manifests, name)?;
    owners::by_number(&mut manifest, |owner| bundle.user(Some(owner)))?;
    let (uid, gid) = bundle.user(manifest.user.as_deref())?;
    let pid = Pid::from_raw(state.pid);
    let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let process = process.ok_or_else(|| runtime("process", "it is gone"))?;
    let question = ToInjector::MakeInstance {
        manifest,
        manifest_path: path,
        uid,
        gid,
        cgroup: state.cgroup(),
        root: Some(bundle.root(state)?),
        container: Some(state.id.clone()),
        image: state.image(),
        again: false,
    };
    match link.request(&question, &[process.as_fd()]) {
        Ok((Reply::Made { .. }, _)) => Ok(()),
        Ok((
            Reply::Refused {
                message,
                hint,
                missing,
                ..
            },
            _,
        )) => Err(HookError::Refused(explain(
            name,
            &message,
            hint.as_deref(),
            &missing,
        ))),
        Ok((Reply::Failed { message }, _)) => Err(HookError::Refused(message)),
        Ok(_) => Err(no_injector("it answers something else".to_owned())),
        Err(error) => Err(no_injector(error.to_string())),
    }
}

/// The manifest of a service: `MANIFESTS/NAME.yaml`, root's alone. An annotation is the word of whoever
/// started the container, and so names no path.
fn manifest(manifests: &Path, name: &str) -> Result<(PathBuf, Manifest), HookError> {
    let wrong = |why: String| HookError::Manifest {
        service: name.to_owned(),
        why,
    };
    let service: ServiceName = name.parse().map_err(|error| wrong(format!("{error}")))?;
    let path = manifests.join(format!("{service}.yaml"));
    let mut manifest = drop_in::manifest(&path).map_err(|error| wrong(error.to_string()))?;
    if manifest.service != service {
        return Err(wrong(format!(
            "{} is of {}",
            path.display(),
            manifest.service
        )));
    }
    if manifest.targets == Targets::default() {
        manifest.targets.secret = SECRETS.into();
    }
    Ok((path, manifest))
}

fn runtime(what: &'static str, why: impl ToString) -> HookError {
    HookError::Runtime {
        what,
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_annotation_names_a_service_and_no_path() {
        let dir = tempfile::tempdir().unwrap();
        let text = "service: web\nsecrets: [a]\n";
        std::fs::write(dir.path().join("web.yaml"), text).unwrap();
        std::fs::write(dir.path().join("other.yaml"), text).unwrap();
        let (path, found) = manifest(dir.path(), "web").unwrap();
        assert_eq!(path, dir.path().join("web.yaml"));
        assert_eq!(found.targets.secret, Path::new("/run/secrets"));
        for name in ["../web", "", "absent", "other", "web.yaml/"] {
            assert!(manifest(dir.path(), name).is_err(), "{name}");
        }
    }
}
