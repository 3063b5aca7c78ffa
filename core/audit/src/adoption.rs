//! Which version of a secret each instance has opened last.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sys::lock::lock;

use crate::entry::{Access, Entry, Event, Kind, Merged, Outcome, Record, Verdict};
use crate::time::Time;

/// Before a service is told of a change, the injector looks, as the service, whether its files open.
/// That is in the log, and the service has read nothing by it. A service that calls itself so has
/// itself to blame.
const LOOK: &[u8] = b"deploy-inject";

/// A secret of this name is another one after it.
const DELETE: &str = "secret.delete";

/// An instance that has opened a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Its service.
    pub service: Arc<str>,
    /// Its number.
    pub instance: u32,
    /// The version that it opened last.
    pub version: u32,
    /// When it opened that version first. Times here are whole seconds.
    pub since: Time,
    /// When it opened the secret last.
    pub last: Time,
    /// When it opened the secret first, as far as the log goes back.
    pub first: Time,
}

/// The table. It is filled by the log itself; from the log's tail when that is opened, and from what
/// is before that tail a moment later. Whoever asks waits for that.
#[derive(Debug, Default)]
pub struct Adoption {
    table: Mutex<Table>,
    /// A version was opened by an instance that had not opened it.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    secrets: HashMap<Box<str>, HashMap<u32, Seen>>,
    /// Each service's name once: there may be a million rows.
    services: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, u32>,
    changes: u64,
    /// What is before the log's tail is being read.
    awaited: Option<Awaited>,
}

/// What has happened since history was begun to be read.
#[derive(Debug, Default)]
struct Awaited {
    /// Instances that there are; `None`: any.
    live: Option<HashSet<u32>>,
    deleted: HashSet<Box<str>>,
}

/// 24 bytes with its key: a row for each of 10,000 instances with 100 secrets.
#[derive(Debug, Clone, Copy)]
struct Seen {
    service: u32,
    version: u32,
    since: u32,
    last: u32,
    first: u32,
}

impl Adoption {
    /// Who has opened a secret, by ascending number of instance.
    pub fn readers(&self, secret: &str) -> Vec<Reader> {
        self.whole().readers(secret)
    }

    fn whole(&self) -> MutexGuard<'_, Table> {
        let table = lock(&self.table);
        let is_awaited = |table: &mut Table| table.awaited.is_some();
        let whole = self.changed.wait_while(table, is_awaited);
        whole.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether [`add_history`](Adoption::add_history) is still to come.
    pub(crate) fn awaits_history(&self, awaits: bool) {
        lock(&self.table).awaited = awaits.then(Awaited::default);
    }

    /// What was opened before all that is known here.
    pub(crate) fn add_history(&self, history: Adoption) {
        let history = history.table.into_inner();
        let history = history.unwrap_or_else(PoisonError::into_inner);
        let mut table = lock(&self.table);
        let awaited = table.awaited.take().unwrap_or_default();
        for (secret, rows) in history.secrets {
            if awaited.deleted.contains(&secret) {
                continue;
            }
            for (instance, seen) in rows {
                let Some(service) = history.services.get(seen.service as usize) else {
                    continue;
                };
                let live = awaited.live.as_ref();
                if live.is_none_or(|live| live.contains(&instance)) {
                    table.was_opened(&secret, service, instance, seen);
                }
            }
        }
        self.change(&mut table);
    }

    /// Waits until `enough` says so of the readers, at most for `patience`; gives what they were then,
    /// as far as that is known: history may still be being read.
    pub fn wait(
        &self,
        secret: &str,
        patience: Duration,
        mut enough: impl FnMut(&[Reader]) -> bool,
    ) -> Vec<Reader> {
        let end = Instant::now() + patience;
        let mut table = lock(&self.table);
        let mut seen = None;
        loop {
            let is_whole = table.awaited.is_none();
            if is_whole && seen.replace(table.changes) != Some(table.changes) {
                let readers = table.readers(secret);
                if enough(&readers) {
                    return readers;
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return table.readers(secret);
            }
            table = self
                .changed
                .wait_timeout(table, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Forgets all instances but these: after a take-over.
    pub fn retain(&self, live: &HashSet<u32>) {
        let mut table = lock(&self.table);
        for rows in table.secrets.values_mut() {
            rows.retain(|instance, _| live.contains(instance));
        }
        table.secrets.retain(|_, rows| !rows.is_empty());
        if let Some(awaited) = &mut table.awaited {
            awaited.live = Some(live.clone());
        }
        self.change(&mut table);
    }

    /// Forgets an instance that has ended.
    pub fn ended(&self, instance: u32) {
        let mut table = lock(&self.table);
        for rows in table.secrets.values_mut() {
            rows.remove(&instance);
        }
        let awaited = table.awaited.as_mut();
        if let Some(live) = awaited.and_then(|awaited| awaited.live.as_mut()) {
            live.remove(&instance);
        }
        self.change(&mut table);
    }

    /// Forgets a secret that was deleted.
    pub fn deleted(&self, secret: &str) {
        let mut table = lock(&self.table);
        table.secrets.remove(secret);
        if let Some(awaited) = &mut table.awaited {
            awaited.deleted.insert(secret.into());
        }
        self.change(&mut table);
    }

    fn change(&self, table: &mut Table) {
        table.changes += 1;
        self.changed.notify_all();
    }

    /// An open that was allowed.
    pub(crate) fn opened(
        &self,
        secret: &str,
        service: &str,
        instance: u32,
        version: u32,
        times: (Time, Time),
        is_counted: bool,
    ) {
        // What was merged beyond what can be told apart says nothing of an instance.
        if secret.is_empty() || service.is_empty() || instance == 0 {
            return;
        }
        let mut table = lock(&self.table);
        if table.opened(secret, service, instance, version, times, is_counted) {
            self.change(&mut table);
        }
    }

    /// What an entry of the log's tail says.
    pub(crate) fn read(&self, entry: &Entry<'_>) {
        match &entry.record {
            Record::Event(Event::Open(access)) => self.access(access, entry.time),
            Record::Event(Event::Change(change))
                if change.act == DELETE && change.outcome == Outcome::Done =>
            {
                self.deleted(change.what);
            }
            Record::Merged(merged) => self.count(merged),
            _ => {}
        }
    }

    pub(crate) fn access(&self, access: &Access<'_>, time: Time) {
        if access.verdict == Verdict::Allowed && access.comm != LOOK {
            let Access {
                secret,
                service,
                instance,
                version,
                ..
            } = *access;
            self.opened(secret, service, instance, version, (time, time), false);
        }
    }

    pub(crate) fn count(&self, merged: &Merged<'_>) {
        if merged.of == Kind::Open && merged.verdict == Verdict::Allowed {
            let Merged {
                secret,
                service,
                instance,
                version,
                first,
                last,
                ..
            } = *merged;
            self.opened(secret, service, instance, version, (first, last), true);
        }
    }
}

impl Table {
    /// Whether that is a version that the instance had not opened.
    fn opened(
        &mut self,
        secret: &str,
        service: &str,
        instance: u32,
        version: u32,
        (first, last): (Time, Time),
        is_counted: bool,
    ) -> bool {
        let (first, last) = (seconds(first), seconds(last));
        let seen = self
            .secrets
            .get_mut(secret)
            .and_then(|rows| rows.get_mut(&instance));
        // A number that another service had is another instance.
        let name = |seen: &Seen| self.services.get(seen.service as usize);
        if let Some(seen) = seen
            && name(seen).is_some_and(|name| **name == *service)
        {
            // What was counted may be read behind what came after it. Of the rest, the order tells, and
            // not a clock that may be set back.
            let is_older = (last, version) < (seen.last, seen.version);
            if is_counted && is_older {
                return false;
            }
            seen.last = last;
            let is_new = seen.version != version;
            if is_new {
                (seen.version, seen.since) = (version, first);
            }
            return is_new;
        }
        let seen = Seen {
            service: self.service(service),
            version,
            since: first,
            last,
            first,
        };
        match self.secrets.get_mut(secret) {
            Some(rows) => {
                rows.insert(instance, seen);
            }
            None => {
                let rows = HashMap::from([(instance, seen)]);
                self.secrets.insert(secret.into(), rows);
            }
        }
        true
    }

    /// Before all that is known of it.
    fn was_opened(&mut self, secret: &str, service: &str, instance: u32, was: Seen) {
        let rows = self.secrets.get_mut(secret);
        let Some(seen) = rows.and_then(|rows| rows.get_mut(&instance)) else {
            let seen = Seen {
                service: self.service(service),
                ..was
            };
            let rows = self.secrets.entry(secret.into()).or_default();
            rows.insert(instance, seen);
            return;
        };
        let name = self.services.get(seen.service as usize);
        if name.is_some_and(|name| **name == *service) {
            seen.first = was.first;
            if seen.version == was.version {
                seen.since = was.since;
            }
        }
    }

    fn service(&mut self, name: &str) -> u32 {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let number = self.services.len() as u32;
        let name: Arc<str> = name.into();
        self.services.push(name.clone());
        self.by_name.insert(name, number);
        number
    }

    fn readers(&self, secret: &str) -> Vec<Reader> {
        let rows = self.secrets.get(secret).into_iter().flatten();
        let mut readers: Vec<Reader> = rows
            .filter_map(|(instance, seen)| {
                Some(Reader {
                    service: self.services.get(seen.service as usize)?.clone(),
                    instance: *instance,
                    version: seen.version,
                    since: time(seen.since),
                    last: time(seen.last),
                    first: time(seen.first),
                })
            })
            .collect();
        readers.sort_unstable_by_key(|reader| reader.instance);
        readers
    }
}

fn seconds(time: Time) -> u32 {
    u32::try_from(time.seconds()).unwrap_or(u32::MAX)
}

fn time(seconds: u32) -> Time {
    Time(u64::from(seconds) * 1_000_000)
}

#[cfg(test)]
mod tests;
