//! Handing the connections over to secretsd, and building those again that were lost.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use control::inner::{FromInjector, Link, Reply};
use sys::lock::{lock, write};

use super::daemon::{DaemonError, ask};
use super::{Injector, reply};
use crate::plan::Tree;

/// Of a message's 16 descriptors, seven are of the connections that live.
const LOST_AT_ONCE: usize = 9;
/// So many records are a message: secretsd holds one message at a time.
const RECORDS_AT_ONCE: usize = 256;
/// Between two attempts to hand over.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

impl Injector {
    /// secretsd is there: hand over what it serves. On a thread of its own, as secretsd answers
    /// only after it has our answer.
    pub(super) fn hello(self: &Arc<Self>, link: Link) -> Reply {
        self.newest_from_now_on();
        let injector = Arc::clone(self);
        let started = std::thread::Builder::new()
            .name("take-over".into())
            .spawn(move || {
                // A connection that was lost meanwhile is another one at the next attempt.
                let all = || {
                    injector.bring_instances(&link)?;
                    injector.hand_over(link.clone())
                };
                while let Err(error) = all() {
                    log::error!("secretsd does not take over: {error}");
                    if link.is_closed() {
                        return;
                    }
                    std::thread::sleep(PAUSE);
                }
            });
        reply(started.map(drop))
    }

    /// One message at the least: what is in none of them is not there.
    fn bring_instances(&self, link: &Link) -> Result<(), String> {
        let numbers = self.instances.numbers();
        let mut parts = numbers.chunks(RECORDS_AT_ONCE);
        let mut part = parts.next().unwrap_or_default();
        loop {
            let instances = self.instances.records_of(part);
            done(ask(link, &FromInjector::Instances { instances }, &[]))?;
            match parts.next() {
                Some(next) => part = next,
                None => return Ok(()),
            }
        }
    }

    fn hand_over(&self, link: Link) -> Result<(), String> {
        loop {
            self.hand_some_over(link.clone())?;
            if self.lost.names().is_empty() {
                return Ok(());
            }
        }
    }

    fn hand_some_over(&self, link: Link) -> Result<(), String> {
        let mut fresh = lock(&self.fresh);
        self.mend(&mut fresh)
            .map_err(|error| format!("cannot build a connection again: {error}"))?;
        let connections = self.connections();
        let held = self.held.copies().map_err(|error| error.to_string())?;
        let mut lost = self.lost.copies().map_err(|error| error.to_string())?;
        // The others next: a message takes no more.
        lost.truncate(LOST_AT_ONCE);
        let (names, mut fds): (Vec<_>, Vec<BorrowedFd<'_>>) = connections
            .devices()
            .map(|(name, fd)| (name.to_owned(), fd))
            .unzip();
        fds.extend(held.iter().chain(&lost).map(|(_, fd)| fd.as_fd()));
        let ended = lock(&self.ended).clone();
        let told = ended.len();
        let body = FromInjector::TakeOver {
            connections: names,
            held: held.iter().map(|(name, _)| name.clone()).collect(),
            lost: lost.iter().map(|(name, _)| name.clone()).collect(),
            ended,
        };
        done(ask(&link, &body, &fds))?;
        let told: Vec<_> = lock(&self.ended).drain(..told).collect();
        for record in told {
            self.instances.forget(record.number);
        }
        self.daemon.serves(link);
        let trees = [("secret", Tree::Secret), ("config", Tree::Config)];
        let trees = trees.into_iter().filter(|(name, _)| fresh.contains(name));
        self.attach_all(&trees.map(|(_, tree)| tree).collect::<Vec<_>>());
        fresh.clear();
        self.lost.forget(lost.len());
        Ok(())
    }

    /// Builds lost connections again.
    fn mend(&self, fresh: &mut BTreeSet<&'static str>) -> io::Result<()> {
        let connections = self.connections();
        let mended = connections.mended(&self.run_dir, &self.lost, &self.held)?;
        if let Some((connections, anew)) = mended {
            *write(&self.connections) = Arc::new(connections);
            for name in &anew {
                self.held.forget(name);
            }
            fresh.extend(anew);
        }
        Ok(())
    }

    /// Builds lost connections again, and the views of all services with them. On a thread of its
    /// own: secretsd may be stopped. While there is none, nothing is done: nobody would answer, and
    /// the next one has it done.
    pub(super) fn mend_connections(self: &Arc<Self>) {
        let Some(link) = self.daemon.link() else {
            return;
        };
        if !self.connections().is_lost() || self.mending.swap(true, Ordering::AcqRel) {
            return;
        }
        let injector = Arc::clone(self);
        let started = std::thread::Builder::new()
            .name("mend".into())
            .spawn(move || {
                if let Err(error) = injector.hand_over(link) {
                    log::error!("secretsd does not take a new connection over: {error}");
                }
                injector.mending.store(false, Ordering::Release);
            });
        if let Err(error) = started {
            log::error!("no thread to build a connection again: {error}");
            self.mending.store(false, Ordering::Release);
        }
    }
}

fn done(answer: Result<Reply, DaemonError>) -> Result<(), String> {
    match answer {
        Ok(Reply::Ok) => Ok(()),
        Ok(Reply::Failed { message }) => Err(message),
        Ok(_) => Err("an answer to another question".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
