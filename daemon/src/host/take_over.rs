//! What the injector asks of us: serve its connections, make a view, change it, forget it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use control::inner::{
    Entry, FromInjector, InstanceRecord, Link, MissingGrant, RefusedKind, Reply, ToInjector,
};
use fuse_fs::{Handover, InstanceSpec, MakeError, SecretSpec};
use model::{Audit, SecretName, Tree};
use rustix::fs::MemfdFlags;
use store::Denied;
use sys::lock::lock;

use super::Host;
use super::lost::Lost;
use super::operator_tree::OperatorTree;
use super::versions::Known;
use crate::injector::{ask, ask_with};

/// The connections that the injector must bring.
const CONNECTIONS: [&str; 3] = ["secret", "config", "operator"];

/// What is served now.
#[derive(Default)]
pub(crate) struct Served {
    connections: BTreeMap<&'static str, Serving>,
    pub(super) instances: BTreeMap<u32, Known>,
    /// What there is, as the injector that takes up its link says.
    brought: Option<BTreeSet<u32>>,
    carried: Carried,
}

/// A connection that we serve.
struct Serving {
    /// How it is known again. Kept open, so that no other file can have its inode number meanwhile.
    memfd: OwnedFd,
    /// No other secretsd has served it.
    begun: bool,
}

/// Versions that instances may have had open before this secretsd began. Their opens were never
/// seen here, so that nothing tells when they end, but the end of the instances.
#[derive(Default)]
struct Carried {
    /// The store was sealed; which versions there are shows after the unseal.
    due: bool,
    instances: BTreeSet<u32>,
    held: Vec<(SecretName, u32)>,
}

/// A connection as the injector brought it.
struct Brought {
    name: &'static str,
    device: OwnedFd,
    memfd: OwnedFd,
    /// The kernel's first word on it is still to come.
    fresh: bool,
}

/// Answers one question of the injector.
pub(crate) fn answer(
    host: &Arc<Host>,
    link: &Link,
    question: FromInjector,
    fds: Vec<OwnedFd>,
) -> Reply {
    match question {
        FromInjector::Instances { instances } => done(restore(host, link, &instances)),
        FromInjector::TakeOver {
            connections,
            held,
            lost,
            ended,
        } => {
            let names = [&*connections, &held, &lost];
            let taken_over = take_over(host, link, names, fds, &ended);
            sys::memory::give_back();
            done(taken_over)
        }
        FromInjector::Make { instance, again } => host.make(&instance, again),
        FromInjector::Reload { instance } => host.reload(&instance),
        FromInjector::End { number } => {
            host.end(number);
            Reply::Ok
        }
        FromInjector::Outcome(outcome) => {
            host.acted_on(&outcome);
            Reply::Ok
        }
        FromInjector::Stopping => {
            host.stopping();
            Reply::Ok
        }
        FromInjector::CaughtUp { numbers } => {
            host.injector.caught_up(&numbers);
            for (number, service) in host.named(numbers) {
                log::info!("watchers of instance {number} of {service} were told at last");
            }
            Reply::Ok
        }
    }
}

fn done(taken_over: Result<(), String>) -> Reply {
    match taken_over {
        Ok(()) => Reply::Ok,
        Err(message) => {
            log::error!("cannot take the connections over: {message}");
            Reply::Failed { message }
        }
    }
}

/// Shows instances that ran before we knew of them.
fn restore(host: &Host, link: &Link, records: &[InstanceRecord]) -> Result<(), String> {
    let mut grown = Vec::new();
    let mut served = lock(&host.served);
    let numbers = records.iter().map(|record| record.number);
    served.brought.get_or_insert_default().extend(numbers);
    for record in records {
        let (number, service) = (record.number, &record.service);
        if served.instances.contains_key(&number) {
            continue;
        }
        let entries = host
            .views
            .restore(spec(record))
            .map_err(|error| format!("instance {number} of {service}: {error}"))?;
        if entries != record.entries {
            grown.push((number, entries));
        }
        served.carried.instances.insert(number);
        served.instances.insert(number, Known::new(record));
    }
    drop(served);
    for (number, entries) in grown {
        ask(link, &ToInjector::Entries { number, entries })?;
    }
    Ok(())
}

/// Serves what the injector holds. An injector that comes back while we live brings what we serve
/// already: then only the link is new.
fn take_over(
    host: &Arc<Host>,
    link: &Link,
    [names, held, lost]: [&[String]; 3],
    mut fds: Vec<OwnedFd>,
    ended: &[InstanceRecord],
) -> Result<(), String> {
    let mut served = lock(&host.served);
    let dead = fds.split_off(fds.len().saturating_sub(lost.len()));
    // What we serve already goes on; the others are new, or an earlier secretsd's.
    let mut brought = sort(names, held, fds)?;
    brought.retain(|one| !is_known(&served.connections, one));
    if !brought.is_empty() {
        for one in brought.iter().filter(|one| one.fresh) {
            let question = ToInjector::Hold {
                name: one.name.to_owned(),
            };
            // Before the kernel is answered: from then on a successor could not do without it.
            ask_with(link, &question, &[one.memfd.as_fd()])
                .map_err(|error| format!("the injector does not hold a descriptor: {error}"))?;
        }
        let minor =
            crate::device::minor_at(&host.secret_mount).map_err(|error| error.to_string())?;
        host.membership.set_secret_device(minor);
    }
    // One that an injector did not live to write down.
    if let Some(there) = served.brought.take() {
        served.instances.retain(|number, _| {
            let is_there = there.contains(number);
            if !is_there {
                host.views.end(*number);
            }
            is_there
        });
    }
    for record in ended {
        served.instances.remove(&record.number);
    }
    let taken_over = brought.iter().any(|one| !one.fresh);
    host.audit
        .adoption(|adoption| adoption.retain(&served.instances.keys().copied().collect()));
    let how = match (brought.is_empty(), taken_over) {
        (true, _) => "served already",
        (false, true) => "taken over",
        (false, false) => "new",
    };
    // Of these, the views know all that they gave out.
    let begun = |name: &str| {
        let again = brought.iter().any(|one| one.name == name);
        let once = lost.iter().filter(|lost| *lost == name).count() == 1;
        again && once && served.connections.get(name).is_some_and(|one| one.begun)
    };
    let unknown: Vec<bool> = lost.iter().map(|name| !begun(name)).collect();
    for one in brought {
        let (name, begun) = (one.name, one.fresh);
        let memfd = serve(host, one).map_err(|error| format!("{name}: {error}"))?;
        served.connections.insert(name, Serving { memfd, begun });
    }
    // Somebody may have been given a descriptor of theirs.
    for record in ended {
        match host.views.restore(spec(record)) {
            Ok(_) => host.views.end(record.number),
            Err(error) => log::error!("instance {} of {}: {error}", record.number, record.service),
        }
    }
    // Before the injector lets them go.
    for ((name, device), unknown) in lost.iter().zip(dead).zip(unknown) {
        let tree = match name.as_str() {
            "secret" => Tree::Secret,
            "config" => Tree::Config,
            // The operators' tree caches nothing.
            _ => continue,
        };
        if unknown {
            host.forget_lost(Lost { tree, device });
        }
    }
    served.carried.due |= taken_over && !served.instances.is_empty();
    log::info!("instances: {}; connections: {how}", served.instances.len());
    drop(served);
    host.carry_holds();
    host.injector.serves(link, || host.all_at());
    host.tell_what_is_untold();
    host.injector.take_over_is_complete();
    Ok(())
}

/// Gives back the memfd.
fn serve(host: &Arc<Host>, one: Brought) -> io::Result<OwnedFd> {
    let Brought {
        name,
        device,
        memfd,
        fresh,
    } = one;
    let handover = Handover {
        fresh,
        memfd,
        sweep: false,
    };
    let tree = match name {
        "secret" => Tree::Secret,
        "config" => Tree::Config,
        _ => {
            let acts = Arc::new(OperatorTree(Arc::clone(host)));
            fuse_fs::serve_operator(device, acts, &handover)?;
            return Ok(handover.memfd);
        }
    };
    let notes = handover.memfd.try_clone()?;
    fuse_fs::serve(tree, device, &host.views, &handover, &host.apart)?;
    host.untold.take_over(tree, notes);
    Ok(handover.memfd)
}

fn is_known(served: &BTreeMap<&'static str, Serving>, brought: &Brought) -> bool {
    let inode = |memfd| look_at(memfd).map(|meta| meta.ino());
    let ours = served.get(brought.name).map(|one| inode(&one.memfd));
    matches!((ours, inode(&brought.memfd)), (Some(Ok(ours)), Ok(theirs)) if ours == theirs)
}

/// Each connection with what was held for it, or with a new memfd, in the order of [`CONNECTIONS`].
fn sort(names: &[String], held: &[String], fds: Vec<OwnedFd>) -> Result<Vec<Brought>, String> {
    if fds.len() != names.len() + held.len() {
        return Err(format!(
            "{} descriptors for {} names",
            fds.len(),
            names.len() + held.len()
        ));
    }
    let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
    let mut take = |names: &[String], offset: usize, name: &str| {
        let at = names.iter().position(|other| other == name)?;
        fds[offset + at].take()
    };
    CONNECTIONS
        .into_iter()
        .map(|name| {
            let device = take(names, 0, name).ok_or_else(|| format!("no connection {name}"))?;
            let memfd = match take(held, names.len(), name) {
                Some(memfd) => memfd,
                None => rustix::fs::memfd_create(format!("deploy-{name}"), MemfdFlags::CLOEXEC)
                    .map_err(|error| format!("no memfd: {error}"))?,
            };
            // Nothing in it: held, but its maker was killed before the kernel's first word.
            let fresh = look_at(&memfd)?.len() == 0;
            Ok(Brought {
                name,
                device,
                memfd,
                fresh,
            })
        })
        .collect()
}

fn look_at(memfd: &OwnedFd) -> Result<Metadata, String> {
    let file = memfd.try_clone().map(File::from);
    file.and_then(|file| file.metadata())
        .map_err(|error| format!("a held descriptor cannot be looked at: {error}"))
}

fn spec(record: &InstanceRecord) -> InstanceSpec {
    let manifest = &record.manifest;
    InstanceSpec {
        number: record.number,
        service: record.service.clone(),
        uid: record.uid,
        gid: record.gid,
        cgroup: record.cgroup.clone(),
        unit: record.unit.clone(),
        image: record.image.clone(),
        secrets: manifest
            .secrets
            .iter()
            .map(|secret| SecretSpec {
                name: secret.name.clone(),
                every_read: secret.audit == Audit::EveryRead,
                previous: secret.previous,
                optional: secret.optional,
                mode: secret.mode,
                owner: secret.owner_ids(),
            })
            .collect(),
        config: manifest.config.clone(),
        config_from: manifest.config_from.clone(),
        reloads: record.reloads,
        modes: manifest.modes,
        entries: record.entries.clone(),
    }
}

impl Host {
    /// All that the manifest asks for, or nothing. A refusal of whoever asks `again` is known.
    fn make(&self, record: &InstanceRecord, again: bool) -> Reply {
        let (number, service) = (record.number, &record.service);
        let entries: Vec<Entry> = match self.views.make(spec(record)) {
            Ok(entries) => entries,
            Err(error) => {
                let refused = refused(record, error);
                if let Reply::Refused {
                    missing, message, ..
                } = &refused
                    && !again
                {
                    log::info!("{message}");
                    self.audit.not_started(service, number, missing);
                }
                return refused;
            }
        };
        let known = Known::new(record);
        // Before the injector tells the new instance how things stand.
        if let Some(versions) = self.at(known.follows.clone()) {
            self.injector.tell_versions(versions);
        }
        lock(&self.served).instances.insert(number, known);
        log::info!("instance {number} of {service} is made");
        Reply::Made { number, entries }
    }

    fn reload(&self, record: &InstanceRecord) -> Reply {
        let manifest = &record.manifest;
        let (config, from) = (manifest.config.clone(), manifest.config_from.clone());
        match self
            .views
            .reload(record.number, config, from, record.reloads)
        {
            Ok(touched) => {
                self.tell(touched, Vec::new());
                Reply::Ok
            }
            Err(error) => {
                log::info!(
                    "the configuration of instance {} stays: {error}",
                    record.number
                );
                refused(record, error)
            }
        }
    }

    fn end(&self, number: u32) {
        self.views.end(number);
        self.audit.adoption(|adoption| adoption.ended(number));
        let mut served = lock(&self.served);
        served.instances.remove(&number);
        let carried = &mut served.carried;
        if carried.instances.remove(&number) && carried.instances.is_empty() {
            carried.due = false;
            for (name, version) in std::mem::take(&mut carried.held) {
                self.store.release(&name, version);
            }
        }
        drop(served);
        self.housekeeping.wake();
    }

    /// Removes versions that nobody has open.
    pub fn sweep(&self) -> Result<u64, store::WriteError> {
        self.carry_holds();
        self.views.let_go();
        self.store.sweep()
    }

    /// Holds every version that an instance of an earlier secretsd's time may have open.
    pub(super) fn carry_holds(&self) {
        let mut served = lock(&self.served);
        if !served.carried.due {
            return;
        }
        // Sealed: again after the unseal, and before the first sweep.
        let Some(versions) = self.store.versions() else {
            return;
        };
        let each = |(name, versions): (SecretName, Vec<u32>)| {
            versions
                .into_iter()
                .map(move |version| (name.clone(), version))
        };
        let mut versions: Vec<_> = versions.into_iter().flat_map(each).collect();
        versions.retain(|(name, version)| self.store.hold(name, *version));
        served.carried.held = versions;
        served.carried.due = false;
    }
}

fn refused(record: &InstanceRecord, error: MakeError) -> Reply {
    let service = &record.service;
    let (kind, hint) = match &error {
        MakeError::Missing(_) => (RefusedKind::Missing, None),
        MakeError::Sealed => (
            RefusedKind::Sealed,
            Some("unseal it: deploy unseal".to_owned()),
        ),
        _ => (RefusedKind::Config, None),
    };
    let (missing, message) = match error {
        MakeError::Missing(missing) => {
            let missing: Vec<_> = missing.into_iter().map(missing_grant).collect();
            (
                missing,
                format!("{service} was not started: it may not read what its manifest asks for"),
            )
        }
        error => (Vec::new(), format!("{service} was not started: {error}")),
    };
    Reply::Refused {
        kind,
        missing,
        message,
        hint,
    }
}

fn missing_grant((secret, denied): (SecretName, Denied)) -> MissingGrant {
    let reason = match &denied {
        Denied::UnknownSecret => format!("there is no such secret; deploy secret set {secret}"),
        denied => denied.to_string(),
    };
    // A grant to the name alone would take the pin away.
    let mend = match &denied {
        Denied::Pinned { .. } => Some(format!("see the grant: deploy secret readers {secret}")),
        _ => None,
    };
    MissingGrant {
        secret,
        reason,
        mend,
    }
}

#[cfg(test)]
mod tests;
