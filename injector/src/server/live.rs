//! The instances that there are, and what each of them lives as long as.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use control::inner::{InstanceRecord, Origin, RingTarget};
use sys::lock::lock;

use crate::registry::Registry;
use crate::run_dir::RunDir;
use crate::unit::UnitCgroup;
use crate::{clean, process};

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
    Unit(Arc<UnitCgroup>),
}

impl Life {
    /// Of one of which the registry tells; `None`: it has ended.
    fn of(record: &InstanceRecord) -> Option<Life> {
        let process = || clean::live_process(record).map(Arc::new);
        match record.origin {
            Origin::Unit { .. } => {
                let cgroup = UnitCgroup::of(record).map(Arc::new);
                cgroup.map(Life::Unit)
            }
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
            Life::Unit(_) => [None, None],
        }
    }
}

impl Live {
    /// Where its views are: a process of each mount namespace that has them.
    pub fn namespaces(&self) -> Vec<(InstanceRecord, Arc<OwnedFd>)> {
        match &self.life {
            Life::Supervised(process, _) | Life::Container(process) => {
                vec![(self.record.clone(), Arc::clone(process))]
            }
            Life::Unit(cgroup) => {
                let found = cgroup.namespaces(&self.record).into_iter();
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
    pub(super) registry: Mutex<Registry>,
    pub(super) live: Mutex<BTreeMap<u32, Live>>,
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

    /// Leaves out what is of no instance that there is: whoever has ended watches nothing.
    pub fn retain_targets(&self, targets: &mut Vec<RingTarget>) {
        let live = lock(&self.live);
        let is_there = |number: u32| live.contains_key(&number);
        targets.retain(|one| one.instance().is_none_or(is_there));
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
