//! What is written into the audit log, and what becomes of acts that cannot be.
//!
//! An open of a secret that cannot be written down is not allowed. Of operators' acts, those that give
//! are refused then; those that take away (revoke, delete, seal) are done: a disk that fails must keep
//! nobody from taking a secret back.

use std::path::{Path, PathBuf};
use std::sync::RwLock;

use audit::{
    Access, Adoption, Anchor, AppendError, Change, Event, Health, Log, Options, Outcome, Verdict,
};
use control::inner::MissingGrant;
use model::ServiceName;
use store::Operator;
use sys::lock::{read, write};
use sys::peer::PeerCredentials;

/// An act that was not done, because it could not be written down.
#[derive(Debug, thiserror::Error)]
#[error(
    "the audit log cannot be written ({0}), so this is not done; `deploy status` says what is wrong"
)]
pub(crate) struct Unaudited(String);

impl From<AppendError> for Unaudited {
    fn from(error: AppendError) -> Unaudited {
        Unaudited(error.to_string())
    }
}

/// What an operator does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act<'a> {
    /// As the control socket names it: `secret.rotate`.
    pub name: &'a str,
    /// To what.
    pub what: &'a str,
    /// More of it, never a value.
    pub detail: &'a str,
    /// Whether it is done although it cannot be written down.
    pub takes_away: bool,
}

impl<'a> Act<'a> {
    /// An act that gives, of which there is no more to say.
    pub fn new(name: &'a str, what: &'a str) -> Act<'a> {
        Act {
            name,
            what,
            detail: "",
            takes_away: false,
        }
    }

    pub fn detail(self, detail: &'a str) -> Act<'a> {
        Act { detail, ..self }
    }

    pub fn takes_away(self) -> Act<'a> {
        Act {
            takes_away: true,
            ..self
        }
    }
}

/// The log, or why there is none.
#[derive(Debug)]
pub(crate) struct Audit {
    folder: PathBuf,
    log: RwLock<Result<Log, String>>,
    /// Opens are allowed although they cannot be written down.
    pub fails_open: bool,
}

impl Audit {
    /// Opens the log in the state folder. That it cannot be opened is no error here: services read
    /// their config, and operators can see and mend it.
    pub fn open(state_dir: &Path, fails_open: bool) -> Audit {
        let folder = state_dir.join("audit");
        let log = open(&folder);
        if let Err(why) = &log {
            log::error!("{why}");
        }
        Audit {
            folder,
            log: RwLock::new(log),
            fails_open,
        }
    }

    /// Tries again, if it could not be opened. Gives whether it is open.
    pub fn retry(&self) -> bool {
        if self.log().is_ok() {
            return true;
        }
        let again = open(&self.folder);
        let is_open = again.is_ok();
        if is_open {
            log::info!("the audit log is written again");
        }
        *write(&self.log) = again;
        is_open
    }

    pub fn log(&self) -> Result<Log, String> {
        read(&self.log).clone()
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes an access down.
    pub fn append(&self, event: &Event<'_>, resent: bool) -> Result<(), Unaudited> {
        match &*read(&self.log) {
            Ok(log) => Ok(log.append(event, resent)?),
            Err(why) => Err(Unaudited(why.clone())),
        }
    }

    /// Does what an operator asked for, between two entries: that it begins, and how it ended. The
    /// first is on the disk when this returns; the sync goes on beside the act's own.
    pub fn act<T, E>(
        &self,
        operator: &Operator,
        act: Act<'_>,
        run: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: std::fmt::Display + From<Unaudited>,
    {
        let begun = self.note(operator, act, Outcome::Begun, "");
        let syncing = begun.and_then(|log| {
            let syncing = std::thread::Builder::new().name("audit-sync".into());
            let started = syncing.spawn(move || log.sync_entries());
            started.map_err(|error| Unaudited(error.to_string()))
        });
        let syncing = match syncing {
            Ok(syncing) => Some(syncing),
            Err(error) if act.takes_away => {
                log::error!("{} is not in the audit log: {error}", act.name);
                None
            }
            Err(error) => return Err(error.into()),
        };
        let done = run();
        let (outcome, why) = match &done {
            Ok(_) => (Outcome::Done, String::new()),
            Err(error) => (Outcome::Failed, error.to_string()),
        };
        if let Err(error) = self.note(operator, act, outcome, &why) {
            log::error!("how {} ended is not in the audit log: {error}", act.name);
        }
        if let Some(Ok(Err(error))) = syncing.map(std::thread::JoinHandle::join) {
            log::error!("that {} was begun is not on the disk: {error}", act.name);
        }
        done
    }

    /// Writes down what may be done only if it is written down.
    pub fn witness(&self, operator: &Operator, act: Act<'_>) -> Result<(), Unaudited> {
        self.note(operator, act, Outcome::Done, "").map(drop)
    }

    /// Writes down what has happened.
    pub fn happened(&self, operator: &Operator, act: Act<'_>, outcome: Outcome, why: &str) {
        if let Err(error) = self.note(operator, act, outcome, why) {
            log::error!("{} is not in the audit log: {error}", act.name);
        }
    }

    /// Somebody who may not came to this socket.
    pub fn stranger(&self, peer: &PeerCredentials, socket: &str, why: &str) {
        let change = Change {
            operator: &format!("uid {}", peer.uid),
            uid: peer.uid,
            pid: u32::try_from(peer.pid).unwrap_or(0),
            act: "connect",
            what: socket,
            detail: "",
            outcome: Outcome::Denied,
            why,
        };
        if let Err(error) = self.append(&Event::Change(change), false) {
            log::error!("a refused connection is not in the audit log: {error}");
        }
    }

    /// A service was not started, because it may not read what its manifest asks for.
    pub fn not_started(&self, service: &ServiceName, instance: u32, missing: &[MissingGrant]) {
        for one in missing {
            let access = Access {
                pid: 0,
                tid: 0,
                uid: 0,
                comm: b"",
                cgroup: b"",
                service: service.as_str(),
                instance,
                secret: one.secret.as_str(),
                field: None,
                version: 0,
                verdict: Verdict::Denied,
                why: "not granted at the start",
                connection: 0,
                unique: 0,
            };
            if let Err(error) = self.append(&Event::Open(access), false) {
                log::error!("a refused start is not in the audit log: {error}");
            }
        }
    }

    fn note(
        &self,
        operator: &Operator,
        act: Act<'_>,
        outcome: Outcome,
        why: &str,
    ) -> Result<Log, Unaudited> {
        let change = Change {
            operator: operator.name(),
            uid: operator.uid(),
            pid: operator.pid(),
            act: act.name,
            what: act.what,
            detail: act.detail,
            outcome,
            why,
        };
        let event = match act.name {
            "seal" => Event::Seal(change),
            "unseal" => Event::Unseal(change),
            _ => Event::Change(change),
        };
        let log = self.log().map_err(Unaudited)?;
        log.append(&event, false)?;
        Ok(log)
    }

    /// Who has opened what; nobody, where there is no log.
    pub fn adoption<T>(&self, ask: impl FnOnce(&Adoption) -> T) -> Option<T> {
        self.log().ok().map(|log| ask(log.adoption()))
    }

    /// How it is.
    pub fn health(&self) -> Health {
        match self.log() {
            Ok(log) => log.health(),
            Err(why) => Health {
                last: Anchor::default(),
                failing: Some(why),
                refused: 0,
            },
        }
    }

    /// Ends the log in order.
    pub fn close(&self) {
        if let Ok(log) = self.log() {
            log.close();
        }
    }
}

fn open(folder: &Path) -> Result<Log, String> {
    let program = concat!("secretsd ", env!("CARGO_PKG_VERSION"));
    match Log::open(folder, Options::default(), program) {
        Ok((log, found)) => {
            if !found.damage.is_empty() {
                log::warn!("the audit log did not end in order: {}", found.damage);
            }
            Ok(log)
        }
        Err(error) => Err(error.to_string()),
    }
}
