//! What happens without anybody asking: versions that nobody has open any more go, and grants whose
//! time is over are taken out of the views.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use model::{SecretName, ServiceName};
use store::GrantMeta;
use sys::lock::lock;

use crate::host::{Host, ourselves};

/// At least so often, as closes of files wake nobody.
const ROUND: Duration = Duration::from_secs(60);
/// While the audit log cannot be opened.
const PAUSE: Duration = Duration::from_secs(1);

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
            let mut ended = Ended::default();
            loop {
                let grants = ourselves().and_then(|us| host.store.grants(&us, None).ok());
                let over = ended.grants(grants.unwrap_or_default());
                let has_ended = !over.names.is_empty();
                for (service, names) in over.names {
                    host.expired(&service, &names);
                }
                let graces = ended.graces(host.store.graces());
                for name in graces.names {
                    host.grace_ended(&name);
                }
                let mending = (!host.audit.retry()).then_some(PAUSE);
                if let Err(error) = host.store.keep_time(has_ended)
                    && !matches!(error, store::WriteError::Sealed)
                {
                    log::warn!("the time that has passed is not kept: {error}");
                }
                match host.sweep() {
                    Ok(0) | Err(store::WriteError::Sealed) => {}
                    Ok(count) => log::info!("{count} old versions are gone"),
                    Err(error) => log::warn!("old versions stay: {error}"),
                }
                let next = [over.next, graces.next, mending]
                    .into_iter()
                    .flatten()
                    .min();
                host.housekeeping.wait(next.unwrap_or(ROUND).min(ROUND));
            }
        })?;
    Ok(())
}

/// What has ended, and was taken out of the views.
#[derive(Debug, Default)]
struct Ended {
    grants: BTreeSet<(ServiceName, SecretName)>,
    graces: BTreeSet<SecretName>,
}

/// What has ended since the last look; and when the next one ends.
#[derive(Debug)]
struct Over<T> {
    names: T,
    next: Option<Duration>,
}

impl Ended {
    fn grants(&mut self, grants: Vec<GrantMeta>) -> Over<BTreeMap<ServiceName, Vec<SecretName>>> {
        let mut names: BTreeMap<ServiceName, Vec<SecretName>> = BTreeMap::new();
        let mut ended = BTreeSet::new();
        let next = soonest(grants.iter().filter_map(|one| one.left));
        for meta in grants.into_iter().filter(|one| one.left == Some(0)) {
            let GrantMeta { service, grant, .. } = meta;
            let one = (service, grant.secret);
            if !meta.had_ended && !self.grants.contains(&one) {
                names.entry(one.0.clone()).or_default().push(one.1.clone());
            }
            ended.insert(one);
        }
        // What was given anew may end anew.
        self.grants = ended;
        Over { names, next }
    }

    /// Graces of older versions, with the seconds that are left of each.
    fn graces(&mut self, graces: Vec<(SecretName, u64)>) -> Over<Vec<SecretName>> {
        let next = soonest(graces.iter().map(|(_, left)| *left));
        let ended = graces.into_iter().filter(|(_, left)| *left == 0);
        let ended: BTreeSet<_> = ended.map(|(name, _)| name).collect();
        let names = ended.difference(&self.graces).cloned().collect();
        self.graces = ended;
        Over { names, next }
    }
}

fn soonest(left: impl Iterator<Item = u64>) -> Option<Duration> {
    left.filter(|left| *left > 0).min().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::{Grant, Pins};

    fn grant(secret: &str, left: Option<u64>) -> GrantMeta {
        let grant = Grant {
            secret: secret.parse().unwrap(),
            until: None,
            deadline: None,
            pins: Pins::default(),
        };
        GrantMeta {
            service: "web".parse().unwrap(),
            grant,
            left,
            had_ended: false,
        }
    }

    fn names(over: Over<BTreeMap<ServiceName, Vec<SecretName>>>) -> Vec<String> {
        let names = over.names.into_values().flatten();
        names.map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_grant_ends_once_and_the_next_one_is_waited_for() {
        let mut ended = Ended::default();
        let grants = vec![
            grant("for-ever", None),
            grant("over", Some(0)),
            grant("soon", Some(20)),
            grant("later", Some(900)),
        ];
        let over = ended.grants(grants.clone());
        assert_eq!(over.next, Some(Duration::from_secs(20)));
        assert_eq!(names(over), ["over"]);
        assert!(names(ended.grants(grants)).is_empty());
    }

    #[test]
    fn what_an_earlier_secretsd_has_told_of_is_not_told_again() {
        let mut told = grant("over", Some(0));
        told.had_ended = true;
        assert!(names(Ended::default().grants(vec![told])).is_empty());
    }

    #[test]
    fn a_grant_that_was_given_anew_ends_anew() {
        let mut ended = Ended::default();
        for left in [0, 10, 0] {
            let over = ended.grants(vec![grant("db", Some(left))]);
            assert_eq!(names(over).is_empty(), left > 0);
        }
    }

    #[test]
    fn a_grace_ends_once() {
        let mut ended = Ended::default();
        let name: SecretName = "db".parse().unwrap();
        let over = ended.graces(vec![(name.clone(), 7)]);
        assert_eq!(
            (over.names.len(), over.next),
            (0, Some(Duration::from_secs(7)))
        );
        assert_eq!(
            ended.graces(vec![(name.clone(), 0)]).names,
            std::slice::from_ref(&name)
        );
        assert!(ended.graces(vec![(name, 0)]).names.is_empty());
    }

    #[test]
    fn a_wake_is_not_lost_and_wakes_once() {
        let housekeeping = Housekeeping::default();
        housekeeping.wake();
        housekeeping.wait(Duration::from_secs(60));
        assert!(!*lock(&housekeeping.woken));
    }
}
