//! What happens without anybody asking: versions that nobody has open any more go, and grants whose
//! time is over are taken out of the views.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{SecretName, ServiceName, Timestamp};
use store::GrantMeta;
use sys::lock::lock;

use crate::host::{Host, ourselves};

/// At least so often, as closes of files wake nobody.
const ROUND: Duration = Duration::from_secs(60);

/// Wakes the thread.
#[derive(Debug, Default)]
pub(crate) struct Housekeeping {
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Housekeeping {
    /// Something may have become free, or there is another grant that ends.
    pub fn wake(&self) {
        *lock(&self.woken) = true;
        self.wake.notify_one();
    }

    fn wait(&self, limit: Duration) {
        let woken = lock(&self.woken);
        let waited = self.wake.wait_timeout_while(woken, limit, |woken| !*woken);
        match waited {
            Ok((mut woken, _)) => *woken = false,
            Err(poisoned) => *poisoned.into_inner().0 = false,
        }
    }
}

/// Keeps house from a thread of its own until the process ends.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(host: &Arc<Host>) -> io::Result<()> {
    let host = Arc::clone(host);
    std::thread::Builder::new()
        .name("housekeeping".into())
        .spawn(move || {
            let mut last = Timestamp(0);
            loop {
                let now = now();
                let grants = ourselves().and_then(|us| host.store.grants(&us, None).ok());
                let (over, next) = ends(grants.unwrap_or_default(), last, now);
                for (service, names) in over {
                    host.expired(&service, &names);
                }
                last = now;
                match host.sweep() {
                    Ok(0) | Err(store::WriteError::Sealed) => {}
                    Ok(count) => log::info!("{count} old versions are gone"),
                    Err(error) => log::warn!("old versions stay: {error}"),
                }
                let limit =
                    next.map_or(ROUND, |next| Duration::from_secs(next.0 - now.0).min(ROUND));
                host.housekeeping.wait(limit);
            }
        })?;
    Ok(())
}

fn now() -> Timestamp {
    Timestamp(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    )
}

/// Secrets whose grant ended after `last` and not later than `now`, by service; and when the next
/// one ends.
fn ends(
    grants: Vec<GrantMeta>,
    last: Timestamp,
    now: Timestamp,
) -> (BTreeMap<ServiceName, Vec<SecretName>>, Option<Timestamp>) {
    let mut over: BTreeMap<ServiceName, Vec<SecretName>> = BTreeMap::new();
    let mut next = None;
    for GrantMeta { service, grant } in grants {
        match grant.until {
            Some(until) if until.0 > now.0 => {
                let sooner = next.is_none_or(|next: Timestamp| until.0 < next.0);
                next = if sooner { Some(until) } else { next };
            }
            Some(until) if until.0 > last.0 => over.entry(service).or_default().push(grant.secret),
            _ => {}
        }
    }
    (over, next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::{Grant, Pins};

    fn grant(secret: &str, until: Option<u64>) -> GrantMeta {
        let until = until.map(Timestamp);
        let grant = Grant {
            secret: secret.parse().unwrap(),
            until,
            pins: Pins::default(),
        };
        GrantMeta {
            service: "web".parse().unwrap(),
            grant,
        }
    }

    #[test]
    fn a_grant_ends_once_at_its_second_and_the_next_one_is_waited_for() {
        let grants = vec![
            grant("for-ever", None),
            grant("long-over", Some(50)),
            grant("just-now", Some(100)),
            grant("soon", Some(120)),
            grant("later", Some(900)),
        ];
        let (over, next) = ends(grants, Timestamp(50), Timestamp(100));
        let names: Vec<_> = over
            .into_values()
            .flatten()
            .map(|name| name.to_string())
            .collect();
        assert_eq!(names, ["just-now"]);
        assert_eq!(next, Some(Timestamp(120)));
    }

    #[test]
    fn after_a_restart_all_that_ended_meanwhile_is_taken_out() {
        let grants = vec![grant("a", Some(50)), grant("b", Some(60))];
        let (over, next) = ends(grants, Timestamp(0), Timestamp(100));
        assert_eq!(over.into_values().flatten().count(), 2);
        assert_eq!(next, None);
    }

    #[test]
    fn a_wake_is_not_lost_and_wakes_once() {
        let housekeeping = Housekeeping::default();
        housekeeping.wake();
        housekeeping.wait(Duration::from_secs(60));
        assert!(!*lock(&housekeeping.woken));
    }
}
