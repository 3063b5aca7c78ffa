//! Instances of systemd units. systemd binds `RUN_DIR/views/secret/UNIT` into a unit's namespace, by
//! our drop-in; the look-up of that name, as root and in the unit's cgroup, comes here by way of
//! secretsd, and the first one makes the instance.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::inner::{InstanceRecord, RefusedKind, Reply};
use model::Manifest;
use sys::lock::lock;

use super::Injector;
use super::instances::failed;
use super::live::Life;
use crate::explain::explain;
use crate::registry::FORMAT;
use crate::unit::{self, UnitCgroup, drop_in};
use crate::{journal, owners, process};

/// Between two attempts for a manifest that waits.
const PAUSE: Duration = Duration::from_millis(250);
/// Where systemd says which number a dynamic user has.
const DYNAMIC: &str = "/run/systemd/dynamic-uid";

/// A start that cannot be.
struct Wrong(String);

/// What came of one attempt.
struct Attempt {
    reply: Reply,
    service: String,
    /// How long the manifest waits for what is missing.
    patience: Duration,
}

impl Attempt {
    fn without_manifest(reply: Reply) -> Attempt {
        Attempt {
            reply,
            service: String::new(),
            patience: Duration::ZERO,
        }
    }
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Wrong {
        Wrong(error.to_string())
    }
}

impl From<drop_in::DropInError> for Wrong {
    fn from(error: drop_in::DropInError) -> Wrong {
        Wrong(error.to_string())
    }
}

impl Injector {
    /// The instance of the unit in which `pid` is: who looks is not believed, but the kernel, which
    /// says in which cgroup it is. It waits for our answer, and so is still there.
    pub(super) fn unit(&self, name: &str, pid: u32) -> Reply {
        let in_unit = i32::try_from(pid)
            .map_err(io::Error::other)
            .and_then(|pid| Ok((pid, unit::look(pid)?)));
        let (pid, cgroup) = match in_unit {
            Ok((pid, Some((unit, cgroup)))) if unit == name => (pid, Arc::new(cgroup)),
            Ok(_) => {
                return refused(format!(
                    "process {pid} looks for the view of {name}, and is not in it"
                ));
            }
            Err(error) => return failed(&format!("process {pid} of {name}: {error}")),
        };
        let start = Instant::now();
        // The same refusal is in the audit log once.
        let mut again = false;
        loop {
            let Attempt {
                reply,
                service,
                patience,
            } = self.unit_once(name, &cgroup, pid, again);
            again = true;
            let may_change = matches!(
                &reply,
                Reply::Refused {
                    kind: RefusedKind::Missing | RefusedKind::Sealed,
                    ..
                }
            );
            if !may_change || start.elapsed() >= patience {
                if let Some(words) = explain_reply(&service, &reply) {
                    log::warn!("{name}: {words}");
                    // Before systemd hears of it: then it is of this unit for journald, too.
                    journal::tell(pid, &words);
                }
                return reply;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn unit_once(&self, name: &str, cgroup: &Arc<UnitCgroup>, pid: i32, again: bool) -> Attempt {
        let _one = lock(&self.units);
        let is_this = |record: &InstanceRecord| {
            record.origin == cgroup.origin() && record.cgroup.as_deref() == Some(cgroup.path())
        };
        let found = self
            .instances
            .look(|one| is_this(&one.record).then_some(one.record.number));
        if let Some(number) = found.first() {
            return Attempt::without_manifest(Reply::Made {
                number: *number,
                entries: Vec::new(),
            });
        }
        match self.draft_unit(name, cgroup, pid) {
            Ok(record) => {
                let service = record.service.to_string();
                let patience = record.manifest.wait.unwrap_or(0);
                let patience = Duration::from_secs(patience.into());
                Attempt {
                    // systemd attaches it.
                    reply: self.make_one(record, Life::Unit(Arc::clone(cgroup)), again, |_| Ok(())),
                    service,
                    patience,
                }
            }
            Err(Wrong(why)) => {
                let why = format!("{name} was not started: {why}");
                Attempt::without_manifest(refused(why))
            }
        }
    }

    fn draft_unit(
        &self,
        name: &str,
        cgroup: &UnitCgroup,
        pid: i32,
    ) -> Result<InstanceRecord, Wrong> {
        let (_, found) = drop_in::find(Path::new(drop_in::SYSTEM), name)?;
        let mut manifest = drop_in::manifest(&found.manifest)?;
        if manifest.targets != found.targets {
            return Err(Wrong(format!(
                "{} has other targets than its drop-in; deploy unit enable {} --manifest {}",
                found.manifest.display(),
                name,
                found.manifest.display()
            )));
        }
        if manifest.on_change.is_some() && !found.on_change {
            let words = format!(
                "nothing is done on_change: it came into {0} later; deploy unit enable {1} --manifest {0}",
                found.manifest.display(),
                name
            );
            log::warn!("{}: {words}", name);
            journal::tell(pid, &words);
        }
        let (uid, gid) = user(&manifest, found.user.as_ref())?;
        owners::by_number(&mut manifest, account)?;
        Ok(InstanceRecord {
            format: FORMAT,
            number: self.instances.next_number()?,
            service: manifest.service.clone(),
            uid,
            gid,
            pid,
            start_time: process::stat(pid)?.start_time,
            mount_ns: process::mount_namespace(pid)?,
            cgroup: Some(cgroup.path().to_owned()),
            unit: Some(name.to_owned()),
            image: None,
            origin: cgroup.origin(),
            targets: manifest.targets.clone(),
            manifest_path: found.manifest,
            manifest,
            entries: Vec::new(),
            reloads: 0,
        })
    }
}

/// Whose the files are: of whom the manifest names, or of the unit's user.
fn user(manifest: &Manifest, of_unit: Option<&drop_in::User>) -> Result<(u32, u32), Wrong> {
    let name = match (&manifest.user, of_unit) {
        (Some(name), _) | (None, Some(drop_in::User::Static(name))) => name,
        (None, Some(drop_in::User::Dynamic(name))) => {
            let link = std::fs::read_link(Path::new(DYNAMIC).join(format!("direct:{name}")))?;
            let uid = link.to_str().and_then(|text| text.parse().ok());
            let uid = uid.ok_or_else(|| Wrong(format!("systemd has no number for user {name}")))?;
            return Ok((uid, uid));
        }
        (None, None) => return Ok((0, 0)),
    };
    account(name)
}

fn account(name: &str) -> Result<(u32, u32), Wrong> {
    let account = sys::users::account(name)?;
    let account = account.ok_or_else(|| Wrong(format!("there is no user {name}")))?;
    Ok((account.uid, account.gid))
}

fn refused(message: String) -> Reply {
    Reply::Refused {
        kind: RefusedKind::Config,
        missing: Vec::new(),
        message,
        hint: None,
    }
}

/// Why there is no instance, in one line.
fn explain_reply(service: &str, reply: &Reply) -> Option<String> {
    let words = match reply {
        Reply::Refused {
            message,
            hint,
            missing,
            ..
        } => explain(service, message, hint.as_deref(), missing),
        Reply::Failed { message } => message.clone(),
        _ => return None,
    };
    Some(words.lines().map(str::trim).collect::<Vec<_>>().join("; "))
}
