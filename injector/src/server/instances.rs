//! The instances: made for a supervisor, attached, and ended.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use control::inner::{FromInjector, InstanceRecord, Origin, Reply};
use model::Manifest;
use sys::apart::Apart;
use sys::lock::lock;

use super::connections::Connections;
use super::parts::{Part, parts};
use super::{Injector, touch};
use crate::apply::{Namespace, apply};
use crate::mounts::Mounts;
use crate::plan::{Survey, Target, Tree, plan};
use crate::registry::{FORMAT, Registry};
use crate::run_dir::RunDir;
use crate::{clean, folders, process, unit};

/// Attaching takes a millisecond; what takes this long is stuck, and not waited for.
const STUCK: Duration = Duration::from_millis(100);
/// How long a start waits for a lost connection.
const WHOLE_PATIENCE: Duration = Duration::from_secs(10);

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

/// An instance of which this injector knows.
#[derive(Debug)]
pub(super) struct Live {
    pub record: InstanceRecord,
    pub life: Life,
}

/// What an instance lives as long as.
#[derive(Clone, Debug)]
pub(super) enum Life {
    /// The service's first process, and its supervisor, which ends the instance itself; `None`: that
    /// was killed.
    Supervised(Arc<OwnedFd>, Option<Arc<OwnedFd>>),
    /// A container's first process.
    Container(Arc<OwnedFd>),
    /// A unit's cgroup.
    Unit,
}

impl Life {
    /// Of one of which the registry tells; `None`: it has ended.
    fn of(record: &InstanceRecord) -> Option<Life> {
        let process = || clean::live_process(record).map(Arc::new);
        match record.origin {
            Origin::Unit { .. } => unit::lives(record).then_some(Life::Unit),
            Origin::Container { .. } => process().map(Life::Container),
            Origin::Supervisor => process().map(|process| {
                let supervisor = supervisor_of(record.pid).map(Arc::new);
                Life::Supervised(process, supervisor)
            }),
        }
    }

    /// The service's first process, and its supervisor.
    pub fn processes(&self) -> [Option<&Arc<OwnedFd>>; 2] {
        match self {
            Life::Supervised(service, supervisor) => [Some(service), supervisor.as_ref()],
            Life::Container(service) => [Some(service), None],
            Life::Unit => [None, None],
        }
    }
}

impl Live {
    /// Where its views are: a process of each mount namespace that has them.
    fn namespaces(&self) -> Vec<(InstanceRecord, Arc<OwnedFd>)> {
        match &self.life {
            Life::Supervised(process, _) | Life::Container(process) => {
                vec![(self.record.clone(), Arc::clone(process))]
            }
            Life::Unit => {
                let found = unit::namespaces(&self.record).into_iter();
                found
                    .map(|(record, process)| (record, Arc::new(process)))
                    .collect()
            }
        }
    }
}

/// All of them, and the registry that outlives us.
#[derive(Debug)]
pub(super) struct Instances {
    registry: Mutex<Registry>,
    live: Mutex<BTreeMap<u32, Live>>,
    /// Held by whoever reloads: what it may have to take back is what it has found.
    pub(super) reloading: Mutex<()>,
}

impl Instances {
    /// Reads the registry. Gives the records of those that ended while nobody looked, too.
    pub fn open(run_dir: &RunDir) -> io::Result<(Instances, Vec<InstanceRecord>)> {
        let (registry, records) = Registry::open(run_dir)?;
        let mut live = BTreeMap::new();
        let mut ended = Vec::new();
        for record in records {
            match Life::of(&record) {
                Some(life) => drop(live.insert(record.number, Live { record, life })),
                None => ended.push(record),
            }
        }
        let instances = Instances {
            registry: Mutex::new(registry),
            live: Mutex::new(live),
            reloading: Mutex::default(),
        };
        Ok((instances, ended))
    }

    /// All records.
    pub fn records(&self) -> Vec<InstanceRecord> {
        let live = lock(&self.live);
        live.values().map(|one| one.record.clone()).collect()
    }

    /// A number that no other instance has.
    pub fn next_number(&self) -> io::Result<u32> {
        lock(&self.registry).next_number()
    }

    /// The numbers of all.
    pub fn numbers(&self) -> Vec<u32> {
        lock(&self.live).keys().copied().collect()
    }

    /// The records of those of `numbers` that have not ended.
    pub fn records_of(&self, numbers: &[u32]) -> Vec<InstanceRecord> {
        let live = lock(&self.live);
        let there = numbers.iter().filter_map(|number| live.get(number));
        there.map(|one| one.record.clone()).collect()
    }

    /// secretsd knows that it has ended.
    pub fn forget(&self, number: u32) {
        if let Err(error) = lock(&self.registry).remove(number) {
            log::error!("instance {number} stays in the registry: {error}");
        }
    }

    /// What `look` finds worth doing, over all instances; the lock is held meanwhile.
    pub fn look<T>(&self, mut look: impl FnMut(&Live) -> Option<T>) -> Vec<T> {
        lock(&self.live).values().filter_map(&mut look).collect()
    }

    /// Keeps what secretsd says of an instance's entries, in the registry too.
    pub fn entries(&self, number: u32, entries: Vec<control::inner::Entry>) -> io::Result<()> {
        let mut live = lock(&self.live);
        let one = live.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        one.record.entries = entries;
        lock(&self.registry).put(&one.record)
    }

    /// Changes the record of a live instance, in the registry too, and gives it as it was and as it
    /// is; `None` if the instance has ended.
    pub(super) fn change(
        &self,
        number: u32,
        change: impl FnOnce(&mut InstanceRecord),
    ) -> io::Result<Option<(InstanceRecord, InstanceRecord)>> {
        let mut live = lock(&self.live);
        let Some(one) = live.get_mut(&number) else {
            return Ok(None);
        };
        let before = one.record.clone();
        change(&mut one.record);
        let written = lock(&self.registry).put(&one.record);
        if let Err(error) = written {
            one.record = before;
            return Err(error);
        }
        Ok(Some((before, one.record.clone())))
    }
}

/// Whoever started the service; `None` if it is gone already.
fn supervisor_of(pid: i32) -> Option<OwnedFd> {
    let parent = process::stat(pid).ok()?.parent;
    let parent = rustix::process::Pid::from_raw(parent)?;
    rustix::process::pidfd_open(parent, rustix::process::PidfdFlags::empty()).ok()
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

    /// Attaches an instance's views in its namespace.
    fn attach(&self, record: &InstanceRecord, service: &OwnedFd) -> Result<(), String> {
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
                Life::Container(_) | Life::Unit => None,
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

/// A record whose targets are below `root`.
fn below(root: &Path, record: &InstanceRecord) -> InstanceRecord {
    let mut record = record.clone();
    for target in [&mut record.targets.secret, &mut record.targets.config] {
        *target = root.join(target.strip_prefix("/").unwrap_or(target));
    }
    record
}

pub(super) fn failed(message: &str) -> Reply {
    Reply::Failed {
        message: message.to_owned(),
    }
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
