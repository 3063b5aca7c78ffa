//! What has to be done so that a mount namespace shows an instance's views: pure, from what the
//! manifest asks for and from what is there. [`crate::apply`] does it, and undoes it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::mounts::Mounts;

/// Which of an instance's two trees, or which part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tree {
    Secret,
    Config,
    /// The folder of fields of the secret that has this place in the manifest.
    Fields(usize),
}

/// What was found on the way to a target, without following any symlink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The target is a folder.
    Folder,
    /// The way ends before the target: the deepest folder that is there.
    Absent { deepest: PathBuf },
    /// The way leads through a symlink, or over something that is no folder, at this path.
    Blocked { at: PathBuf, what: &'static str },
}

/// A target, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub tree: Tree,
    pub path: PathBuf,
    pub found: Found,
}

/// What is there.
#[derive(Clone, Debug)]
pub(crate) struct Survey {
    /// The process shares its mount namespace with the host.
    pub host_namespace: bool,
    pub mounts: Mounts,
    pub targets: Vec<Target>,
}

/// One thing to do in the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Take a mount of ours out of the namespace: a copy of a master, or a view that is dead.
    /// Not undone: the namespace is better without it.
    TakeOut { point: PathBuf },
    /// Make a folder, 0755 root, marked as made for the purpose ([`crate::folders`]). Undone by
    /// removing it, if it is empty.
    MakeFolder { path: PathBuf },
    /// Mount a clone of the instance's folder of `tree`. Undone by detaching it.
    Attach { tree: Tree, target: PathBuf },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::TakeOut { point } => write!(f, "detach {}", point.display()),
            Step::MakeFolder { path } => write!(f, "make the folder {}", path.display()),
            Step::Attach { target, .. } => write!(f, "attach a view at {}", target.display()),
        }
    }
}

/// Why there can be no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error(
        "the process is in the host's mount namespace, so its view would show to everyone; \
         start it in a mount namespace of its own"
    )]
    HostNamespace,
    #[error(
        "a {kind} lies over /proc in the service's mount namespace, so nothing that it says can be \
         believed; mount a real proc file system there"
    )]
    FalseProc { kind: String },
    #[error("{target}: {at} is {what}; name a target without it in `targets`")]
    Blocked {
        target: String,
        at: String,
        what: &'static str,
    },
    #[error(
        "{target} lies on a shared mount ({point}), so the view would show in other namespaces; \
         make it private there first: mount --make-private {point}"
    )]
    Shared { target: String, point: String },
}

/// Plans the way to the views.
pub(crate) fn plan(survey: &Survey) -> Result<Vec<Step>, PlanError> {
    if survey.host_namespace {
        return Err(PlanError::HostNamespace);
    }
    // CVE-2025-52881: with a false /proc, writes and checks go where the attacker leads them.
    if let Some(proc) = survey.mounts.exactly_at(Path::new("/proc"))
        && proc.kind != "proc"
    {
        return Err(PlanError::FalseProc {
            kind: proc.kind.clone(),
        });
    }

    let mut steps = Vec::new();
    let is_target = |point: &Path| survey.targets.iter().any(|t| t.path == point);
    // The latest first: a mount that lies on another one goes before it.
    for mount in survey.mounts.iter().rev() {
        if mount.is_master() || (mount.is_ours() && is_target(&mount.point)) {
            steps.push(Step::TakeOut {
                point: mount.point.clone(),
            });
        }
    }
    let others = survey.mounts.without_ours();
    for target in &survey.targets {
        check_propagation(&others, target)?;
        for path in missing(target)? {
            let step = Step::MakeFolder { path };
            // Both targets may be below the same new folder.
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        steps.push(Step::Attach {
            tree: target.tree,
            target: target.path.clone(),
        });
    }
    Ok(steps)
}

/// A mount on a shared one appears in its peers too, in the host's namespace for one.
fn check_propagation(others: &Mounts, target: &Target) -> Result<(), PlanError> {
    match others.at(&target.path) {
        Some(mount) if mount.shared.is_some() => Err(PlanError::Shared {
            target: target.path.display().to_string(),
            point: mount.point.display().to_string(),
        }),
        _ => Ok(()),
    }
}

fn missing(target: &Target) -> Result<Vec<PathBuf>, PlanError> {
    match &target.found {
        Found::Folder => Ok(Vec::new()),
        Found::Absent { deepest } => Ok(below(deepest, &target.path)),
        Found::Blocked { at, what } => Err(PlanError::Blocked {
            target: target.path.display().to_string(),
            at: at.display().to_string(),
            what,
        }),
    }
}

/// Every folder below `top` on the way to `path`, and `path`, outermost first.
fn below(top: &Path, path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = path
        .ancestors()
        .take_while(|folder| *folder != top)
        .map(Path::to_owned)
        .collect();
    folders.reverse();
    folders
}

#[cfg(test)]
mod tests;
