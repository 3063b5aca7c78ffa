//! The instances: made for a supervisor, attached, and ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use control::inner::{FromInjector, InstanceRecord, Origin, Reply};
use model::Manifest;
use sys::lock::lock;

use super::Injector;
use super::attach::below;
use super::live::{Life, Live};
use crate::registry::FORMAT;
use crate::{clean, folders, process, unit};

/// What a supervisor asks for, with the process that waits for it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub manifest: Manifest,
    pub manifest_path: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub cgroup: Option<String>,
    pub root: Option<PathBuf>,
    pub container: Option<String>,
    pub image: Option<String>,
    pub again: bool,
    /// The service's first process, which has not run anything yet.
    pub service: OwnedFd,
    pub supervisor: OwnedFd,
}
impl Injector {
    /// Makes an instance: number, view, registry, mounts; all of it or nothing.
    pub(super) fn make(&self, wanted: Wanted) -> Reply {
        let record = match self.draft(&wanted) {
            Ok(record) => record,
            Err(error) => return failed(&format!("cannot look at the service's process: {error}")),
        };
        let again = wanted.again;
        let service = Arc::new(wanted.service);
        let life = match record.origin {
            Origin::Container { .. } => Life::Container(Arc::clone(&service)),
            _ => Life::Supervised(Arc::clone(&service), Some(Arc::new(wanted.supervisor))),
        };
        let root = wanted.root;
        self.make_one(record, life, again, |record| match &root {
            Some(root) => self.attach(&below(root, record), &service),
            None => self.attach(record, &service),
        })
    }

    /// Makes the instance of a record, and shows it by `attach`; all of it or nothing.
    pub(super) fn make_one(
        &self,
        record: InstanceRecord,
        life: Life,
        again: bool,
        attach: impl FnOnce(&InstanceRecord) -> Result<(), String>,
    ) -> Reply {
        let number = record.number;
        let one = Live {
            record: record.clone(),
            life,
        };
        // From here on a take-over tells of it, and a change finds it.
        lock(&self.instances.live).insert(number, one);
        let reply = self.make_views(&record, again, attach);
        match reply {
            Reply::Made { .. } => self.watch.look_again(),
            _ if self.end(number) => {}
            // It has ended meanwhile, perhaps before secretsd had made it.
            _ => drop(self.daemon.tell(&FromInjector::End { number })),
        }
        reply
    }

    fn make_views(
        &self,
        record: &InstanceRecord,
        again: bool,
        attach: impl FnOnce(&InstanceRecord) -> Result<(), String>,
    ) -> Reply {
        let number = record.number;
        // secretsd first: it says whether the service may have what it asks for.
        let question = FromInjector::Make {
            instance: record.clone(),
            again,
        };
        let made = match self.daemon.ask(&question) {
            Ok(Reply::Made { entries, .. }) => entries,
            Ok(refused) => return refused,
            Err(error) => return failed(&error.to_string()),
        };
        let done = self
            .instances
            .entries(number, made.clone())
            .map_err(|error| format!("cannot write the registry: {error}"))
            .and_then(|()| attach(record))
            .and_then(|()| self.tell_changes(record));
        match done {
            Ok(()) => Reply::Made {
                number,
                entries: made,
            },
            Err(message) => failed(&message),
        }
    }

    fn draft(&self, wanted: &Wanted) -> io::Result<InstanceRecord> {
        let pid = process::pid_of(wanted.service.as_fd())?;
        let unit = match unit::of(pid)? {
            None if wanted.container.is_none() => unit::of_supervisor(wanted.supervisor.as_fd())?,
            unit => unit,
        };
        let record = InstanceRecord {
            format: FORMAT,
            number: self.instances.next_number()?,
            service: wanted.manifest.service.clone(),
            uid: wanted.uid,
            gid: wanted.gid,
            pid,
            start_time: process::stat(pid)?.start_time,
            mount_ns: process::mount_namespace(pid)?,
            cgroup: wanted.cgroup.clone(),
            unit,
            image: wanted.image.clone(),
            origin: match &wanted.container {
                Some(id) => Origin::Container { id: id.clone() },
                None => Origin::Supervisor,
            },
            targets: wanted.manifest.targets.clone(),
            manifest_path: wanted.manifest_path.clone(),
            manifest: wanted.manifest.clone(),
            entries: Vec::new(),
            reloads: 0,
        };
        // A pinned grant believes the number: who is somebody already does not become another one.
        let uid = process::uid(pid)?;
        if uid != 0 && uid != record.uid && wanted.container.is_none() {
            let words = format!("it runs as uid {uid} and is to be uid {}", record.uid);
            return Err(io::Error::other(words));
        }
        // What was read is of this process only if it has not ended before.
        if process::has_ended(&wanted.service) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(record)
    }

    /// Ends an instance: what is mounted goes, secretsd forgets it, and the folders that were made
    /// for it go with their last user. False: it is none any more.
    pub(super) fn end(&self, number: u32) -> bool {
        let Some(one) = lock(&self.instances.live).remove(&number) else {
            return false;
        };
        // Before folders are looked at: a child of the service that still lives has the views mounted.
        if let Life::Supervised(_, supervisor) = &one.life
            && supervisor.as_ref().is_none_or(process::has_ended)
        {
            remove_cgroup(&one.record);
        }
        self.finish(&one.record);
        log::info!("instance {number} of {} ended", one.record.service);
        true
    }

    /// The same for a record whose process is gone.
    pub(super) fn finish(&self, record: &InstanceRecord) {
        let number = record.number;
        if let Err(error) = clean::take_out(record) {
            log::warn!("instance {number}: its views stay attached: {error}");
        }
        if let Err(error) = crate::changes::remove(&self.run_dir, number) {
            log::warn!("instance {number}: its file of changes stays: {error}");
        }
        if self.daemon.tell(&FromInjector::End { number }) {
            self.instances.forget(number);
        } else {
            // In the registry until the next secretsd has been told, for our successor.
            lock(&self.ended).push(record.clone());
        }
        // What systemd has made is not ours to remove, and a container's folders go with it.
        if record.origin != Origin::Supervisor {
            return;
        }
        // Whether a folder is in use shows in the mount tables of all namespaces there are: not worth
        // reading for each of many, while another instance is known to have its views there.
        let live = lock(&self.instances.live);
        let others = || live.values().flat_map(|one| clean::targets(&one.record));
        let unused = clean::targets(record).into_iter();
        let unused: Vec<&Path> = unused
            .filter(|one| !others().any(|other| other == *one))
            .collect();
        drop(live);
        folders::sweep(unused);
    }

    /// A service whose supervisor was killed ends with it, its children too.
    pub(super) fn kill(&self, number: u32) {
        let service = {
            let live = lock(&self.instances.live);
            live.get(&number).and_then(|one| match &one.life {
                Life::Supervised(service, _) => Some((Arc::clone(service), one.record.clone())),
                Life::Container(_) | Life::Unit(_) => None,
            })
        };
        if let Some((service, record)) = service {
            let kill = rustix::process::Signal::KILL;
            let _ = rustix::process::pidfd_send_signal(&service, kill);
            remove_cgroup(&record);
        }
    }
}

/// What the supervisor would do, had it not been killed.
pub(super) fn remove_cgroup(record: &InstanceRecord) {
    if let Some(path) = &record.cgroup {
        match sys::cgroup::Cgroup::open(path) {
            Ok(cgroup) => {
                if let Err(error) = cgroup.kill().and_then(|()| cgroup.remove()) {
                    log::warn!("cgroup {path} stays: {error}");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::warn!("cgroup {path} stays: {error}"),
        }
    }
}
pub(super) fn failed(message: &str) -> Reply {
    Reply::Failed {
        message: message.to_owned(),
    }
}
