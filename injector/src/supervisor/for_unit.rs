//! `deploy-inject on-change UNIT`: what the manifest of a systemd unit says under `on_change`, as a
//! supervisor does it, but that systemd signals and restarts the unit. deploy-on-change@UNIT.service
//! runs it as long as the unit runs; systemd may end it at any time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use control::inner::{InstanceRecord, Outcome, Reply, ToInjector};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open};
use sys::cgroup::Cgroup;

use super::instance::{account, ask};
use super::life::Beside;
use super::on_change::{OnChange, Wanted};
use super::report::Reports;
use super::{ENDING, RunOptions, environment};
use crate::run_dir::RunDir;
use crate::signals::Signals;
use crate::unit::systemctl::systemctl;
use crate::unit::{self, UnitCgroup};

/// Between two looks for an instance.
const PAUSE: Duration = Duration::from_millis(100);

/// Why nobody acts on a unit's changes.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The injector or the account.
    #[error("{0}")]
    Start(String),
    /// What the kernel says.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Follows the changes of a unit's instance, until it is told to end. Returns if the unit has
/// no main process, or its manifest nothing to do about changes.
///
/// # Errors
/// No injector, no such user, or as inotify(7) and poll(2).
pub fn follow_unit(run_dir: &Path, name: &str) -> Result<(), FollowError> {
    let mut signals = Signals::take_over(&[&ENDING[..], &[libc::SIGCHLD]].concat())?;
    let run_folder = RunDir::new(run_dir);
    let record = loop {
        // Of Type=simple a unit is active before it has looked for its view; and the instance of its
        // last life may be there still.
        let Some((_, cgroup)) = main_process(name) else {
            return Ok(());
        };
        if let Some(record) = instance_of(&run_folder, &cgroup)? {
            break record;
        }
        if signals.came().iter().any(|signal| ENDING.contains(signal)) {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    };
    let Some(act) = record.manifest.on_change.clone() else {
        return Ok(());
    };
    let mut on_change = OnChange::begin(&run_folder, record.number, act)?;
    let user = format!("{}:{}", record.uid, record.gid);
    let account = account(&user).map_err(|error| FollowError::Start(error.to_string()))?;
    let cgroup = record.cgroup.as_deref().map(Cgroup::open).transpose()?;
    let variables = environment::variables(&record.manifest, &account);
    let options = RunOptions {
        run_dir: run_dir.to_owned(),
        manifest: record.manifest.clone(),
        manifest_path: record.manifest_path.clone(),
        command: None,
        detach: false,
        log: None,
    };
    let reports = Reports::default();
    loop {
        let came = signals.came();
        if came.iter().any(|signal| ENDING.contains(signal)) {
            break;
        }
        let ended = ended()?;
        // The main process may be another one by now.
        let Some(service) = process_of(name, &record) else {
            break;
        };
        let beside = Beside {
            options: &options,
            reports: &reports,
            number: record.number,
            service: service.as_fd(),
            cgroup: cgroup.as_ref(),
            account: &account,
            variables: &variables,
        };
        let wanted: Vec<_> = ended
            .into_iter()
            .filter_map(|(pid, status)| on_change.ended(pid, status, &beside))
            .collect();
        for wanted in wanted {
            match act_by_systemd(name, wanted) {
                Ok(()) => on_change.ends(&beside, Outcome::Done, ""),
                Err(why) => on_change.ends(&beside, Outcome::Failed, &why),
            }
        }
        on_change.turn(&beside);
        let left = on_change
            .due()
            .map(|due| due.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [
            PollFd::new(&signals, PollFlags::IN),
            PollFd::new(&on_change, PollFlags::IN),
        ];
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    }
    reports.end();
    Ok(())
}

/// The instance of a cgroup, once it is whole.
fn instance_of(
    run_dir: &RunDir,
    cgroup: &UnitCgroup,
) -> Result<Option<InstanceRecord>, FollowError> {
    match ask(run_dir, &ToInjector::Instances, &[]) {
        Ok(Reply::Instances { instances }) => Ok(instances.into_iter().find(|one| {
            let number = one.number.to_string();
            one.origin == cgroup.origin()
                && (one.manifest.on_change.is_none() || run_dir.changes().join(number).exists())
        })),
        Ok(_) => Err(FollowError::Start(
            "the injector answers something else".into(),
        )),
        Err(error) => Err(FollowError::Start(error.to_string())),
    }
}

/// The main process, and its unit's cgroup.
fn main_process(name: &str) -> Option<(OwnedFd, UnitCgroup)> {
    let text = systemctl(&["show", "--property", "MainPID", "--value", "--", name]).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let (unit, cgroup) = unit::look(pid.as_raw_nonzero().get()).ok()??;
    // What was read is of this process only if it has not ended before.
    let is_its = unit == name && !crate::process::has_ended(&pidfd);
    is_its.then_some((pidfd, cgroup))
}

/// The main process; of a unit that has none just now the first one of it that there is.
fn process_of(name: &str, record: &InstanceRecord) -> Option<OwnedFd> {
    let main = main_process(name);
    let main = main.filter(|(_, cgroup)| record.origin == cgroup.origin());
    main.map(|(pidfd, _)| pidfd).or_else(|| {
        let first = UnitCgroup::of(record)?
            .namespaces(record)
            .into_iter()
            .next()?;
        Some(first.1)
    })
}

fn act_by_systemd(name: &str, wanted: Wanted) -> Result<(), String> {
    let said = match wanted {
        Wanted::Signal(signal) => {
            let signal = signal.to_string();
            systemctl(&["kill", "--kill-whom=main", "--signal", &signal, "--", name])
        }
        // It ends us, too: not waited for.
        Wanted::Restart => systemctl(&["--no-block", "restart", "--", name]),
    };
    said.map(drop).map_err(|error| error.to_string())
}

/// Our own processes that have ended.
fn ended() -> io::Result<Vec<(i32, WaitStatus)>> {
    let mut all = Vec::new();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => all.push((pid.as_raw_nonzero().get(), status)),
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(all),
            Err(errno) => return Err(errno.into()),
        }
    }
}
