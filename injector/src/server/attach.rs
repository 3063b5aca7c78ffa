//! Views into namespaces: when an instance is made, and again after its connection was lost.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use control::inner::{InstanceRecord, Origin};
use sys::apart::Apart;
use sys::lock::lock;

use super::connections::Connections;
use super::parts::{Part, parts};
use super::{Injector, touch};
use crate::apply::{Namespace, apply};
use crate::mounts::Mounts;
use crate::plan::{Survey, Target, Tree, plan};
use crate::{folders, process};

/// Attaching takes a millisecond; what takes this long is stuck, and not waited for.
const STUCK: Duration = Duration::from_millis(100);
/// How long a start waits for a lost connection.
const WHOLE_PATIENCE: Duration = Duration::from_secs(10);

impl Injector {
    /// Attaches an instance's views in its namespace.
    pub(super) fn attach(&self, record: &InstanceRecord, service: &OwnedFd) -> Result<(), String> {
        self.wait_until_whole();
        let clones = clones(
            &self.apart,
            &self.connections(),
            record,
            &[Tree::Secret, Tree::Config],
            false,
        )?;
        let _lock = folders::lock();
        inject(record, service, clones)
    }

    /// A connection that was lost a moment ago is about to be there again.
    fn wait_until_whole(&self) {
        let start = Instant::now();
        while self.connections().is_lost() && start.elapsed() < WHOLE_PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Free once secretsd has taken the next one over.
        drop(lock(&self.fresh));
    }

    /// Services that run through a loss of connections get the views of those back. Each on a thread
    /// of its own: a service may have mounted on the way to its views what answers nobody.
    pub(super) fn attach_all(&self, trees: &[Tree]) {
        if trees.is_empty() {
            return;
        }
        let live = self
            .instances
            .look(|one| Some(one.namespaces()))
            .into_iter()
            .flatten();
        // For all of them: whoever is stuck would hold it up for the others.
        let _lock = folders::lock();
        let connections = self.connections();
        for (record, service) in live {
            let (done, is_done) = channel::<()>();
            let (apart, trees) = (Arc::clone(&self.apart), trees.to_vec());
            let connections = Arc::clone(&connections);
            let attach = move || {
                let attached = clones(&apart, &connections, &record, &trees, true)
                    .and_then(|clones| inject(&record, &service, clones));
                if let Err(error) = attached {
                    let (number, service) = (record.number, &record.service);
                    log::error!("instance {number} of {service} has no view any more: {error}");
                }
                drop(done);
            };
            match std::thread::Builder::new()
                .name("attach".into())
                .spawn(attach)
            {
                // Done or not, it says no word: what is awaited is the end of the sender.
                Ok(_) => drop(is_done.recv_timeout(STUCK)),
                Err(error) => log::error!("no thread to attach views: {error}"),
            }
        }
    }
}

/// A record whose targets are below `root`.
pub(super) fn below(root: &Path, record: &InstanceRecord) -> InstanceRecord {
    let mut record = record.clone();
    for target in [&mut record.targets.secret, &mut record.targets.config] {
        *target = root.join(target.strip_prefix("/").unwrap_or(target));
    }
    record
}
/// The views of an instance, attached nowhere. secretsd answers the look-up of the folder, and may be
/// away, so that no lock may be held, and it is a process apart that looks.
fn clones(
    apart: &Apart,
    connections: &Connections,
    record: &InstanceRecord,
    trees: &[Tree],
    anew: bool,
) -> Result<Vec<(Tree, OwnedFd)>, String> {
    let number = record.number;
    let clone = |part: Part<'_>| {
        let master = match part.within() {
            Tree::Config => connections.config(),
            _ => connections.secret(),
        };
        match touch::clone_readonly(apart, master, &part.folder) {
            Ok(clone) => part.check(&clone).map(|()| Some((part.tree, clone))),
            // It may be revoked, or all sealed: the rest is attached all the same.
            Err(error) if anew && part.name.is_some() => {
                let target = part.target.display();
                log::error!("instance {number} has nothing at {target} any more: {error}");
                Ok(None)
            }
            Err(error) => Err(format!(
                "cannot clone the view of instance {number}: {error}"
            )),
        }
    };
    parts(record)
        .into_iter()
        .filter(|part| trees.contains(&part.within()))
        .filter_map(|part| clone(part).transpose())
        .collect()
}

/// Attaches clones where the record says, in the namespace of `service`. Under the lock of
/// [`folders`].
fn inject(
    record: &InstanceRecord,
    service: &OwnedFd,
    clones: Vec<(Tree, OwnedFd)>,
) -> Result<(), String> {
    let host_namespace =
        sys::namespace::is_hosts(record.pid).map_err(|error| format!("no namespace: {error}"))?;
    // By our own /proc: theirs may lie.
    let no_table = |error| format!("no mount table: {error}");
    let mut mounts = Mounts::of(record.pid).map_err(no_table)?;
    // systemd shares a unit's mounts among its own processes, and what it has bound there itself
    // shows to those too.
    match record.origin {
        Origin::Unit { .. } => mounts = mounts.shared_with(&Mounts::here().map_err(no_table)?),
        // Copies of the masters go when its runtime has pivoted, and with users of its own it could
        // not take them out.
        Origin::Container { .. } => mounts = mounts.without_masters(),
        Origin::Supervisor => {}
    }
    if process::has_ended(service) {
        return Err("the service's process has ended".to_owned());
    }
    let parts = parts(record);
    let done = sys::namespace::inside(service.as_fd(), move || {
        let mut namespace = Namespace::enter(&clones)?;
        let mut targets = Vec::new();
        for (tree, _) in &clones {
            let part = parts.iter().find(|part| part.tree == *tree);
            let path = part.ok_or(io::ErrorKind::InvalidInput)?.target.to_owned();
            let found = namespace.find(&path)?;
            let tree = *tree;
            targets.push(Target { tree, path, found });
        }
        let survey = Survey {
            host_namespace,
            mounts,
            targets,
        };
        // The words of a refusal go out as they are; an io::Error would lose them.
        Ok(plan(&survey)
            .map_err(|error| error.to_string())
            .and_then(|steps| apply(&steps, &mut namespace).map_err(|error| error.to_string())))
    });
    done.map_err(|error| format!("cannot enter the service's mount namespace: {error}"))?
}
