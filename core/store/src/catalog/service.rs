//! A service in the catalog: its grants.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Grant, Pins, SecretName, Timestamp};
use serde_json::Value;

use crate::clock::{Clock, End};
use crate::permit::Cell;

/// A service's grants.
#[derive(Default)]
pub(crate) struct Service {
    pub(crate) grants: BTreeMap<SecretName, Granted>,
    /// Grants that this version does not understand: they allow nothing, and are kept.
    pub(crate) unknown: Vec<Value>,
    /// Counts what was taken away here; and how much of that is on disk. As long as they differ, the
    /// disk would bring grants back.
    pub(crate) takes: u64,
    pub(crate) committed: u64,
}

pub(crate) struct Granted {
    pub(crate) until: Option<Timestamp>,
    pub(crate) deadline: Option<u64>,
    pub(crate) pins: Pins,
    pub(crate) cell: Arc<Cell>,
}

impl Service {
    pub(crate) fn any(&self) -> bool {
        !self.grants.is_empty() || !self.unknown.is_empty()
    }

    /// Whether a grant that is not understood names `secret`.
    pub(crate) fn has_unknown(&self, secret: &SecretName) -> bool {
        self.unknown.iter().any(|value| names(value, secret))
    }

    /// Takes one grant away, and denies all permits of it at once; false if there is none.
    pub(crate) fn take(&mut self, secret: &SecretName) -> bool {
        let taken = self.drop_grant(secret);
        self.takes += u64::from(taken);
        taken
    }

    /// As [`Service::take`], of one that is not on disk any more.
    pub(crate) fn drop_grant(&mut self, secret: &SecretName) -> bool {
        let unknown = self.has_unknown(secret);
        self.unknown.retain(|value| !names(value, secret));
        let known = self.grants.remove(secret);
        if let Some(granted) = &known {
            granted.cell.revoke();
        }
        known.is_some() || unknown
    }

    /// Gives one grant. A permit of the same grant lives on with another `until`.
    pub(crate) fn give(&mut self, grant: &Grant, clock: &Clock) {
        self.unknown.retain(|value| !names(value, &grant.secret));
        self.take_in(grant, clock);
    }

    pub(super) fn take_in(&mut self, grant: &Grant, clock: &Clock) {
        let end = grant
            .until
            .map_or(End::NEVER, |until| clock.end(until, grant.deadline));
        if let Some(granted) = self.grants.get_mut(&grant.secret) {
            if granted.pins == grant.pins {
                granted.until = grant.until;
                granted.deadline = grant.deadline;
                granted.cell.set_end(end);
                return;
            }
            granted.cell.revoke();
        }
        let granted = Granted {
            until: grant.until,
            deadline: grant.deadline,
            pins: grant.pins.clone(),
            cell: Cell::new(end),
        };
        self.grants.insert(grant.secret.clone(), granted);
    }

    /// Seconds until a grant ends by itself; `None`: it does not.
    pub(crate) fn left(&self, secret: &SecretName) -> Option<u64> {
        let granted = self.grants.get(secret)?;
        granted.until.map(|_| granted.cell.end().left())
    }

    pub(crate) fn list(&self) -> impl Iterator<Item = Grant> + '_ {
        self.grants.iter().map(|(secret, granted)| Grant {
            secret: secret.clone(),
            until: granted.until,
            deadline: granted.deadline,
            pins: granted.pins.clone(),
        })
    }
}

/// Whether a grant names this secret, whatever else it says.
pub(crate) fn names(grant: &Value, secret: &SecretName) -> bool {
    grant.get("secret").and_then(Value::as_str) == Some(secret.as_str())
}
