//! Instances of systemd units: which one a unit's process gets that looks for its view. The injector
//! says it, and makes them, as it does all others.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use control::inner::{RefusedKind, Reply, ToInjector};
use fuse_fs::{NoInstance, Units};

use super::Host;

/// How long a unit waits for an injector that is being started again.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Asks the injector of a host.
struct UnitsOfHost(Weak<Host>);

impl Host {
    /// Units get instances from now on.
    pub(super) fn serve_units(self: &Arc<Host>) {
        let units = UnitsOfHost(Arc::downgrade(self));
        self.views.make_units_by(Arc::new(units));
    }
}

impl Units for UnitsOfHost {
    fn instance_of(&self, unit: &str, tid: u32) -> Result<u32, NoInstance> {
        let question = ToInjector::Unit {
            unit: unit.to_owned(),
            pid: tid,
        };
        let start = Instant::now();
        loop {
            let host = self.0.upgrade().ok_or(NoInstance::Failed)?;
            // Who goes away before the answer is followed by one that is asked anew, and finds what
            // was made.
            let asked = host
                .injector
                .link()
                .map(|link| link.request(&question, &[]));
            drop(host);
            match asked {
                Some(Ok((reply, _))) => return instance(unit, reply),
                _ if start.elapsed() > PATIENCE => {
                    log::error!("{unit} gets no view: no injector");
                    return Err(NoInstance::Failed);
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    }
}

fn instance(unit: &str, reply: Reply) -> Result<u32, NoInstance> {
    match reply {
        Reply::Made { number, .. } => Ok(number),
        Reply::Refused { kind, message, .. } => {
            log::info!("{unit} gets no view: {message}");
            Err(match kind {
                RefusedKind::Missing => NoInstance::Denied,
                RefusedKind::Sealed => NoInstance::Sealed,
                RefusedKind::Config | RefusedKind::Conflict => NoInstance::Unknown,
            })
        }
        Reply::Failed { message } => {
            log::error!("{unit} gets no view: {message}");
            Err(NoInstance::Failed)
        }
        _ => Err(NoInstance::Failed),
    }
}
