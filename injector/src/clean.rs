//! Takes a run folder's views and mounts away: what the keeper runs before it starts anything, and
//! after it stopped everything; under systemd, a unit's `ExecStopPost=`.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use control::inner::{InstanceRecord, Link, Origin, Reply, ToInjector};

use crate::apply::{Hands, Namespace};
use crate::mounts::{Mount, Mounts};
use crate::plan::Step;
use crate::registry::Registry;
use crate::run_dir::RunDir;
use crate::unit::UnitCgroup;
use crate::{folders, process};

/// A mount may lie over another one that a killed predecessor left; more than this is no accident.
const LAYERS: usize = 64;

/// Takes the views out of the services that run (`keep_instances` leaves them), detaches the master
/// mounts, and removes the folders of both. A service that runs keeps its place in the registry: it
/// gets its views back from the next injector. Goes on after a failure, and logs it: there is nobody
/// who could do better.
///
/// # Errors
/// The registry cannot be read.
pub fn clean(run_dir: &Path, keep_instances: bool) -> io::Result<()> {
    let run_dir = RunDir::new(run_dir);
    if !keep_instances && run_dir.instances().exists() {
        let (registry, records) = Registry::open(&run_dir)?;
        for record in &records {
            if !lives(record) {
                let path = run_dir.instances().join(record.number.to_string());
                remove(&path, registry.remove(record.number));
                remove(&path, crate::changes::remove(&run_dir, record.number));
            }
            if let Err(error) = take_out(record) {
                log::warn!("instance {} of {}: {error}", record.number, record.service);
            }
        }
        folders::sweep(records.iter().flat_map(targets));
    }
    detach_masters(run_dir.path())?;
    if !keep_instances {
        let folders = [
            run_dir.views().join("secret"),
            run_dir.views().join("config"),
            run_dir.views(),
            run_dir.operator_tree(),
        ];
        for folder in folders {
            remove(&folder, std::fs::remove_dir(&folder));
        }
        // With what a killed predecessor has half written; not while an instance is there.
        if records_left(&run_dir.instances()) == 0 {
            for folder in [run_dir.instances(), run_dir.changes()] {
                remove(&folder, std::fs::remove_dir_all(&folder));
            }
            let last = run_dir.last_instance();
            remove(&last, std::fs::remove_file(&last));
        }
    }
    Ok(())
}

/// Has secretsd end all views: what services hold open of them gives errors from here on, and no
/// cached byte outlives the connections. Before everything is stopped for good, and not before a
/// restart.
///
/// # Errors
/// The injector does not answer, or says why it was not done.
pub fn forget(run_dir: &Path) -> io::Result<()> {
    let link = Link::connect(&RunDir::new(run_dir).inject_socket())?;
    match link.request(&ToInjector::Stopping, &[]) {
        Ok((Reply::Ok, _)) => Ok(()),
        Ok((Reply::Failed { message }, _)) => Err(io::Error::other(message)),
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Where an instance's views are.
pub(crate) fn targets(record: &InstanceRecord) -> Vec<&Path> {
    let both = [&record.targets.secret, &record.targets.config];
    let placed = record.manifest.secrets.iter();
    let placed = placed.filter_map(|secret| secret.target.as_deref());
    both.into_iter()
        .map(PathBuf::as_path)
        .chain(placed)
        .collect()
}

fn records_left(instances: &Path) -> usize {
    let entries = std::fs::read_dir(instances).into_iter().flatten().flatten();
    let is_record = |name: &OsString| name.to_str().is_some_and(|n| n.parse::<u32>().is_ok());
    entries
        .filter(|entry| is_record(&entry.file_name()))
        .count()
}

/// The process of a record, if it still lives, in the namespace that the record says.
pub(crate) fn live_process(record: &InstanceRecord) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(record.pid)?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    // With the pidfd held, what /proc says is of this very process, or of none.
    let stat = process::stat(record.pid).ok()?;
    let same = stat.start_time == record.start_time
        && process::mount_namespace(record.pid).is_ok_and(|inode| inode == record.mount_ns);
    (same && !process::has_ended(&pidfd)).then_some(pidfd)
}

/// Has it not ended?
pub(crate) fn lives(record: &InstanceRecord) -> bool {
    match record.origin {
        Origin::Unit { .. } => UnitCgroup::of(record).is_some(),
        Origin::Supervisor | Origin::Container { .. } => live_process(record).is_some(),
    }
}

/// Detaches an instance's views in its namespace, if there is one any more. What systemd has mounted
/// goes with the unit's processes.
pub(crate) fn take_out(record: &InstanceRecord) -> io::Result<()> {
    if let Origin::Unit { .. } = record.origin {
        return Ok(());
    }
    let Some(pidfd) = live_process(record) else {
        return Ok(());
    };
    let mounts = Mounts::of(record.pid)?;
    let points: Vec<PathBuf> = targets(record)
        .into_iter()
        .filter(|target| mounts.exactly_at(target).is_some_and(|m| m.is_ours()))
        .map(Path::to_owned)
        .collect();
    sys::namespace::inside(pidfd.as_fd(), move || {
        let mut namespace = Namespace::enter_to_detach()?;
        points
            .into_iter()
            .try_for_each(|point| namespace.forward(&Step::TakeOut { point }))
    })
}

/// Detaches every mount of ours at or below `folder`, also what a killed predecessor left there.
pub(crate) fn detach_masters(folder: &Path) -> io::Result<()> {
    // Detaching changes the working folder, hence a thread that shares its own with nobody.
    let own = rustix::process::pidfd_open(
        rustix::process::getpid(),
        rustix::process::PidfdFlags::empty(),
    )?;
    sys::namespace::inside(own.as_fd(), || detach_below(folder))
}

fn detach_below(folder: &Path) -> io::Result<()> {
    let mut here = Namespace::enter_to_detach()?;
    for _ in 0..LAYERS {
        let mounts = Mounts::here()?;
        let is_ours = |m: &&Mount| m.is_ours() && m.point.starts_with(folder);
        let Some(top) = mounts.iter().rev().find(is_ours) else {
            return Ok(());
        };
        let point = top.point.clone();
        here.forward(&Step::TakeOut { point })?;
    }
    Err(io::Error::other(
        "mounts keep coming back below the run folder",
    ))
}

fn remove(path: &Path, result: io::Result<()>) {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("{} stays: {error}", path.display());
        }
        _ => {}
    }
}
